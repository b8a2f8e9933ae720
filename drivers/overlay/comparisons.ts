/**
 * Comparisons with the kernel that go on over many turns of the event loop, while records and the kernel change. So each decision is made by what
 * is wanted at that moment, in the turn that carries it out; what was read before says only where to look. What was programmed meanwhile is not
 * told of: it is nobody's fault.
 */
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { Repair } from '../../cnm/driver.ts';

/** Things that are compared in one turn: most of them are as they should be, which costs a microsecond or two. */
const PER_TURN = 32;

/** One that is under way. */
export interface Comparison {
  /** There is nothing to compare any more. */
  readonly over: boolean;
  /** A difference that was mended. `kind`: 'routes were missing'; `address`: an IP or MAC; `thing`: what is told of it, if not that. */
  note(kind: string, address: string, thing?: string): void;
  /** Calls `work` with a few at a time, in a turn each, until it is over. */
  inPieces<T>(things: Iterable<T>, work: (piece: readonly T[]) => void): Promise<void>;
  /** By key, made in the same way: not whole where it is over. */
  index<T>(things: Iterable<T>, key: (thing: T) => string): Promise<Map<string, T>>;
}

class Running implements Comparison {
  readonly subject: string | undefined;
  readonly changed = new Set<string>();
  readonly #differences = new Map<string, { count: number; first: string }>();
  over = false;

  constructor(subject: string | undefined) {
    this.subject = subject;
  }

  note(kind: string, address: string, thing = address): void {
    if (this.changed.has(address)) return;
    const known = this.#differences.get(kind);
    if (known) known.count++;
    else this.#differences.set(kind, { count: 1, first: thing });
  }

  async inPieces<T>(things: Iterable<T>, work: (piece: readonly T[]) => void): Promise<void> {
    let piece: T[] = [];
    for (const thing of things) {
      if (this.over) return;
      piece.push(thing);
      if (piece.length < PER_TURN) continue;
      work(piece);
      piece = [];
      await nextTurn();
    }
    if (piece.length > 0 && !this.over) work(piece);
  }

  async index<T>(things: Iterable<T>, key: (thing: T) => string): Promise<Map<string, T>> {
    const index = new Map<string, T>();
    await this.inPieces(things, (piece) => piece.forEach((thing) => index.set(key(thing), thing)));
    return index;
  }

  repairs(): Repair[] {
    return Array.from(this.#differences, ([kind, { count, first }]) => ({ what: `${count} ${kind} (${first})` }));
  }
}

export class Comparisons {
  readonly #running = new Set<Running>();

  /** `subject`: what end() knows it by. What `work` notes is added to `found`. */
  async run(subject: string | undefined, found: Repair[], work: (comparison: Comparison) => Promise<void>): Promise<void> {
    const running = new Running(subject);
    this.#running.add(running);
    try {
      await work(running);
    } finally {
      this.#running.delete(running);
    }
    found.push(...running.repairs());
  }

  /** These addresses have just been programmed. */
  changed(...addresses: readonly (string | undefined)[]): void {
    for (const { changed } of this.#running) for (const each of addresses) if (each !== undefined) changed.add(each);
  }

  /** Those of a subject; without one, all. */
  end(subject?: string): void {
    for (const running of this.#running) if (subject === undefined || running.subject === subject) running.over = true;
  }
}
