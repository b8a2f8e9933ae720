/**
 * What is known of one owner's records. The owner alone writes them and numbers its changes: (epoch, sequence) orders
 * them totally, and "everything of this epoch up to here" says in two numbers how far somebody is.
 */
import type { TableName, Tables } from './state.ts';

export interface StoredRecord {
  table: TableName;
  key: string;
  epoch: number;
  sequence: number;
  /** null: deleted, and kept for a while so that others learn of it. */
  value: Tables[TableName] | null;
  /** On the injected clock. */
  deletedAt?: number;
}

export interface OwnerState {
  /** Grows with each start of the owner. */
  epoch: number;
  /** Everything of this epoch up to here is known; single later records may be. */
  upTo: number;
  /** With this sequence the owner has said all that it has to say of this epoch; 0: not yet. */
  completeAt: number;
  /** Deletions up to here are no longer listed. */
  floor: number;
  records: Map<string, StoredRecord>;
}

export const emptyOwner = (epoch = 0): OwnerState => ({ epoch, upTo: 0, completeAt: 0, floor: 0, records: new Map() });
export const recordId = (table: string, key: string): string => `${table} ${key}`;

/** How far somebody is with an owner. */
export type Progress = readonly [epoch: number, upTo: number];

/** The records of an owner whose last change is in (from, upTo], in that order. */
export interface Shipment {
  owner: string;
  epoch: number;
  from: number;
  upTo: number;
  completeAt: number;
  records: [table: TableName, key: string, sequence: number, value: Tables[TableName] | null][];
  /** For somebody who may have missed deletions that are no longer listed: the sequences of all records that exist up to upTo. */
  live?: number[] | undefined;
}

export interface Change { before: StoredRecord | undefined; after: StoredRecord | undefined }

/** Takes a shipment in; returns what changed. The same one twice changes nothing, and so does an old one. */
export function accept(state: OwnerState, shipment: Shipment, now: number): Change[] {
  const { epoch, upTo } = shipment;
  if (epoch < state.epoch) return [];
  // What the owner said in its former life stays until it has said everything anew.
  if (epoch > state.epoch) Object.assign(state, { epoch, upTo: 0, completeAt: 0, floor: 0 });

  const changes: Change[] = [];
  for (const [table, key, sequence, value] of shipment.records) {
    const id = recordId(table, key);
    const before = state.records.get(id);
    if (before?.epoch === epoch && before.sequence >= sequence) continue;
    const after: StoredRecord = { table, key, epoch, sequence, value, ...(value === null && { deletedAt: now }) };
    state.records.set(id, after);
    changes.push({ before, after });
  }
  state.completeAt = Math.max(state.completeAt, shipment.completeAt);
  if (shipment.from > state.upTo) return changes;

  state.upTo = Math.max(state.upTo, upTo);
  if (shipment.live) {
    const live = new Set(shipment.live);
    changes.push(...discard(state, (record) => record.epoch === epoch && record.value !== null && record.sequence <= upTo && !live.has(record.sequence)));
  }
  if (state.completeAt > 0 && state.upTo >= state.completeAt) changes.push(...discard(state, (record) => record.epoch < state.epoch));
  return changes;
}

function discard(state: OwnerState, isVoid: (record: StoredRecord) => boolean): Change[] {
  const changes: Change[] = [];
  for (const [id, record] of state.records) {
    if (!isVoid(record)) continue;
    state.records.delete(id);
    changes.push({ before: record, after: undefined });
  }
  return changes;
}

/** What somebody who is that far lacks; undefined when nothing. */
export function shipmentFor(owner: string, state: OwnerState, known: Progress = [0, 0]): Shipment | undefined {
  const [knownEpoch, knownUpTo] = known;
  const { epoch, upTo, completeAt, floor } = state;
  const from = knownEpoch === epoch ? knownUpTo : 0;
  if (knownEpoch > epoch || from >= upTo) return undefined;
  const current = [...state.records.values()].filter((record) => record.epoch === epoch && record.sequence <= upTo);
  const records = current.filter((record) => record.sequence > from).sort((a, b) => a.sequence - b.sequence)
    .map(({ table, key, sequence, value }): Shipment['records'][number] => [table, key, sequence, value]);
  const live = from < floor ? current.filter((record) => record.value !== null).map((record) => record.sequence) : undefined;
  return { owner, epoch, from, upTo, completeAt, records, ...(live && { live }) };
}

/** Spreads shipments over messages of about `limit` bytes; long ones are cut by sequence. */
export function pack(shipments: readonly Shipment[], limit: number): Shipment[][] {
  const messages: Shipment[][] = [];
  let message: Shipment[] = [];
  let size = 0;
  const finish = (): void => {
    if (message.length > 0) messages.push(message);
    message = [];
    size = 0;
  };
  for (const { live, records, ...rest } of shipments) {
    let piece: Shipment = { ...rest, records: [] };
    for (const record of records) {
      const bytes = Buffer.byteLength(JSON.stringify(record)) + 1;
      if (size > 0 && size + bytes > limit) {
        const upTo = piece.records.at(-1)?.[2];
        if (upTo !== undefined) {
          message.push({ ...piece, upTo });
          piece = { ...rest, from: upTo, records: [] };
        }
        finish();
      }
      piece.records.push(record);
      size += bytes;
    }
    message.push({ ...piece, ...(live && { live }) });
    size += SHIPMENT_OVERHEAD + (live?.length ?? 0) * SEQUENCE_BYTES;
  }
  finish();
  return messages;
}

const SHIPMENT_OVERHEAD = 120;
const SEQUENCE_BYTES = 6;

/** Deletions older than `maxAge` are dropped; whoever missed them is told what exists. */
export function forgetDeletions(state: OwnerState, now: number, maxAge: number): void {
  for (const [id, record] of state.records) {
    if (record.value !== null || now - (record.deletedAt ?? now) < maxAge) continue;
    state.records.delete(id);
    if (record.epoch === state.epoch) state.floor = Math.max(state.floor, record.sequence);
  }
}
