/** The last known records of other owners on this node's disk, so that it forwards again before it has met anybody. */
import type { Clock } from '../base/clock.ts';
import { errorText } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';
import type { LocalStore } from '../store/store.ts';
import { recordId, type OwnerState, type StoredRecord } from './owner.ts';

const PREFIX = 'state/owners/';
const DELAY_MS = 1_000;

export interface SavedOwners {
  /** Soon: many changes make one write. */
  save(owner: string): void;
  /** What is to be saved now. */
  flush(): void;
}

/** Reads what was saved into `owners`. */
export function createSavedOwners({ owners, clock, log, local }: { owners: Map<string, OwnerState>; clock: Clock; log: Logger; local: LocalStore }): SavedOwners {
  const dirty = new Set<string>();

  for (const { key, value } of local.list(PREFIX)) {
    try {
      const { records, ...rest } = JSON.parse(value) as Omit<OwnerState, 'records'> & { records: StoredRecord[] };
      owners.set(key.slice(PREFIX.length), { ...rest, records: new Map(records.map((record) => [recordId(record.table, record.key), record])) });
    } catch (error) {
      log.warn({ key, detail: errorText(error) }, 'saved soft state cannot be read; it comes anew from its owner');
    }
  }

  function flush(): void {
    if (dirty.size === 0) return;
    local.transaction(() => {
      for (const owner of dirty) {
        const state = owners.get(owner);
        if (state) local.put(PREFIX + owner, serialize(state));
        else local.delete(PREFIX + owner);
      }
    });
    dirty.clear();
  }

  return {
    flush,
    save: (owner) => {
      if (dirty.size === 0) clock.setTimeout(flush, DELAY_MS);
      dirty.add(owner);
    },
  };
}

/** Without deletions: their age is counted on a clock that ends with the process. */
function serialize({ records, ...rest }: OwnerState): string {
  const all = [...records.values()];
  const floor = Math.max(rest.floor, ...all.filter((record) => record.value === null && record.epoch === rest.epoch).map((record) => record.sequence));
  return JSON.stringify({ ...rest, floor, records: all.filter((record) => record.value !== null) });
}
