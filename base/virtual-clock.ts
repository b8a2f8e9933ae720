import type { Clock, TimerHandle } from './clock.ts';

interface Timer { at: number; order: number; callback: () => void; cancelled: boolean }

/**
 * A clock that only moves when told to. Timers due at the same instant fire in the order they were set.
 * Promise reactions are run to exhaustion between two timers, so that awaited code sees no gap in time.
 */
export class VirtualClock implements Clock {
  #now = 0;
  #order = 0;
  #timers: Timer[] = [];
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
    let low = 0;
    let high = this.#timers.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#timers[middle]!.at <= timer.at) low = middle + 1;
      else high = middle;
    }
    this.#timers.splice(low, 0, timer);
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
      this.#timers.shift();
      if (timer.cancelled) continue;
      this.#now = timer.at;
      timer.callback();
      await settle();
    }
    this.#now = end;
  }
}

const settle = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
