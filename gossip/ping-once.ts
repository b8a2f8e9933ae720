/**
 * One ping from a port of its own. Between two members' gossip ports each firewall that keeps track of connections lets
 * answers in, and so whatever comes from there for half a minute; a packet from a new port meets its rules.
 */
import { createSocket } from 'node:dgram';
import { isIPv6 } from 'node:net';
import type { Clock } from '../base/clock.ts';
import type { Random } from '../base/random.ts';
import { createEnvelope } from './envelope.ts';
import { messagesOf } from './framing.ts';
import type { Keyring } from './keyring.ts';
import { TYPE, decodeAck, encodePing, type Address } from './messages.ts';

/** Some are sent: one lost packet is no closed port. */
const EVERY_MS = 300;

/** Resolves with whether a member of this cluster answers there, after `timeoutMs` at the latest. */
export function pingOnce(to: Address, { keyring, random, clock, timeoutMs }: { keyring: Keyring; random: Random; clock: Clock; timeoutMs: number }): Promise<boolean> {
  const envelope = createEnvelope({ keyring }, random);
  const seq = random.int(2 ** 16);
  const socket = createSocket(isIPv6(to.host) ? 'udp6' : 'udp4');
  const isAnswer = (packet: Buffer): boolean => {
    try {
      return messagesOf(envelope.openPacket(packet)).some((message) => message[0] === TYPE.ack && decodeAck(message.subarray(1)).seq === seq);
    } catch {
      return false;
    }
  };
  return new Promise((resolve) => {
    const end = (answered: boolean): void => {
      clock.clearTimeout(repeat);
      clock.clearTimeout(giveUp);
      socket.close();
      resolve(answered);
    };
    const send = (): void => {
      // To whoever is there, by no name; and without a source, so that the answer comes back here.
      socket.send(envelope.wrapPacket(encodePing({ seq, node: '' })), to.port, to.host, () => {});
      repeat = clock.setTimeout(send, EVERY_MS);
    };
    socket.on('message', (packet) => void (isAnswer(packet) && end(true)));
    // An unreachable host is silence as well.
    socket.on('error', () => {});
    let repeat = clock.setTimeout(send, 0);
    const giveUp = clock.setTimeout(() => end(false), timeoutMs);
  });
}
