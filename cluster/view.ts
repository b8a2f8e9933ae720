/** What of the known records is to be seen, and who is told of it: records of hidden owners are kept and not shown. */
import { errorText } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';
import type { Change, OwnerState } from './owner.ts';
import { recordId, type StoredRecord } from './records.ts';
import type { StateChange, StateRecord, TableName, Tables } from './state.ts';

interface Watcher { table: TableName; networkId: string | undefined; call(change: StateChange<TableName>): void }

/** Records that belong to no network are of no interest to who watches one. */
const concerns = ({ networkId }: Watcher, value: Tables[TableName]): boolean => networkId === undefined || ('networkId' in value && value.networkId === networkId);

export interface View {
  /** Tells those who watch, if it is a change to them. */
  tell(owner: string, change: Change): void;
  setHidden(owner: string, hide: boolean): void;
  list<T extends TableName>(table: T): StateRecord<T>[];
  watch<T extends TableName>(table: T, onChange: (change: StateChange<T>) => void, filter?: { networkId: string }): () => void;
}

export function createView({ self, owners, log }: { self: string; owners: ReadonlyMap<string, OwnerState>; log: Logger }): View {
  const hidden = new Set<string>();
  const watchers = new Set<Watcher>();

  const publicRecord = (owner: string, { table, key, value }: StoredRecord): StateRecord<TableName> => ({ table, key, owner, value: value! });

  function* visible(table: TableName): Generator<{ owner: string; stored: StoredRecord }> {
    for (const [owner, { records }] of owners) {
      if (hidden.has(owner)) continue;
      for (const stored of records.values()) if (stored.table === table && stored.value !== null) yield { owner, stored };
    }
  }

  function call(watcher: Watcher, change: StateChange<TableName>): void {
    try {
      watcher.call(change);
    } catch (error) {
      log.error({ detail: errorText(error), table: watcher.table }, 'a change of soft state could not be acted on');
    }
  }

  function tell(owner: string, { before, after }: Change): void {
    if (hidden.has(owner)) return;
    const table = (after ?? before)?.table;
    if (after?.value && before?.value && JSON.stringify(after.value) === JSON.stringify(before.value)) return;
    const local = owner === self;
    for (const watcher of watchers) {
      if (watcher.table !== table) continue;
      // What moves from one network to another vanishes from the one and appears on the other.
      const was = before?.value && concerns(watcher, before.value) ? before : undefined;
      const is = after?.value && concerns(watcher, after.value) ? after : undefined;
      if (is) call(watcher, { type: 'put', record: publicRecord(owner, is), previous: was?.value ?? undefined, local });
      else if (was) call(watcher, { type: 'delete', record: publicRecord(owner, was), local });
    }
  }

  return {
    tell,
    setHidden: (owner, hide) => {
      if (hidden.has(owner) === hide) return;
      const records = [...owners.get(owner)?.records.values() ?? []];
      if (hide) {
        for (const record of records) tell(owner, { before: record, after: undefined });
        hidden.add(owner);
      } else {
        hidden.delete(owner);
        for (const record of records) tell(owner, { before: undefined, after: record });
      }
    },
    list: <T extends TableName>(table: T) => Array.from(visible(table), ({ owner, stored }) => publicRecord(owner, stored) as unknown as StateRecord<T>),
    watch: <T extends TableName>(table: T, onChange: (change: StateChange<T>) => void, filter?: { networkId: string }) => {
      const watcher: Watcher = { table, networkId: filter?.networkId, call: onChange as (change: StateChange<TableName>) => void };
      const present = [...visible(table)];
      watchers.add(watcher);
      for (const { owner, stored } of present) {
        // What it does about one may change another, of which it has then been told already.
        if (owners.get(owner)?.records.get(recordId(table, stored.key)) !== stored || !concerns(watcher, stored.value!)) continue;
        call(watcher, { type: 'put', record: publicRecord(owner, stored), previous: undefined, local: owner === self });
      }
      return () => void watchers.delete(watcher);
    },
  };
}
