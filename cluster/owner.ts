/**
 * What is known of one owner's records. The owner alone writes them and numbers its changes: (epoch, sequence) orders
 * them totally, and "everything of this epoch up to here" says in two numbers how far somebody is.
 */
import { Records, recordId, type StoredRecord } from './records.ts';
import type { TableName, Tables } from './state.ts';

export interface OwnerState {
  /** Grows with each start of the owner. */
  epoch: number;
  /** Everything of this epoch up to here is known; single later records may be. */
  upTo: number;
  /** With this sequence the owner has said all that it has to say of this epoch; 0: not yet. */
  completeAt: number;
  /** Deletions up to here are no longer listed. */
  floor: number;
  records: Records;
}

export const emptyOwner = (epoch = 0): OwnerState => ({ epoch, upTo: 0, completeAt: 0, floor: 0, records: new Records() });

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
    const before = state.records.get(recordId(table, key));
    if (before?.epoch === epoch && before.sequence >= sequence) continue;
    const after: StoredRecord = { table, key, epoch, sequence, value, ...(value === null && { deletedAt: now }) };
    state.records.put(after);
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
  for (const record of state.records.values()) {
    if (!isVoid(record)) continue;
    state.records.delete(recordId(record.table, record.key));
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

/** Spreads shipments over messages of about `limit` bytes, in order; long ones are cut by sequence. Each is made when it is asked for. */
export function* pack(shipments: readonly Shipment[], limit: number): Generator<Shipment[]> {
  let message: Shipment[] = [];
  let size = 0;
  for (const { records, kept, ...rest } of shipments) {
    const fresh = (from: number): Shipment => ({ ...rest, from, records: [], ...(kept && { kept: [] }) });
    let piece = fresh(rest.from);
    let last: number | undefined;
    for (const item of [...kept ?? [], ...records]) {
      const [sequence, bytes] = typeof item === 'number' ? [item, SEQUENCE_BYTES] : [item[2], Buffer.byteLength(JSON.stringify(item)) + 1];
      if (size > 0 && size + bytes > limit) {
        if (last !== undefined) {
          message.push({ ...piece, upTo: last });
          piece = fresh(last);
        }
        yield message;
        message = [];
        size = 0;
      }
      size += bytes;
      last = sequence;
      if (typeof item === 'number') piece.kept!.push(item);
      else piece.records.push(item);
    }
    message.push(piece);
    size += SHIPMENT_OVERHEAD;
  }
  if (message.length > 0) yield message;
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
  const { records } = state;
  const listed = Array.from(records.deletions, (id) => records.get(id)!);
  const excess = listed.length > maxCount ? new Set([...listed].sort(BY_SEQUENCE).slice(0, listed.length - maxCount)) : undefined;
  for (const record of listed) {
    const { table, key, epoch, sequence, deletedAt = now } = record;
    const known = epoch === state.epoch && sequence <= Math.min(passed, state.upTo);
    if (!known && now - deletedAt < maxAge && !excess?.has(record)) continue;
    records.delete(recordId(table, key));
    if (epoch === state.epoch) state.floor = Math.max(state.floor, sequence);
  }
}
