/**
 * This node's keys of WireGuard, on its disk beside its identity. They are renewed from time to time: who has got hold of one reads
 * nothing of what is said under the next. (Sessions have keys of their own, which WireGuard renews every two minutes.)
 */
import { mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import * as v from 'valibot';
import type { Clock } from '../base/clock.ts';
import { generateKeyPair, type KeyPair } from '../drivers/overlay/key-pair.ts';

const LIFETIME_MS = 12 * 3_600_000;

const key = v.pipe(v.string(), v.regex(/^[A-Za-z0-9+/]{43}=$/));
/** `since`: when it was made, milliseconds since the Unix epoch. */
const Stored = v.object({ publicKey: key, privateKey: key, since: v.number() });
type Stored = v.InferOutput<typeof Stored>;

/** Returns the keys as they are to be now; new ones are on disk before they are told. Nothing is read or made before somebody asks. */
export function wireguardKeys(directory: string, clock: Clock): () => KeyPair {
  const path = join(directory, 'wireguard.json');
  let current: Stored | undefined;

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

  return () => {
    current ??= read();
    // A clock that was set back by more than that has made it long ago, too.
    if (!current || Math.abs(clock.wallNow() - current.since) > LIFETIME_MS) current = renew();
    return current;
  };
}
