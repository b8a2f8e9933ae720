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
/** `since`: when it was made, milliseconds since the Unix epoch. `word`: of the last wish for a new one before that. */
const Stored = v.object({ publicKey: key, privateKey: key, since: v.number(), word: v.optional(v.string()) });
type Stored = v.InferOutput<typeof Stored>;

export interface WireguardKeys {
  /**
   * As they are to be now; new ones are on disk before they are told. Nothing is read or made before somebody asks. Old ones serve where the disk takes
   * no new ones; throws the system's error where there are none.
   */
  current(): KeyPair;
  /** Somebody wishes for new ones; a word that was heard before means a wish that was fulfilled. Returns whether there will be others than were last given out. */
  renew(word: string): boolean;
}

export function wireguardKeys(directory: string, clock: Clock, log: Logger): WireguardKeys {
  const path = join(directory, 'wireguard.json');
  let current: Stored | undefined;
  let wished: string | undefined;
  let isOverdue = false;

  function read(): Stored | undefined {
    try {
      return v.parse(Stored, JSON.parse(readFileSync(path, 'utf8')));
    } catch {
      // None yet, or none that is whole: another pair is as good.
      return undefined;
    }
  }

  function make(old?: Stored): Stored {
    const word = wished ?? old?.word;
    const made = { ...generateKeyPair(), since: clock.wallNow(), ...(word !== undefined && { word }) };
    mkdirSync(directory, { recursive: true, mode: 0o700 });
    writeFileSync(`${path}.new`, `${JSON.stringify(made)}\n`, { mode: 0o600, flush: true });
    renameSync(`${path}.new`, path);
    return made;
  }

  function replace(old: Stored): Stored {
    try {
      const made = make(old);
      isOverdue = false;
      return made;
    } catch (error) {
      if (!isOverdue) log.warn({ detail: errorText(error) }, 'the keys of WireGuard could not be renewed: the old ones go on; tried again');
      isOverdue = true;
      return old;
    }
  }

  const isUnfulfilled = ({ word }: Stored): boolean => wished !== undefined && wished !== word;

  return {
    current: () => {
      current ??= read() ?? make();
      // A clock that was set back by more than that has made it long ago, too.
      if (isUnfulfilled(current) || Math.abs(clock.wallNow() - current.since) > LIFETIME_MS) current = replace(current);
      return current;
    },
    renew: (word) => {
      wished = word;
      return current !== undefined && isUnfulfilled(current);
    },
  };
}
