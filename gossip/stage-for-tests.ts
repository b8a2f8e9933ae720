/** One real node among members that the test plays: it reads every packet that the node sends, and writes what the node gets. */
import { silentLogger as log } from '../base/log.ts';
import { seededRandom } from '../base/random.ts';
import { VirtualClock } from '../base/virtual-clock.ts';
import { compound, messagesOf } from './framing.ts';
import { createGossip, type Gossip, type GossipOptions } from './gossip.ts';
import { MemoryNetwork } from './memory-transport.ts';
import {
  TYPE, decodeAccusation, decodeAlive, decodeIndirectPing, decodePing, encodeAccusation, encodeAck, encodeAlive, encodeNack, type Accusation, type Address, type Alive,
} from './messages.ts';
import { LATER, createStreamReader } from './stream-message.ts';
import type { Transport } from './transport.ts';
import { OWN_VERSIONS, type Versions } from './versions.ts';

export interface PlayedOptions {
  versions?: Versions;
  /** Whether it answers pings in packets, and on streams. Default: both. */
  packets?: boolean;
  /** `refused`: nobody listens there. */
  streams?: boolean | 'refused';
  /** What it says to a request to ping another: after 400 ms that it could not reach it (if that is asked for), that it did, or nothing. Default: nothing. */
  helps?: 'nack' | 'ack' | 'not';
  meta?: Buffer;
}

/** A member that the test plays. */
export class Played {
  readonly name: string;
  readonly address: Address;
  /** Messages that came, each with the time. */
  readonly received: { at: number; message: Buffer; /** All that came in the same packet. */ packet: readonly Buffer[] }[] = [];
  options: PlayedOptions;
  readonly #stage: Stage;
  readonly #transport: Transport;

  constructor(stage: Stage, name: string, address: Address, options: PlayedOptions) {
    this.#stage = stage;
    this.name = name;
    this.address = address;
    this.options = options;
    this.#transport = stage.network.transport(address);
    this.#transport.onPacket((packet) => {
      const messages = messagesOf(packet);
      for (const message of messages) this.#take(message, messages);
    });
    if (options.streams !== 'refused') this.#transport.onStream((stream) => {
      const read = createStreamReader({ keyring: undefined, label: Buffer.alloc(0), labelHeader: Buffer.alloc(0), verifyIncoming: true });
      stream.onData((piece) => {
        const message = read(piece);
        if (message === undefined || message === LATER) return;
        if (message.type === 'ping' && this.options.streams !== false) stream.write(encodeAck(message.ping.seq));
        stream.close();
      });
    });
  }

  #take(message: Buffer, packet: readonly Buffer[]): void {
    this.received.push({ at: this.#stage.clock.now(), message, packet });
    const body = message.subarray(1);
    if (message[0] === TYPE.ping && this.options.packets !== false) {
      const ping = decodePing(body);
      if (ping.node === this.name) this.send(encodeAck(ping.seq));
    }
    if (message[0] === TYPE.indirectPing) {
      const { seq, nack } = decodeIndirectPing(body);
      if (this.options.helps === 'nack' && nack) this.#stage.clock.setTimeout(() => this.send(encodeNack(seq)), 400);
      if (this.options.helps === 'ack') this.send(encodeAck(seq));
    }
  }

  /** To the node under test, in one packet. */
  send(...messages: Buffer[]): void {
    this.sendRaw(compound(messages));
  }

  sendRaw(packet: Buffer): void {
    this.#transport.send(packet, this.#stage.node.address);
  }

  alive(incarnation: number, more: Partial<Alive> = {}): Buffer {
    return encodeAlive({ incarnation, node: this.name, address: this.address, meta: this.options.meta ?? Buffer.alloc(0), versions: this.options.versions ?? OWN_VERSIONS, ...more });
  }

  /** What came of one type, decoded, since the last call. */
  take<T>(type: number, decode: (body: Buffer) => T): T[] {
    const found = this.received.filter(({ message }) => message[0] === type);
    for (const each of found) this.received.splice(this.received.indexOf(each), 1);
    return found.map(({ message }) => decode(message.subarray(1)));
  }
}

export class Stage {
  readonly clock = new VirtualClock(1_000_000);
  readonly random = seededRandom(1);
  readonly network = new MemoryNetwork(this.clock, this.random);
  readonly node: Gossip;
  readonly events: string[] = [];
  readonly #played: Played[] = [];

  /** The node's name is self, and it knows nobody. */
  constructor(options: Partial<GossipOptions> = {}) {
    const { clock, random, network } = this;
    this.node = createGossip({ name: 'self', transport: network.transport({ host: '10.0.0.1', port: 7946 }), clock, random, log, ...options });
    this.node.watch(({ type, member }) => this.events.push(`${type} ${member.name}`));
  }

  /** A member that the node knows from now on, by its own word of incarnation 1. */
  async enter(name: string, options: PlayedOptions = {}): Promise<Played> {
    const played = this.stranger(name, options);
    played.send(played.alive(1));
    await this.clock.advance(5);
    return played;
  }

  /** One that the node does not know. */
  stranger(name: string, options: PlayedOptions = {}): Played {
    const played = new Played(this, name, { host: `10.0.0.${this.#played.length + 2}`, port: 7946 }, options);
    this.#played.push(played);
    return played;
  }

  stateOf(name: string): string {
    const member = this.node.member(name);
    return member ? `${member.state} ${member.incarnation}` : 'unknown';
  }

  /** What the node says about a member to anybody, in the order in which it is said first. */
  said(name: string): string[] {
    const seen = new Set<string>();
    for (const { message } of this.#played.flatMap(({ received }) => received).sort((a, b) => a.at - b.at)) {
      const body = message.subarray(1);
      if (message[0] === TYPE.alive && decodeAlive(body).node === name) seen.add(`alive ${decodeAlive(body).incarnation}`);
      if ((message[0] === TYPE.suspect || message[0] === TYPE.dead) && decodeAccusation(body).node === name) seen.add(`${message[0] === TYPE.suspect ? 'suspect' : 'dead'} ${decodeAccusation(body).incarnation} by ${decodeAccusation(body).from}`);
    }
    return [...seen];
  }

  async close(): Promise<void> {
    await this.node.shutdown();
  }
}

export const suspect = (word: Accusation): Buffer => encodeAccusation('suspect', word);
export const dead = (word: Accusation): Buffer => encodeAccusation('dead', word);
