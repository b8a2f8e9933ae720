/**
 * This node's keys of WireGuard, on its disk beside its identity. They are renewed from time to time: who has got hold of one reads
 * nothing of what is said under the next. (Sessions have keys of their own, which WireGuard renews every two minutes.)
 */
import { mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import * as v from 'valibot';
import type { Clock } from '../base/clock.ts';
import { errorText } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';
import { generateKeyPair, type KeyPair } from '../drivers/overlay/key-pair.ts';

const LIFETIME_MS = 12 * 3_600_000;

const key = v.pipe(v.string(), v.regex(/^[A-Za-z0-9+/]{43}=$/));
/** `since`: when it was made, milliseconds since the Unix epoch. */
const Stored = v.object({ publicKey: key, privateKey: key, since: v.number() });
type Stored = v.InferOutput<typeof Stored>;

/**
 * Returns the keys as they are to be now; new ones are on disk before they are told. Nothing is read or made before somebody asks. Old ones serve
 * where the disk takes no new ones; throws the system's error where there are none.
 */
export function wireguardKeys(directory: string, clock: Clock, log: Logger): () => KeyPair {
  const path = join(directory, 'wireguard.json');
  let current: Stored | undefined;
  let isOverdue = false;

  function read(): Stored | undefined {
    try {
      return v.parse(Stored, JSON.parse(readFileSync(path, 'utf8')));
    } catch {
      // None yet, or none that is whole: another pair is as good.
      return undefined;
    }
  }

  function renew(): Stored {
    const made = { ...generateKeyPair(), since: clock.wallNow() };
    mkdirSync(directory, { recursive: true, mode: 0o700 });
    writeFileSync(`${path}.new`, `${JSON.stringify(made)}\n`, { mode: 0o600, flush: true });
    renameSync(`${path}.new`, path);
    return made;
  }

  function renewOld(old: Stored): Stored {
    try {
      const made = renew();
      isOverdue = false;
      return made;
    } catch (error) {
      if (!isOverdue) log.warn({ detail: errorText(error) }, 'the keys of WireGuard could not be renewed: the old ones go on; tried again');
      isOverdue = true;
      return old;
    }
  }

  return () => {
    current ??= read() ?? renew();
    // A clock that was set back by more than that has made it long ago, too.
    if (Math.abs(clock.wallNow() - current.since) > LIFETIME_MS) current = renewOld(current);
    return current;
  };
}
