/** When things are compared with the kernel: at the start, a moment after something of ours was disturbed, and every half minute. */
import type { Clock } from '../base/clock.ts';
import { errorText } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';
import type { Repair } from '../cnm/driver.ts';

const INTERVAL_MS = 30_000;
/** Several changes belong together; and our own changes are told to us as well. */
const SETTLE_MS = 150;
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
  let soon: unknown;
  let closed = false;

  async function pass(): Promise<void> {
    for (const each of passes) {
      try {
        for (const repair of await each()) {
          log.warn(repair, 'repaired');
          recent.push({ at: new Date(clock.wallNow()).toISOString(), ...repair });
        }
      } catch (error) {
        log.error({ detail: errorText(error) }, 'a repair could not be finished; tried again');
        recent.push({ at: new Date(clock.wallNow()).toISOString(), what: 'a repair could not be finished', error: errorText(error) });
      }
    }
    recent.splice(0, recent.length - KEPT);
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
    disturbed: () => {
      if (soon !== undefined || closed) return;
      soon = clock.setTimeout(() => {
        soon = undefined;
        void run();
      }, SETTLE_MS);
    },
    close: () => {
      closed = true;
    },
  };
}
