/** Every captured message of a Go peer both ways: what is read from it, written again, gives the same bytes. */
import { test } from 'tap';
import { seededRandom, type Random } from '../base/random.ts';
import { CAPTURED, SEALED_WITH } from './captured-for-tests.ts';
import { decodeCoordinate, encodeCoordinate } from './coordinates.ts';
import { createEnvelope } from './envelope.ts';
import { compound, messagesOf, withChecksum } from './framing.ts';
import { Keyring } from './keyring.ts';
import { compress } from './lzw.ts';
import {
  TYPE, decodeAccusation, decodeAck, decodeAlive, decodeError, decodeIndirectPing, decodePing, decodePushPull, decodeUserStream, encodeAccusation, encodeAck, encodeAlive, encodeCompressed,
  encodeError, encodeIndirectPing, encodeNack, encodePing, encodePushPull, encodeUserPacket, encodeUserStream,
} from './messages.ts';
import type { StreamReader } from './stream-message.ts';

type Name = keyof typeof CAPTURED;
const bytes = (name: Name): Buffer => Buffer.from(CAPTURED[name], 'hex');
/** Hands out the nonce that the Go peer used. */
const withNonce = (nonce: Buffer): Random => ({ ...seededRandom(1), bytes: () => nonce });

/** One message of a packet, read and written. */
function again(message: Buffer): Buffer {
  const body = message.subarray(1);
  switch (message[0]) {
    case TYPE.ping: return encodePing(decodePing(body));
    case TYPE.indirectPing: return encodeIndirectPing(decodeIndirectPing(body));
    case TYPE.ack: {
      const { seq, payload } = decodeAck(body);
      const coordinate = decodeCoordinate(payload);
      return encodeAck(seq, coordinate && encodeCoordinate(coordinate));
    }
    case TYPE.nack: return encodeNack(decodeAck(body).seq);
    case TYPE.suspect: return encodeAccusation('suspect', decodeAccusation(body));
    case TYPE.dead: return encodeAccusation('dead', decodeAccusation(body));
    case TYPE.alive: return encodeAlive(decodeAlive(body));
    case TYPE.user: return encodeUserPacket(body);
    default: throw new Error(`type ${message[0]}`);
  }
}

const packetAgain = (packet: Buffer): Buffer => compound(messagesOf(packet).map(again));

function streamAgain(message: ReturnType<StreamReader>): Buffer {
  if (typeof message !== 'object' || message.type !== 'pushPull') throw new Error('a state exchange was expected');
  return encodePushPull(message);
}

const plain = createEnvelope({}, seededRandom(1));
const blue = createEnvelope({ label: 'blue' }, seededRandom(1));
const sealed = (nonce: Buffer) => createEnvelope({ keyring: new Keyring(SEALED_WITH) }, withNonce(nonce));

const ROUND_TRIPS: Record<Name, (captured: Buffer) => Buffer> = {
  ping: packetAgain,
  indirectPing: packetAgain,
  nack: packetAgain,
  ackWithPayload: packetAgain,
  ackWithoutPayload: packetAgain,
  twoAlive: (captured) => withChecksum(packetAgain(captured)),
  twoAliveAndUser: (captured) => withChecksum(packetAgain(captured)),
  suspect: (captured) => withChecksum(packetAgain(captured)),
  dead: (captured) => withChecksum(packetAgain(captured)),
  left: (captured) => withChecksum(packetAgain(captured)),
  pingAndSuspect: (captured) => withChecksum(packetAgain(captured)),
  compressedPacket: (captured) => encodeCompressed(compress(packetAgain(captured))),
  compressedPushPull: (captured) => encodeCompressed(compress(streamAgain(plain.createReader(false)(captured)))),
  sealedPacket: (captured) => {
    const envelope = sealed(captured.subarray(1, 13));
    return envelope.wrapPacket(withChecksum(packetAgain(envelope.openPacket(captured))));
  },
  // Compressed although it does not get smaller, which is why the envelope is asked to seal it only.
  sealedPushPull: (captured) => {
    const envelope = sealed(captured.subarray(6, 18));
    return envelope.wrapStream(encodeCompressed(compress(streamAgain(envelope.createReader(false)(captured)))), true);
  },
  pushPull: (captured) => plain.wrapStream(streamAgain(plain.createReader(true)(captured)), false),
  labelledPacket: (captured) => blue.wrapPacket(withChecksum(packetAgain(blue.openPacket(captured)))),
  labelledPushPull: (captured) => blue.wrapStream(streamAgain(blue.createReader(false)(captured)), true),
  error: (captured) => encodeError(decodeError(captured.subarray(1))),
  userStream: (captured) => encodeUserStream(decodeUserStream(captured.subarray(1))),
};

for (const [name, roundTrip] of Object.entries(ROUND_TRIPS) as [Name, (captured: Buffer) => Buffer][]) {
  void test(`${name}, read and written`, async (t) => {
    t.equal(roundTrip(bytes(name)).toString('hex'), CAPTURED[name]);
  });
}

// Go writes the lengths of a state exchange as signed integers from memberlist 0.5.1 on; before, and here, as unsigned.
for (const [signed, unsigned, join, count, length] of [
  ['83a44a6f696ec3a54e6f64657303ac5573657253746174654c656ed200011170', '83a44a6f696ec3a54e6f64657303ac5573657253746174654c656ece00011170', true, 3, 70_000],
  ['83a44a6f696ec2a54e6f646573d100c8ac5573657253746174654c656ed200009c40', '83a44a6f696ec2a54e6f646573ccc8ac5573657253746174654c656ecd9c40', false, 200, 40_000],
] as const) {
  void test(`the header of a state exchange of ${count} members in both dialects`, async (t) => {
    const node = { ...decodeAlive(messagesOf(bytes('twoAlive'))[0]!.subarray(1)), state: 'alive' as const };
    const state = { join, nodes: Array.from({ length: count }, () => node), userState: Buffer.alloc(length, 7) };
    const written = encodePushPull(state).subarray(1);
    t.equal(written.subarray(0, unsigned.length / 2).toString('hex'), unsigned);
    const rest = written.subarray(unsigned.length / 2);
    for (const header of [signed, unsigned]) t.same(decodePushPull(Buffer.concat([Buffer.from(header, 'hex'), rest])), state);
  });
}
