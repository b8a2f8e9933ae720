/** A simulated network on an injected clock: delay, disorder, loss, repetition, cut links (one way or both), switched-off nodes. */
import type { Clock } from '../base/clock.ts';
import type { Random } from '../base/random.ts';
import type { Address } from './messages.ts';
import type { Stream, Transport } from './transport.ts';

const keyOf = ({ host, port }: Address): string => `${host}:${port}`;
/** Streams come in pieces, as TCP cuts them. */
const PIECE = 1000;

interface Node { packet?: (packet: Buffer, from: Address) => void; stream?: (stream: Stream, from: Address) => void }

export class MemoryNetwork {
  /** Share of packets that are lost. Streams are not: TCP repeats. */
  loss = 0;
  /** One way, milliseconds; each packet takes up to twice as long, so that later ones overtake earlier ones. */
  delay = 1;
  /** Share of packets that take ten times as long. */
  reordered = 0;
  /** Share of packets that arrive twice. */
  repeated = 0;
  /** What was sent: packets, their bytes, and bytes of streams. */
  packets = 0;
  packetBytes = 0;
  streamBytes = 0;
  /** Bytes of the longest packet. */
  longest = 0;
  readonly #clock: Clock;
  readonly #random: Random;
  readonly #nodes = new Map<string, Node>();
  readonly #cuts = new Set<string>();

  constructor(clock: Clock, random: Random) {
    this.#clock = clock;
    this.#random = random;
  }

  /** Nothing passes between the two groups until heal. */
  cut(group: readonly Address[], other: readonly Address[]): void {
    for (const a of group) for (const b of other) this.#cuts.add(`${keyOf(a)} ${keyOf(b)}`).add(`${keyOf(b)} ${keyOf(a)}`);
  }

  /** Nothing passes from the one group to the other until heal; the other way everything does. */
  cutOneWay(from: readonly Address[], to: readonly Address[]): void {
    for (const a of from) for (const b of to) this.#cuts.add(`${keyOf(a)} ${keyOf(b)}`);
  }

  heal(): void {
    this.#cuts.clear();
  }

  /** One per address at a time; closing it switches the node off, and until it has a handler for streams it refuses them. */
  transport(address: Address): Transport {
    const node: Node = {};
    const own = keyOf(address);
    this.#nodes.set(own, node);
    return {
      address,
      send: (packet, to) => {
        if (this.#nodes.get(own) !== node) return;
        this.packets++;
        this.packetBytes += packet.length;
        this.longest = Math.max(this.longest, packet.length);
        if (this.#random.float() < this.loss) return;
        for (let copies = this.#random.float() < this.repeated ? 2 : 1; copies > 0; copies--) {
          const copy = Buffer.from(packet);
          this.#clock.setTimeout(() => {
            if (this.#passes(address, to)) this.#nodes.get(keyOf(to))!.packet?.(copy, address);
          }, this.#travel() * (this.#random.float() < this.reordered ? 10 : 1));
        }
      },
      dial: (to, timeoutMs) => new Promise((resolve, reject) => {
        if (!this.#passes(address, to)) {
          this.#clock.setTimeout(() => reject(new Error(`${keyOf(to)} does not answer`)), timeoutMs);
          return;
        }
        const near = this.#end(address, to);
        const far = this.#end(to, address);
        near.connect(far);
        far.connect(near);
        this.#clock.setTimeout(() => {
          const serve = this.#nodes.get(keyOf(to))?.stream;
          if (!serve) return reject(Object.assign(new Error(`${keyOf(to)} refuses`), { code: 'ECONNREFUSED' }));
          serve(far.stream, address);
          resolve(near.stream);
        }, this.#travel());
      }),
      onPacket: (handler) => (node.packet = handler),
      onStream: (handler) => (node.stream = handler),
      close: async () => {
        if (this.#nodes.get(own) === node) this.#nodes.delete(own);
      },
    };
  }

  #passes(from: Address, to: Address): boolean {
    return !this.#cuts.has(`${keyOf(from)} ${keyOf(to)}`) && this.#nodes.has(keyOf(to));
  }

  #travel(): number {
    return this.delay * (1 + this.#random.float());
  }

  /** One end of a stream: what it writes arrives at the other in order. */
  #end(from: Address, to: Address) {
    let other: { deliver(data: Buffer): void; finish(): void } | undefined;
    let onData: ((data: Buffer) => void) | undefined;
    let onEnd: (() => void) | undefined;
    let finished = false;
    let arrival = 0;
    const early: Buffer[] = [];
    const inOrder = (run: () => void): void => {
      arrival = Math.max(arrival, this.#clock.now() + this.#travel());
      this.#clock.setTimeout(() => {
        if (this.#passes(from, to)) run();
      }, arrival - this.#clock.now());
    };
    const stream: Stream = {
      write: (data) => {
        for (let at = 0; at < data.length; at += PIECE) {
          const piece = Buffer.from(data.subarray(at, at + PIECE));
          this.streamBytes += piece.length;
          inOrder(() => other?.deliver(piece));
        }
      },
      onData: (handler) => {
        onData = handler;
        for (const piece of early.splice(0)) handler(piece);
      },
      onEnd: (handler) => (onEnd = handler),
      close: () => inOrder(() => other?.finish()),
    };
    return {
      stream,
      connect: (end: { deliver(data: Buffer): void; finish(): void }) => (other = end),
      deliver: (data: Buffer) => (onData ? onData(data) : void early.push(data)),
      finish: () => {
        if (!finished) onEnd?.();
        finished = true;
      },
    };
  }
}
