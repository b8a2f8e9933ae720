/** What is known of one owner's records: by (epoch, sequence), with what was deleted kept for a while. */
import type { TableName, Tables } from './state.ts';

export interface StoredRecord { table: TableName; key: string; epoch: number; sequence: number; /** null: deleted. */ value: Tables[TableName] | null; deletedAt?: number }

export interface OwnerState {
  /** Grows with each start of the owner. */
  epoch: number;
  /** Everything of this epoch up to here is known. */
  upTo: number;
  /** With this sequence the owner has said all it has to say of this epoch; 0: not yet. */
  completeAt: number;
  /** Deletions up to here are no longer listed. */
  floor: number;
  records: Map<string, StoredRecord>;
}

export const emptyOwner = (epoch = 0): OwnerState => ({ epoch, upTo: 0, completeAt: 0, floor: 0, records: new Map() });
export const recordId = (table: string, key: string): string => `${table} ${key}`;

/** Of an owner: the records with sequences in (from, upTo], or with `full` everything up to there. */
export interface Shipment {
  owner: string;
  epoch: number;
  from: number;
  upTo: number;
  completeAt: number;
  full: boolean;
  records: [table: TableName, key: string, sequence: number, value: Tables[TableName] | null][];
}

export interface Change { before: StoredRecord | undefined; after: StoredRecord | undefined }

/** Takes a shipment in; returns what changed. The same one twice changes nothing. */
export function accept(state: OwnerState, shipment: Shipment, now: number): Change[] {
  if (shipment.epoch < state.epoch) return [];
  if (shipment.epoch > state.epoch) {
    // What the owner said in its former life stays until it has said everything anew.
    Object.assign(state, { epoch: shipment.epoch, upTo: 0, completeAt: 0, floor: 0 });
  }
  const changes: Change[] = [];
  const present = new Set<string>();
  for (const [table, key, sequence, value] of shipment.records) {
    const id = recordId(table, key);
    present.add(id);
    const before = state.records.get(id);
    if (before && before.epoch === shipment.epoch && before.sequence >= sequence) continue;
    const after: StoredRecord = { table, key, epoch: shipment.epoch, sequence, value, ...(value === null && { deletedAt: now }) };
    state.records.set(id, after);
    changes.push({ before, after });
  }
  if (shipment.full) {
    for (const [id, record] of state.records) {
      if (record.epoch !== shipment.epoch || record.sequence > shipment.upTo || present.has(id)) continue;
      state.records.delete(id);
      changes.push({ before: record, after: undefined });
    }
  }
  if (shipment.full || shipment.from <= state.upTo) state.upTo = Math.max(state.upTo, shipment.upTo);
  state.completeAt = Math.max(state.completeAt, shipment.completeAt);
  if (state.completeAt > 0 && state.upTo >= state.completeAt) {
    for (const [id, record] of state.records) {
      if (record.epoch >= state.epoch) continue;
      state.records.delete(id);
      changes.push({ before: record, after: undefined });
    }
  }
  return changes;
}

/** What somebody who knows (epoch, upTo) lacks; undefined when nothing. */
export function shipmentFor(owner: string, state: OwnerState, known: { epoch: number; upTo: number; completeAt: number } | undefined): Shipment | undefined {
  const same = known?.epoch === state.epoch;
  if (known && known.epoch > state.epoch) return undefined;
  const from = same ? known.upTo : 0;
  if (same && from >= state.upTo && known.completeAt >= state.completeAt) return undefined;
  const full = from < state.floor;
  const records = [...state.records.values()]
    .filter((record) => record.epoch === state.epoch && (full || record.sequence > from) && !(full && record.value === null))
    .map(({ table, key, sequence, value }): Shipment['records'][number] => [table, key, sequence, value]);
  return { owner, epoch: state.epoch, from, upTo: state.upTo, completeAt: state.completeAt, full, records };
}

/** Deletions older than `maxAge` are dropped; whoever missed them gets everything anew. */
export function forgetDeletions(state: OwnerState, now: number, maxAge: number): void {
  for (const [id, record] of state.records) {
    if (record.value !== null || now - (record.deletedAt ?? now) < maxAge) continue;
    state.records.delete(id);
    if (record.epoch === state.epoch) state.floor = Math.max(state.floor, record.sequence);
  }
}
