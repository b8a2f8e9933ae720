import type { Clock, TimerHandle } from './clock.ts';

interface Timer { at: number; order: number; callback: () => void; cancelled: boolean }

/**
 * A clock that only moves when told to. Timers due at the same instant fire in the order they were set.
 * Promise reactions are run to exhaustion between two timers, so that awaited code sees no gap in time.
 */
export class VirtualClock implements Clock {
  #now = 0;
  #order = 0;
  /** A binary heap: the next one due is the first. */
  readonly #timers: Timer[] = [];
  readonly #epoch: number;

  constructor(epochMs = 1_700_000_000_000) {
    this.#epoch = epochMs;
  }

  now(): number {
    return this.#now;
  }

  wallNow(): number {
    return this.#epoch + this.#now;
  }

  setTimeout(callback: () => void, delayMs: number): TimerHandle {
    const timer = { at: this.#now + Math.max(0, delayMs), order: this.#order++, callback, cancelled: false };
    const heap = this.#timers;
    let at = heap.push(timer) - 1;
    for (let parent = (at - 1) >> 1; at > 0 && isBefore(timer, heap[parent]!); parent = (at - 1) >> 1) {
      heap[at] = heap[parent]!;
      at = parent;
    }
    heap[at] = timer;
    return timer;
  }

  clearTimeout(handle: TimerHandle): void {
    if (handle) (handle as Timer).cancelled = true;
  }

  /** Moves time on by ms, firing everything due on the way. */
  async advance(ms: number): Promise<void> {
    const end = this.#now + ms;
    await settle();
    for (;;) {
      const timer = this.#timers[0];
      if (!timer || timer.at > end) break;
      this.#removeFirst();
      if (timer.cancelled) continue;
      this.#now = timer.at;
      timer.callback();
      await settle();
    }
    this.#now = end;
  }

  /** Moves time on until it is so: by how many ms, to within 50; Infinity where it was not within the limit. */
  async advanceUntil(condition: () => boolean, limitMs: number): Promise<number> {
    const start = this.#now;
    while (!condition()) {
      if (this.#now - start >= limitMs) return Infinity;
      await this.advance(50);
    }
    return this.#now - start;
  }

  #removeFirst(): void {
    const heap = this.#timers;
    const last = heap.pop()!;
    if (heap.length === 0) return;
    let at = 0;
    for (let child = 1; child < heap.length; child = 2 * at + 1) {
      if (child + 1 < heap.length && isBefore(heap[child + 1]!, heap[child]!)) child++;
      if (!isBefore(heap[child]!, last)) break;
      heap[at] = heap[child]!;
      at = child;
    }
    heap[at] = last;
  }
}

const isBefore = (a: Timer, b: Timer): boolean => a.at < b.at || (a.at === b.at && a.order < b.order);

const settle = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
