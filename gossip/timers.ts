/** Timers of one gossip node that all end with it. */
import type { Clock, TimerHandle } from '../base/clock.ts';
import { errorText } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';
import type { Random } from '../base/random.ts';

export interface Timers {
  after(delayMs: number, run: () => void): TimerHandle;
  cancel(timer: TimerHandle): void;
  /**
   * A turn each interval, counted from start to start; a turn that takes longer is followed by the next at once. The
   * first comes at a random moment, so that nodes started together do not act together.
   */
  loop(interval: () => number, turn: () => void | Promise<void>): void;
  stop(): void;
}

export function createTimers(clock: Clock, random: Random, log: Logger): Timers {
  const running = new Set<TimerHandle>();
  let stopped = false;

  const after = (delayMs: number, run: () => void): TimerHandle => {
    const timer = clock.setTimeout(() => {
      running.delete(timer);
      if (!stopped) run();
    }, delayMs);
    running.add(timer);
    return timer;
  };

  return {
    after,
    cancel: (timer) => {
      running.delete(timer);
      clock.clearTimeout(timer);
    },
    loop: (interval, turn) => {
      const next = async (): Promise<void> => {
        const start = clock.now();
        try {
          await turn();
        } catch (error) {
          log.warn({ detail: errorText(error) }, 'a round of gossip failed');
        }
        if (!stopped) after(Math.max(0, interval() - (clock.now() - start)), () => void next());
      };
      after(random.float() * interval(), () => void next());
    },
    stop: () => {
      stopped = true;
      for (const timer of running) clock.clearTimeout(timer);
      running.clear();
    },
  };
}
