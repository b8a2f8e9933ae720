/**
 * The store, as long as it is this cluster's. One that was emptied answers as a new one would: believed, it would take every
 * network off every host, and numbers and addresses that are in use would be given again. So what it says to be gone is believed
 * only while it has the authority that this node's certificate is of, and nothing is written to it otherwise.
 */
import { type Clock, sleep } from '../base/clock.ts';
import { WeftError, errorText } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';
import { clusterAuthority } from '../cluster/identity/credentials.ts';
import { readIdentity } from '../cluster/identity/files.ts';
import type { Store, WatchEvent } from '../store/store.ts';

const RETRY_MS = 3_000;

export interface VerifiedStoreOptions {
  store: Store;
  /** Where the identity lies on the disk; a node without one takes any store. */
  directory: string;
  clock: Clock;
  log: Logger;
}

/** All methods reject with WEFT-STORE-EMPTY or WEFT-NODE-REMOVED besides; watches are silent meanwhile, and begin again with a snapshot. */
export interface VerifiedStore extends Store {
  /** Why it is not used although it answers. */
  readonly problem: WeftError | undefined;
}

export function createVerifiedStore({ store, directory, clock, log }: VerifiedStoreOptions): VerifiedStore {
  let known: string | undefined;
  let isVerified = false;
  let problem: WeftError | undefined;
  /** Of all that watches have seen. */
  let passedOn = Promise.resolve();

  async function verify(): Promise<void> {
    known ??= readIdentity(directory)?.authority;
    try {
      if (known !== undefined) await clusterAuthority(store, known);
      isVerified = true;
      if (problem) log.info({}, 'the store has this cluster again');
      problem = undefined;
    } catch (error) {
      isVerified = false;
      if (error instanceof WeftError && error.code !== 'WEFT-STORE-UNREACHABLE') {
        if (problem?.code !== error.code) log.warn({ detail: errorText(error) }, 'what the store says is not believed');
        problem = error;
      }
      throw error;
    }
  }

  async function checked<T>(ask: () => Promise<T>): Promise<T> {
    if (!isVerified) await verify();
    const answer = await ask();
    // A snapshot of before a write must not be told after it: what was just made would be taken for removed.
    await passedOn;
    return answer;
  }

  function watch(prefix: string, onEvent: (event: WatchEvent) => void): () => void {
    let stopped = false;
    let stopUnverified = (): void => {};

    function follow(): void {
      let over = false;
      // Events wait for the check of the one before them.
      let last = Promise.resolve();
      const end = store.watch(prefix, (event) => {
        last = last.then(() => pass(event));
        const before = passedOn;
        passedOn = last.then(() => before);
      });
      stopUnverified = () => {
        over = true;
        end();
      };

      async function pass(event: WatchEvent): Promise<void> {
        if (over) return;
        try {
          if (event.type !== 'put' || !isVerified) await verify();
        } catch (error) {
          if (over) return;
          stopUnverified();
          log.debug({ prefix, detail: errorText(error) }, 'a watch is begun anew');
          void followLater();
          return;
        }
        if (over) return;
        try {
          onEvent(event);
        } catch (error) {
          log.error({ prefix, detail: errorText(error) }, 'a watcher failed');
        }
      }
    }

    async function followLater(): Promise<void> {
      do await sleep(clock, RETRY_MS);
      while (!stopped && !await verify().then(() => true, () => false));
      if (!stopped) follow();
    }

    follow();
    return () => {
      stopped = true;
      stopUnverified();
    };
  }

  return {
    get description() { return store.description; },
    get healthy() { return store.healthy; },
    get problem() { return problem; },
    get: (key) => checked(() => store.get(key)),
    range: (prefix) => checked(() => store.range(prefix)),
    txn: (compares, writes) => checked(() => store.txn(compares, writes)),
    lease: (ttl) => checked(() => store.lease(ttl)),
    watch,
    close: () => store.close(),
  };
}
