/** When things are compared with the kernel: at the start, a moment after something of ours was disturbed, and every half minute. */
import type { Clock, TimerHandle } from '../base/clock.ts';
import { errorText } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';
import type { Repair } from '../cnm/driver.ts';

const INTERVAL_MS = 30_000;
/** Several changes belong together; and our own changes are told to us as well. */
const SETTLE_MS = 150;
/** After a failure; twice as long after each further one, until the interval is no longer. */
const FAILURE_MS = 500;
const KEPT = 20;

export interface RepairLoop {
  /** Something happened that may have been ours: look soon. */
  disturbed(): void;
  run(): Promise<void>;
  /** Newest last. */
  readonly recent: readonly { at: string; what: string; error?: string }[];
  close(): void;
}

export interface RepairOptions {
  clock: Clock;
  log: Logger;
  passes: readonly (() => Promise<Repair[]>)[];
  /** Between two looks that nothing gave a reason for. */
  intervalMs?: number;
}

export function createRepairLoop({ clock, log, passes, intervalMs = INTERVAL_MS }: RepairOptions): RepairLoop {
  const recent: { at: string; what: string; error?: string }[] = [];
  let running: Promise<void> | undefined;
  let again = false;
  let waiting: TimerHandle;
  let closed = false;
  let failures = 0;

  async function pass(): Promise<void> {
    let failed = false;
    for (const each of passes) {
      try {
        for (const repair of await each()) {
          const { error } = repair;
          failed ||= error !== undefined;
          log.warn(repair, error === undefined ? 'repaired' : 'could not be repaired; tried again');
          recent.push({ at: new Date(clock.wallNow()).toISOString(), ...repair });
        }
      } catch (error) {
        failed = true;
        log.error({ detail: errorText(error) }, 'a repair could not be finished; tried again');
        recent.push({ at: new Date(clock.wallNow()).toISOString(), what: 'a repair could not be finished', error: errorText(error) });
      }
    }
    recent.splice(0, recent.length - KEPT);
    failures = failed ? failures + 1 : 0;
    const waitMs = FAILURE_MS * 2 ** (failures - 1);
    if (failed && waitMs < intervalMs) soon(waitMs);
  }

  function soon(ms: number): void {
    if (waiting !== undefined || closed) return;
    waiting = clock.setTimeout(() => {
      waiting = undefined;
      void run();
    }, ms);
  }

  async function run(): Promise<void> {
    if (running) {
      again = true;
      return running;
    }
    running = (async () => {
      do {
        again = false;
        await pass();
      } while (again && !closed);
    })().finally(() => (running = undefined));
    return running;
  }

  const periodic = (): void => {
    if (closed) return;
    void run();
    clock.setTimeout(periodic, intervalMs);
  };
  clock.setTimeout(periodic, intervalMs);

  return {
    recent,
    run,
    disturbed: () => soon(SETTLE_MS),
    close: () => {
      closed = true;
    },
  };
}
