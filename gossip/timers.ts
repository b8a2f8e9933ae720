/** Timers of one gossip node that all end with it. */
import type { Clock, TimerHandle } from '../base/clock.ts';
import { errorText } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';
import type { Random } from '../base/random.ts';

export interface Timers {
  after(delayMs: number, run: () => void): TimerHandle;
  cancel(timer: TimerHandle): void;
  /** Lets packets be heard before a long piece of work goes on. Never resolves once the node has stopped. */
  nextTurn(): Promise<void>;
  /**
   * For a judgement over somebody's silence. A turn that comes late means that this node stood still, with the answers
   * unread: it waits `graceMs` more, and says so. Returns the way to cancel.
   */
  judge(delayMs: number, graceMs: number, verdict: (stoodStill: boolean) => void): () => void;
  /**
   * A turn each interval, counted from start to start; a turn that takes longer is followed by the next at once. The
   * first comes at a random moment, so that nodes started together do not act together.
   */
  loop(interval: () => number, turn: () => void | Promise<void>): void;
  /**
   * A turn each interval for as long as there is something to do, the first as soon as this turn of the event loop is over: an idle node need not wake
   * up, and what happens in a quiet cluster is known to all within a few packets. Returns the way to say that there is something.
   */
  loopWhile(isBusy: () => boolean, interval: () => number, turn: () => void): () => void;
  stop(): void;
}

/** A timer of a healthy node is seldom that late. */
const LATE_MS = 50;
/** A node that is late again and again has to judge nevertheless. */
const MAX_GRACES = 3;

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

  const cancel = (timer: TimerHandle): void => {
    running.delete(timer);
    clock.clearTimeout(timer);
  };

  return {
    after, cancel,
    nextTurn: () => new Promise((resolve) => void after(0, resolve)),
    judge: (delayMs, graceMs, verdict) => {
      let graces = 0;
      const wait = (ms: number): TimerHandle => {
        const due = clock.now() + ms;
        return after(ms, () => {
          if (clock.now() - due > LATE_MS && graces++ < MAX_GRACES) timer = wait(graceMs);
          else verdict(graces > 0);
        });
      };
      let timer = wait(delayMs);
      return () => cancel(timer);
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
    loopWhile: (isBusy, interval, turn) => {
      let waiting = false;
      const wait = (ms: number): void => {
        waiting = true;
        after(ms, next);
      };
      const next = (): void => {
        waiting = false;
        if (!isBusy()) return;
        try {
          turn();
        } catch (error) {
          log.warn({ detail: errorText(error) }, 'a round of gossip failed');
        }
        if (!waiting) wait(interval());
      };
      return () => {
        if (!waiting && !stopped) wait(0);
      };
    },
    stop: () => {
      stopped = true;
      for (const timer of running) clock.clearTimeout(timer);
      running.clear();
    },
  };
}
