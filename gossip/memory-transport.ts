/** A simulated network on an injected clock: delay, loss, cut links, switched-off nodes. */
import type { Clock } from '../base/clock.ts';
import type { Random } from '../base/random.ts';
import type { Address } from './messages.ts';
import type { Stream, Transport } from './transport.ts';

const keyOf = ({ host, port }: Address): string => `${host}:${port}`;

interface Node { packet?: (packet: Buffer, from: Address) => void; stream?: (stream: Stream, from: Address) => void }

export class MemoryNetwork {
  /** Share of packets that are lost. Streams are not: TCP repeats. */
  loss = 0;
  /** One way, milliseconds; each packet takes up to twice as long. */
  delay = 1;
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

  heal(): void {
    this.#cuts.clear();
  }

  #passes(from: Address, to: Address): boolean {
    return !this.#cuts.has(`${keyOf(from)} ${keyOf(to)}`) && this.#nodes.has(keyOf(to));
  }

  #later(run: () => void): void {
    this.#clock.setTimeout(run, this.delay * (1 + this.#random.float()));
  }

  transport(address: Address): Transport {
    const node: Node = {};
    this.#nodes.set(keyOf(address), node);
    return {
      address,
      send: (packet, to) => {
        if (!this.#nodes.has(keyOf(address)) || this.#random.float() < this.loss) return;
        const copy = Buffer.from(packet);
        this.#later(() => this.#passes(address, to) && this.#nodes.get(keyOf(to))?.packet?.(copy, address));
      },
      dial: (to, timeoutMs) => new Promise((resolve, reject) => {
        if (!this.#passes(address, to)) {
          this.#clock.setTimeout(() => reject(new Error(`${keyOf(to)} does not answer`)), timeoutMs);
          return;
        }
        const [near, far] = this.#pair(address, to);
        this.#later(() => {
          this.#nodes.get(keyOf(to))?.stream?.(far, address);
          resolve(near);
        });
      }),
      onPacket: (handler) => (node.packet = handler),
      onStream: (handler) => (node.stream = handler),
      close: async () => void this.#nodes.delete(keyOf(address)),
    };
  }

  #pair(a: Address, b: Address): [Stream, Stream] {
    const ends = [this.#end(), this.#end()] as const;
    const stream = (own: (typeof ends)[0], other: (typeof ends)[0], from: Address, to: Address): Stream => ({
      write: (data) => this.#later(() => this.#passes(from, to) && other.deliver(Buffer.from(data))),
      onData: own.onData,
      onEnd: own.onEnd,
      close: () => this.#later(() => this.#later(() => other.finish())),
    });
    return [stream(ends[0], ends[1], a, b), stream(ends[1], ends[0], b, a)];
  }

  #end() {
    let data: ((data: Buffer) => void) | undefined;
    let end: (() => void) | undefined;
    let finished = false;
    const waiting: Buffer[] = [];
    return {
      deliver: (chunk: Buffer) => (data ? data(chunk) : void waiting.push(chunk)),
      finish: () => {
        if (!finished) end?.();
        finished = true;
      },
      onData: (handler: (chunk: Buffer) => void) => {
        data = handler;
        for (const chunk of waiting.splice(0)) handler(chunk);
      },
      onEnd: (handler: () => void) => (end = handler),
    };
  }
}
