/**
 * The tables of soft state on top of gossip. A change is sent at once to every live member; what is lost on the way is
 * found by comparing digests (owner → epoch, sequence) with a random member every few seconds, and only that is shipped.
 */
import type { Clock } from '../base/clock.ts';
import { errorText } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';
import type { Random } from '../base/random.ts';
import type { Gossip } from '../gossip/gossip.ts';
import type { Member } from '../gossip/members.ts';
import type { LocalStore } from '../store/store.ts';
import { accept, emptyOwner, forgetDeletions, recordId, shipmentFor, type Change, type OwnerState, type Shipment, type StoredRecord } from './owner.ts';
import type { SoftState, StateChange, StateRecord, TableName, Tables } from './state.ts';
import { decodeMessage, encodeMessage, type Digest, type StateMessage } from './wire.ts';

const DIGEST_INTERVAL_MS = 2_000;
const SAVE_DELAY_MS = 1_000;
const DELETION_AGE_MS = 600_000;
/** Beyond this many members a change goes to as many at random, and on by digests. */
const DIRECT_MEMBERS = 32;

export interface SoftStateOptions { self: string; clock: Clock; random: Random; log: Logger; local: LocalStore }

export interface ClusterState extends SoftState {
  /** Everything this node had to say after its start has been said: what it said in a former life and not again is void. */
  ready(): void;
  /** From here on it speaks through this gossip. */
  attach(gossip: Gossip): void;
  onMessage(message: Buffer, from: string | undefined): void;
  onMember(event: 'join' | 'leave' | 'update' | 'suspect', member: Member): void;
  /** For gossip's state exchange. */
  localState(): Uint8Array;
  mergeState(state: Buffer): void;
  close(): void;
}

interface Watcher { table: TableName; call(change: StateChange<TableName>): void }

export function createSoftState({ self, clock, random, log, local }: SoftStateOptions): ClusterState {
  const epoch = Number(local.get('state/epoch') ?? 0) + 1;
  local.put('state/epoch', String(epoch));
  const owners = new Map<string, OwnerState>([[self, emptyOwner(epoch)]]);
  const hidden = new Set<string>();
  const watchers = new Set<Watcher>();
  const dirty = new Set<string>();
  const own = owners.get(self)!;
  let unsent: { from: number } | undefined;
  let gossip: Gossip | undefined;
  let closed = false;

  for (const { key, value } of local.list('state/owners/')) {
    const stored = JSON.parse(value) as Omit<OwnerState, 'records'> & { records: StoredRecord[] };
    owners.set(key.slice('state/owners/'.length), { ...stored, records: new Map(stored.records.map((record) => [recordId(record.table, record.key), record])) });
  }

  // Telling watchers --------------------------------------------------------------------------------------------------

  const publicRecord = (owner: string, { table, key, value }: StoredRecord): StateRecord<TableName> => ({ table, key, owner, value: value! });

  function tell(owner: string, { before, after }: Change): void {
    if (hidden.has(owner)) return;
    const now = after && after.value !== null ? after : undefined;
    const was = before && before.value !== null ? before : undefined;
    if (!now && !was) return;
    if (now && was && JSON.stringify(now.value) === JSON.stringify(was.value)) return;
    const record = publicRecord(owner, (now ?? was)!);
    const change: StateChange<TableName> = now
      ? { type: 'put', record, previous: was?.value ?? undefined, local: owner === self }
      : { type: 'delete', record, local: owner === self };
    for (const watcher of watchers) {
      if (watcher.table !== record.table) continue;
      try {
        watcher.call(change);
      } catch (error) {
        log.error({ detail: errorText(error), table: record.table }, 'a change of soft state could not be acted on');
      }
    }
  }

  function setHidden(owner: string, hide: boolean): void {
    if (hidden.has(owner) === hide) return;
    const records = [...owners.get(owner)?.records.values() ?? []];
    if (hide) {
      for (const record of records) tell(owner, { before: record, after: undefined });
      hidden.add(owner);
    } else {
      hidden.delete(owner);
      for (const record of records) tell(owner, { before: undefined, after: record });
    }
  }

  function drop(owner: string): void {
    setHidden(owner, true);
    owners.delete(owner);
    hidden.delete(owner);
    local.delete(`state/owners/${owner}`);
  }

  // Sending -----------------------------------------------------------------------------------------------------------

  const live = (): Member[] => gossip?.members().filter((member) => member.name !== self && (member.state === 'alive' || member.state === 'suspect')) ?? [];

  function send(to: string, message: StateMessage): void {
    const data = encodeMessage(message);
    if (!gossip) return;
    if (data.length <= gossip.room) gossip.sendBestEffort(to, data);
    else gossip.sendReliable(to, data).catch((error: unknown) => log.debug({ to, detail: errorText(error) }, 'soft state could not be sent; found again by the next digest'));
  }

  function write(table: TableName, key: string, value: Tables[TableName] | null): void {
    const before = own.records.get(recordId(table, key));
    if (before?.epoch === epoch && JSON.stringify(before.value) === JSON.stringify(value)) return;
    if (!before && value === null) return;
    const after: StoredRecord = { table, key, epoch, sequence: ++own.upTo, value, ...(value === null && { deletedAt: clock.now() }) };
    own.records.set(recordId(table, key), after);
    tell(self, { before, after });
    later(own.upTo - 1);
  }

  /** All changes of a turn go together. */
  function later(from: number): void {
    if (unsent) return;
    unsent = { from };
    queueMicrotask(() => {
      const shipment = unsent && shipmentFor(self, own, { epoch, upTo: unsent.from, completeAt: -1 });
      unsent = undefined;
      if (!shipment) return;
      const members = live();
      const chosen = members.length <= DIRECT_MEMBERS ? members : Array.from({ length: DIRECT_MEMBERS }, () => members[random.int(members.length)]!);
      for (const member of chosen) send(member.name, { kind: 'records', shipments: [shipment] });
    });
  }

  // Receiving ---------------------------------------------------------------------------------------------------------

  const digest = (): Digest => Object.fromEntries([...owners].map(([owner, { epoch: known, upTo, completeAt }]) => [owner, [known, upTo, completeAt]]));

  function take(shipment: Shipment): void {
    // Nobody but us speaks for us.
    if (shipment.owner === self) return;
    const state = owners.get(shipment.owner) ?? emptyOwner();
    owners.set(shipment.owner, state);
    for (const change of accept(state, shipment, clock.now())) tell(shipment.owner, change);
    save(shipment.owner);
  }

  /** What the other side lacks goes to it; what we lack is asked for by our own digest. */
  function compare(theirs: Digest, from: string, ask: boolean): void {
    const shipments: Shipment[] = [];
    let lacking = false;
    for (const [owner, state] of owners) {
      const known = theirs[owner];
      const shipment = shipmentFor(owner, state, known && { epoch: known[0], upTo: known[1], completeAt: known[2] });
      if (shipment) shipments.push(shipment);
    }
    for (const [owner, [theirEpoch, theirUpTo, theirComplete]] of Object.entries(theirs)) {
      const mine = owners.get(owner);
      if (owner === self && theirEpoch > epoch) outbid(theirEpoch);
      if (owner !== self && (!mine || theirEpoch > mine.epoch || (theirEpoch === mine.epoch && (theirUpTo > mine.upTo || theirComplete > mine.completeAt)))) lacking = true;
    }
    if (shipments.length > 0) send(from, { kind: 'records', shipments });
    if (lacking && ask) send(from, { kind: 'digest', digest: digest(), ask: false });
  }

  /** This node's disk is older than what it once told others: its word would not count. The next start speaks above it. */
  function outbid(seen: number): void {
    if (Number(local.get('state/epoch')) > seen) return;
    local.put('state/epoch', String(seen));
    log.error({ seen, epoch }, 'this node\'s state is older than what the others know of it: restart weftd');
  }

  function handle(message: StateMessage, from: string | undefined): void {
    if (message.kind === 'records') message.shipments.forEach(take);
    else if (from !== undefined) compare(message.digest, from, message.ask);
  }

  // On disk -----------------------------------------------------------------------------------------------------------

  function save(owner: string): void {
    if (dirty.size === 0) clock.setTimeout(flush, SAVE_DELAY_MS);
    dirty.add(owner);
  }

  function flush(): void {
    if (closed) return;
    local.transaction(() => {
      for (const owner of dirty) {
        const state = owners.get(owner);
        if (state) local.put(`state/owners/${owner}`, JSON.stringify({ ...state, records: [...state.records.values()] }));
      }
    });
    dirty.clear();
  }

  function round(): void {
    if (closed) return;
    for (const state of owners.values()) forgetDeletions(state, clock.now(), DELETION_AGE_MS);
    const members = live();
    const partner = members[random.int(members.length)];
    if (partner) send(partner.name, { kind: 'digest', digest: digest(), ask: true });
    clock.setTimeout(round, DIGEST_INTERVAL_MS);
  }
  clock.setTimeout(round, random.float() * DIGEST_INTERVAL_MS);

  return {
    self,
    publish: (table, key, value) => write(table, key, value),
    withdraw: (table, key) => write(table, key, null),
    list: <T extends TableName>(table: T) => [...owners].flatMap(([owner, { records }]) =>
      hidden.has(owner) ? [] : [...records.values()].filter((record) => record.table === table && record.value !== null).map((record) => publicRecord(owner, record) as unknown as StateRecord<T>)),
    watch: <T extends TableName>(table: T, onChange: (change: StateChange<T>) => void) => {
      const watcher: Watcher = { table, call: onChange as (change: StateChange<TableName>) => void };
      for (const [owner, { records }] of owners) {
        if (hidden.has(owner)) continue;
        for (const record of records.values()) {
          if (record.table === table && record.value !== null) watcher.call({ type: 'put', record: publicRecord(owner, record), previous: undefined, local: owner === self });
        }
      }
      watchers.add(watcher);
      return () => void watchers.delete(watcher);
    },
    members: () => gossip?.members().map((member) => ({ id: member.name, name: member.meta.toString() || member.name, state: member.state, address: member.address.host })) ?? [],
    ready: () => {
      own.completeAt = Math.max(1, own.upTo);
      own.upTo = own.completeAt;
      later(own.upTo - 1);
    },
    attach: (next) => (gossip = next),
    onMessage: (data, from) => {
      const message = decodeMessage(data);
      if (message) handle(message, from);
      else log.debug({ from }, 'a message about soft state made no sense');
    },
    onMember: (event, member) => {
      if (member.name === self) return;
      if (event === 'join') {
        setHidden(member.name, false);
        send(member.name, { kind: 'digest', digest: digest(), ask: true });
      } else if (event === 'leave') {
        if (member.state === 'left') drop(member.name);
        else setHidden(member.name, true);
      }
    },
    // Everything at once: a joiner knows all after its first exchange.
    localState: () => encodeMessage({ kind: 'records', shipments: [...owners].flatMap(([owner, state]) => shipmentFor(owner, state, undefined) ?? []) }),
    mergeState: (data) => {
      const message = decodeMessage(data);
      if (message) handle(message, undefined);
    },
    close: () => {
      flush();
      closed = true;
    },
  };
}
