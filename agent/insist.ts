import { sleep, systemClock } from '../base/clock.ts';
import { errorText } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';

const RETRY_MS = 1_000;

/** Asks until it is answered, or rejects when `signal` is given and aborted: only a node's very first start has to wait for the store. */
export async function insist<T>(what: string, log: Logger, ask: () => Promise<T>, signal?: AbortSignal): Promise<T> {
  for (;;) {
    try {
      return await ask();
    } catch (error) {
      signal?.throwIfAborted();
      log.warn({ detail: errorText(error) }, `${what}: tried again`);
      await sleep(systemClock, RETRY_MS);
      signal?.throwIfAborted();
    }
  }
}
