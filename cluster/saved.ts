/** The last known records of other owners on this node's disk, so that it forwards again before it has met anybody. */
import type { Clock } from '../base/clock.ts';
import { errorText } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';
import type { LocalStore } from '../store/store.ts';
import type { OwnerState } from './owner.ts';
import { Records, type StoredRecord } from './records.ts';

const OWNERS = 'state/progress/';
const RECORDS = 'state/records/';
const DELAY_MS = 1_000;
/** Rows per turn of the event loop: half a millisecond. */
const ROWS_PER_TURN = 50;

export interface SavedOwners {
  /** That these records of an owner, or how far it is, changed. Written within a second, so that many changes make one write; what is `urgent` within this turn or the next. */
  save(owner: string, ids: readonly string[], urgent: boolean): void;
  /** All of it is to be forgotten. */
  forget(owner: string): void;
  /** What is to be written, now. */
  flush(): void;
}

/** Reads what was saved into `owners`. */
export function createSavedOwners({ owners, clock, log, local }: { owners: Map<string, OwnerState>; clock: Clock; log: Logger; local: LocalStore }): SavedOwners {
  /** Owner → records that changed. */
  const dirty = new Map<string, Set<string>>();
  const rowOf = (owner: string, id = ''): string => `${RECORDS}${owner}/${id}`;

  for (const { key, value } of local.list(OWNERS)) {
    const owner = key.slice(OWNERS.length);
    try {
      const state = JSON.parse(value) as Omit<OwnerState, 'records'>;
      const records = new Records();
      for (const row of local.list(rowOf(owner))) records.put(JSON.parse(row.value) as StoredRecord);
      owners.set(owner, { ...state, records });
    } catch (error) {
      log.warn({ key, detail: errorText(error) }, 'saved soft state cannot be read; it comes anew from its owner');
      erase(owner);
    }
  }

  function erase(owner: string): void {
    local.transaction(() => {
      for (const { key } of local.list(rowOf(owner))) local.delete(key);
      local.delete(OWNERS + owner);
    });
  }

  /** Up to `rows`; the records first, so that what a crash leaves behind claims less than is there. */
  function write(rows: number): void {
    let left = rows;
    local.transaction(() => {
      for (const [owner, ids] of dirty) {
        const state = owners.get(owner);
        for (const id of ids) {
          if (left-- <= 0) return;
          const record = state?.records.get(id);
          if (record && record.value !== null) local.put(rowOf(owner, id), JSON.stringify(record));
          else local.delete(rowOf(owner, id));
          ids.delete(id);
        }
        if (state) local.put(OWNERS + owner, JSON.stringify(progressOf(state)));
        dirty.delete(owner);
      }
      // After a power cut nothing of the kernel's is left that an older copy could harm.
    }, { flush: false });
  }

  function writeSome(): void {
    if (dirty.size === 0) return;
    write(ROWS_PER_TURN);
    if (dirty.size > 0) clock.setTimeout(writeSome, 0);
  }

  return {
    save: (owner, ids, urgent) => {
      if (urgent) clock.setTimeout(writeSome, 0);
      else if (dirty.size === 0) clock.setTimeout(writeSome, DELAY_MS);
      const changed = dirty.get(owner) ?? new Set();
      for (const id of ids) changed.add(id);
      dirty.set(owner, changed);
    },
    forget: (owner) => {
      dirty.delete(owner);
      erase(owner);
    },
    flush: () => {
      if (dirty.size > 0) write(Infinity);
    },
  };
}

/** Deletions are not saved, since their age is counted on a clock that ends with the process: they count as forgotten. */
function progressOf({ records, ...rest }: OwnerState): Omit<OwnerState, 'records'> {
  let { floor } = rest;
  for (const id of records.deletions) {
    const { epoch, sequence } = records.get(id)!;
    if (epoch === rest.epoch) floor = Math.max(floor, sequence);
  }
  return { ...rest, floor };
}
