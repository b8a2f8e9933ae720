/**
 * The way to one node: whether packets of the full size arrive, and if not, which do. The full size is asked for now and then. Where nothing comes back, a
 * small one goes along: that it is answered while the large one is not, several times on end, is the sign of something between the nodes that drops large
 * packets and tells nobody. A path that loses packets of all sizes alike, or all of them, gives no such sign.
 */

/** With a spread of their own, so that nodes with hundreds of peers have little to do at a time. */
export const REST_MS = 12_000;
/** An answer that takes longer is none. Usually it lies in a socket for a while, at both ends; nobody lets a small question lie, nor what is asked after it. */
const ANSWER_MS = 2_500;
const URGENT_ANSWER_MS = 1_000;
/** Answers are known to come. */
const SEARCH_ANSWER_MS = 300;
/** Between rounds of which each counts. */
const NEXT_MS = 1_000;
/** The least that carries a question. */
export const SMALL = 46;
/** Rounds in which only the small one is answered, before it is believed. */
const LOSSES = 5;
/** Rounds in which neither is, before it is left for a while: the node is away. */
const SILENCES = 3;
/** Rounds in which a larger one is answered than is used, before that is believed. */
const GAINS = 5;
/** A path that carries a little more than it did is looked at again. */
const A_LITTLE = 8;
/** Sizes that are tried at once in a search, and how often, since packets get lost for other reasons, too. */
const AT_ONCE = 8;
const TRIES = 3;

/** Sizes are those of a network's MTU. */
export interface Question { round: number; sizes: readonly number[] }

export class Path {
  /** The largest that arrives, where that is less than is said. */
  found: number | undefined;
  /** When `step` wants to be called. */
  due: number;
  #mode: 'usual' | 'doubt' | 'search' = 'usual';
  #round: number;
  #asked: readonly number[] = [];
  readonly #answered = new Set<number>();
  #isVoid = false;
  #losses = 0;
  #silences = 0;
  #gains = 0;
  #tries = 0;
  /** Of a search: arrives, does not arrive. */
  #low = SMALL;
  #high = 0;

  /** `found`: as it was known before. `round`: any number, so that answers to an earlier one are not taken for its own. */
  constructor(due: number, round: number, found?: number) {
    this.due = due;
    this.#round = round;
    this.found = found;
  }

  /** Its answers are waited for. */
  get isUrgent(): boolean {
    return this.#mode !== 'usual' || this.#gains > 0;
  }

  /** `said`: the full size, as interfaces and routes have it. Returns what is to be asked now. */
  step(now: number, said: number): Question | undefined {
    if (this.found !== undefined && this.found >= said) this.found = undefined;
    if (this.#mode === 'search' && this.#high > said) this.#leave();
    const rest = this.#asked.length === 0 ? 0 : this.#judge(said);
    if (rest > 0) {
      this.#asked = [];
      this.due = now + rest;
      return undefined;
    }
    this.#asked = this.#next(said);
    if (this.#tries === 0) this.#answered.clear();
    this.#isVoid = false;
    this.#round = (this.#round + 1) >>> 0;
    this.due = now + (this.#mode === 'search' ? SEARCH_ANSWER_MS : this.isUrgent ? URGENT_ANSWER_MS : ANSWER_MS);
    return { round: this.#round, sizes: this.#asked };
  }

  answered(now: number, round: number, size: number): void {
    if (round !== this.#round || !this.#asked.includes(size)) return;
    this.#answered.add(size);
    if (this.#asked.every((each) => this.#answered.has(each))) this.due = now;
  }

  /** Some of it could not be asked: the round says nothing. */
  void(): void {
    this.#isVoid = true;
  }

  #next(said: number): number[] {
    const used = this.found ?? said;
    // What is short of room for packets may have some for small ones alone: one of several large ones gets through.
    if (this.#mode === 'doubt') return [SMALL, used, used, used];
    if (this.#mode === 'usual') return [...new Set([...(this.isUrgent ? [SMALL] : []), used, Math.min(used + A_LITTLE, said), said])];
    const sizes = Array.from({ length: AT_ONCE }, (_, i) => this.#low + Math.ceil(((this.#high - this.#low) * (i + 1)) / AT_ONCE));
    return [...new Set([SMALL, ...sizes])].filter((size) => this.#tries === 0 || !this.#answered.has(size));
  }

  /** Returns how long to rest before the next question. */
  #judge(said: number): number {
    if (this.#isVoid) return NEXT_MS;
    if (this.#mode === 'search') return this.#judgeSearch(said);
    const used = this.found ?? said;
    const largest = Math.max(0, ...this.#answered);
    if (largest >= used) return this.#hasArrived(largest, used, said);
    this.#gains = 0;
    if (this.#mode === 'usual') {
      [this.#mode, this.#losses, this.#silences] = ['doubt', 0, 0];
      return 0;
    }
    if (largest > 0) {
      if (++this.#losses >= LOSSES) this.#search(SMALL, used);
      return 0;
    }
    return ++this.#silences < SILENCES ? 0 : this.#leave();
  }

  #hasArrived(largest: number, used: number, said: number): number {
    this.#mode = 'usual';
    this.#gains = largest > used ? this.#gains + 1 : 0;
    if (this.#gains === 0) return REST_MS;
    if (this.#gains < GAINS) return NEXT_MS;
    this.#gains = 0;
    if (largest < said) {
      this.#search(largest, said);
      return 0;
    }
    this.found = undefined;
    return REST_MS;
  }

  #search(low: number, high: number): void {
    [this.#mode, this.#low, this.#high, this.#tries] = ['search', low, high, 0];
  }

  #judgeSearch(said: number): number {
    const missing = this.#asked.filter((size) => !this.#answered.has(size));
    if (missing.length > 0 && ++this.#tries < TRIES) return 0;
    this.#tries = 0;
    // The node went away meanwhile.
    if (!this.#answered.has(SMALL)) return this.#leave();
    this.#low = Math.max(this.#low, ...this.#answered);
    this.#high = Math.min(this.#high, ...missing.filter((size) => size > this.#low));
    if (this.#high - this.#low > 1) return 0;
    this.found = this.#low < said ? this.#low : undefined;
    return this.#leave();
  }

  #leave(): number {
    [this.#mode, this.#tries] = ['usual', 0];
    return REST_MS;
  }
}
