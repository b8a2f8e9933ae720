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
  /** Present where deletions may have been forgotten: of the changes in (from, upTo] only `records` and these sequences still stand. */
  kept?: number[] | undefined;
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
    // Accounted for: where it is missing, its deletion came and was forgotten before this word of it did.
    if (sequence <= state.upTo) continue;
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
  if (shipment.kept) {
    const standing = new Set([...shipment.kept, ...shipment.records.map(([, , sequence]) => sequence)]);
    changes.push(...discard(state, (record) => record.epoch === epoch && record.sequence > shipment.from && record.sequence <= upTo && !standing.has(record.sequence)));
    // What was forgotten there is not known here either.
    state.floor = Math.max(state.floor, upTo);
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

const BY_SEQUENCE = (a: StoredRecord, b: StoredRecord): number => a.sequence - b.sequence;

/** What somebody who is that far lacks, in the order in which it has to be taken in. */
export function shipmentsFor(owner: string, state: OwnerState, known: Progress = [0, 0]): Shipment[] {
  const [knownEpoch, knownUpTo] = known;
  const { epoch, upTo, completeAt, floor } = state;
  const from = knownEpoch === epoch ? knownUpTo : 0;
  if (knownEpoch > epoch || from >= upTo) return [];
  const forgetful = from < floor;
  const rest = { owner, epoch, completeAt };
  const wanted: StoredRecord[] = [];
  const kept: number[] = [];
  for (const record of state.records.values()) {
    if (record.epoch !== epoch || record.sequence > upTo) continue;
    if (record.sequence > from) wanted.push(record);
    else if (forgetful && record.value !== null) kept.push(record.sequence);
  }
  const records = wanted.sort(BY_SEQUENCE).map(({ table, key, sequence, value }): Shipment['records'][number] => [table, key, sequence, value]);
  return [
    ...(forgetful && from > 0 ? [{ ...rest, completeAt: 0, from: 0, upTo: from, records: [], kept: kept.sort((a, b) => a - b) }] : []),
    { ...rest, from, upTo, records, ...(forgetful && { kept: [] }) },
  ];
}

/** Spreads shipments over messages of about `limit` bytes, in order; long ones are cut by sequence. */
export function pack(shipments: readonly Shipment[], limit: number): Shipment[][] {
  const messages: Shipment[][] = [];
  let message: Shipment[] = [];
  let size = 0;
  const finish = (): void => {
    if (message.length > 0) messages.push(message);
    message = [];
    size = 0;
  };
  for (const { records, kept, ...rest } of shipments) {
    const fresh = (from: number): Shipment => ({ ...rest, from, records: [], ...(kept && { kept: [] }) });
    let piece = fresh(rest.from);
    let last: number | undefined;
    const add = (sequence: number, bytes: number): void => {
      if (size > 0 && size + bytes > limit) {
        if (last !== undefined) {
          message.push({ ...piece, upTo: last });
          piece = fresh(last);
        }
        finish();
      }
      size += bytes;
      last = sequence;
    };
    for (const sequence of kept ?? []) {
      add(sequence, SEQUENCE_BYTES);
      piece.kept!.push(sequence);
    }
    for (const record of records) {
      add(record[2], Buffer.byteLength(JSON.stringify(record)) + 1);
      piece.records.push(record);
    }
    message.push(piece);
    size += SHIPMENT_OVERHEAD;
  }
  finish();
  return messages;
}

const SHIPMENT_OVERHEAD = 120;
const SEQUENCE_BYTES = 8;

export interface DeletionLimits {
  /** Everybody knows the owner's changes up to here. */
  passed: number;
  /** On the injected clock, milliseconds. */
  now: number;
  maxAge: number;
  maxCount: number;
}

/**
 * Deletions that everybody has passed are dropped, and those that are too old, and the oldest where they are too many:
 * whoever missed them is told what stands.
 */
export function forgetDeletions(state: OwnerState, { passed, now, maxAge, maxCount }: DeletionLimits): void {
  const listed = [...state.records].filter(([, { value }]) => value === null);
  const excess = listed.length > maxCount ? new Set(listed.sort(([, a], [, b]) => BY_SEQUENCE(a, b)).slice(0, listed.length - maxCount)) : undefined;
  for (const entry of listed) {
    const [id, { epoch, sequence, deletedAt = now }] = entry;
    const known = epoch === state.epoch && sequence <= Math.min(passed, state.upTo);
    if (!known && now - deletedAt < maxAge && !excess?.has(entry)) continue;
    state.records.delete(id);
    if (epoch === state.epoch) state.floor = Math.max(state.floor, sequence);
  }
}
