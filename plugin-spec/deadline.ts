import type { Clock } from '../base/clock.ts';
import { errorText, weftError } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';

export interface DeadlineOptions { call: string; deadlineMs: number; clock: Clock; log: Logger }

/**
 * The work's outcome, or WEFT-CALL-TIMEOUT once the deadline has passed. The work cannot be stopped half way: it goes
 * on, and its end is logged.
 */
export function withDeadline<T>(work: Promise<T>, { call, deadlineMs, clock, log }: DeadlineOptions): Promise<T> {
  return new Promise((resolve, reject) => {
    const started = clock.now();
    let late = false;
    const timer = clock.setTimeout(() => {
      late = true;
      reject(weftError('WEFT-CALL-TIMEOUT', { call, seconds: deadlineMs / 1000 }));
    }, deadlineMs);
    const ended = (outcome: { error?: string }): void => {
      clock.clearTimeout(timer);
      if (late) log.warn({ call, ms: Math.round(clock.now() - started), ...outcome }, 'a call ended after its deadline');
    };
    work.then(
      (value) => {
        ended({});
        resolve(value);
      },
      (error: unknown) => {
        ended({ error: errorText(error) });
        reject(error);
      },
    );
  });
}
