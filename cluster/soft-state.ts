/**
 * The tables of soft state on top of gossip. A change is sent at once to the live members (in large clusters to those on
 * its network, who pass it on), who are asked a moment later whether they have it; whatever else is lost is found by
 * comparing digests (owner → epoch, sequence) with a random member every two seconds, and only that is sent again.
 */
import type { Clock } from '../base/clock.ts';
import type { Logger } from '../base/log.ts';
import { shuffle, type Random } from '../base/random.ts';
import type { Delegate, Gossip, Member, MemberEvent } from '../gossip/gossip.ts';
import type { LocalStore } from '../store/store.ts';
import { createEarlyShipments } from './early.ts';
import { accept, emptyOwner, forgetDeletions, pack, shipmentsFor, type OwnerState, type Shipment } from './owner.ts';
import { createOutbox, type Outbox } from './outbox.ts';
import { createProgressBook } from './progress.ts';
import { recordId, type StoredRecord } from './records.ts';
import { createSavedOwners } from './saved.ts';
import { MAX_RECORD_BYTES, type SoftState, type TableName, type Tables } from './state.ts';
import { createView } from './view.ts';
import { decodeMessage, encodeMessage, type Digest, type StateMessage } from './wire.ts';

const DIGEST_INTERVAL_MS = 2_000;
const ABSENCE_MS = 86_400_000;
/** Of each owner, for those that are away. */
const MAX_DELETIONS = 10_000;
/** So long after a change its receivers are asked whether they have it: a lost packet costs this, and not the wait for a digest. */
const CONFIRM_MS = 200;
/** Bytes of a message on a stream; small enough to be read in less than a millisecond. */
const MESSAGE_BYTES = 32 << 10;
/** A change goes to so many directly; in a larger cluster they pass it on. */
const MAX_TARGETS = 32;
/** Packets per turn of the event loop. */
const SENDS_PER_TURN = 16;
/** Owners whose deletions are compared with what each member knows: of 200 members, 10 µs each. */
const OWNERS_PER_TURN = 16;
/** An owner that no live member of the cluster has heard of for so long is hidden. */
const ABSENT_HIDE_MS = 60_000;

export interface SoftStateOptions {
  /** This node's id, which is also its name in gossip. */
  self: string;
  clock: Clock;
  random: Random;
  log: Logger;
  local: LocalStore;
  /** How long a member that is away is waited for: what it wrote is kept, and what was deleted meanwhile is remembered. Who is away for longer starts over. Milliseconds. Default: a day. */
  absenceMs?: number | undefined;
}

export interface ClusterState extends SoftState {
  /** Everything this node has to say after its start has been said: what it said in a former life and not again is void. */
  ready(): void;
  /** What gossip carries for it. */
  readonly delegate: Delegate;
  /** From here on it speaks through this gossip. To be called once. */
  attach(gossip: Gossip): void;
  /** Messages that were of another version or made no sense, and records that this version does not know. */
  readonly ignored: number;
  /** Deletions that are kept for members that have not heard of them. */
  readonly deletionsKept: number;
  close(): void;
}

export function createSoftState({ self, clock, random, log, local, absenceMs = ABSENCE_MS }: SoftStateOptions): ClusterState {
  // Above all former epochs; the clock's seconds help when the disk was put back to an older state.
  const own = emptyOwner(Math.max(Number(local.get('state/epoch') ?? 0) + 1, Math.floor(clock.wallNow() / 1000)));
  local.put('state/epoch', String(own.epoch));
  const owners = new Map<string, OwnerState>();
  const saved = createSavedOwners({ owners, clock, log, local });
  owners.set(self, own);
  const view = createView({ self, owners, log });
  const progress = createProgressBook();
  const early = createEarlyShipments(clock);
  const absentSince = new Map<string, number>();
  let outbox: Outbox | undefined;
  let unsentFrom: number | undefined;
  let confirming = false;
  let gossip: Gossip | undefined;
  let ignored = 0;
  let closed = false;

  const live = (): Member[] => gossip?.members().filter((member) => member.name !== self && (member.state === 'alive' || member.state === 'suspect')) ?? [];
  /** Others' word counts for members only, or what one node forgot would come back from the next for ever. */
  const isKnown = (owner: string): boolean => owner === self || (gossip?.member(owner)?.state ?? 'left') !== 'left';

  // Own records -------------------------------------------------------------------------------------------------------

  function write(table: TableName, key: string, value: Tables[TableName] | null): void {
    const before = own.records.get(recordId(table, key));
    const text = JSON.stringify(value);
    if (before ? JSON.stringify(before.value) === text : value === null) return;
    if (Buffer.byteLength(text) > MAX_RECORD_BYTES) throw new RangeError(`a record of soft state may have ${MAX_RECORD_BYTES} bytes`);
    const after: StoredRecord = { table, key, epoch: own.epoch, sequence: ++own.upTo, value, ...(value === null && { deletedAt: clock.now() }) };
    own.records.put(after);
    sendSoon(after.sequence - 1);
    view.tell(self, { before, after });
  }

  /** All changes of a turn go together. */
  function sendSoon(from: number): void {
    if (unsentFrom !== undefined) {
      unsentFrom = Math.min(unsentFrom, from);
      return;
    }
    unsentFrom = from;
    queueMicrotask(() => {
      const unsent = shipmentsFor(self, own, [own.epoch, unsentFrom!]);
      unsentFrom = undefined;
      if (!closed && unsent.length > 0) sendToAll(unsent);
    });
  }

  /** The others remember a later life of this node than it does itself: everything is said anew above that. */
  function outbid(seen: number): void {
    log.warn({ epoch: own.epoch, seen }, 'this node\'s disk is older than what the others know of it; everything is said anew');
    const records = [...own.records.values()].filter((record) => record.value !== null);
    Object.assign(own, { epoch: seen + 1, upTo: 0, floor: 0 });
    local.put('state/epoch', String(own.epoch));
    own.records.clear();
    for (const record of records) own.records.put({ ...record, epoch: own.epoch, sequence: ++own.upTo });
    if (own.completeAt > 0) own.completeAt = ++own.upTo;
    sendSoon(0);
  }

  // Sending -----------------------------------------------------------------------------------------------------------

  /** Those on the networks of these records first. */
  function targetsFor(shipments: readonly Shipment[]): Member[] {
    const all = live();
    if (all.length <= MAX_TARGETS) return all;
    const networks = [...new Set(shipments.flatMap(({ records }) => records.flatMap(([, , , value]) => (value && 'networkId' in value ? [value.networkId] : []))))];
    const [near, far]: [Member[], Member[]] = [[], []];
    for (const member of all) (networks.some((network) => owners.get(member.name)?.records.isOn(network)) ? near : far).push(member);
    return [...shuffle(near, random), ...shuffle(far, random)].slice(0, MAX_TARGETS);
  }

  function sendToAll(shipments: readonly Shipment[]): void {
    const messages = [...encodeRecords(shipments)];
    const targets = targetsFor(shipments);
    if (messages.length === 1) passOn(messages[0]!, shipments);
    const some = (): void => {
      for (const member of targets.splice(0, SENDS_PER_TURN)) outbox?.send(member.name, ...messages);
      if (targets.length > 0) clock.setTimeout(some, 0);
    };
    some();
    confirmSoon();
  }

  /** Says in a few bytes how far this node's records go; who lacks some asks for them. Once for all changes of the time. */
  function confirmSoon(): void {
    if (confirming) return;
    confirming = true;
    clock.setTimeout(() => {
      confirming = false;
      if (closed) return;
      const all = live();
      for (const { name } of all.length <= MAX_TARGETS ? all : shuffle(all, random).slice(0, MAX_TARGETS)) sendDigest(name, { [self]: [own.epoch, own.upTo] }, { whole: false, reply: true });
    }, CONFIRM_MS);
  }

  function* encodeRecords(shipments: readonly Shipment[]): Generator<Buffer> {
    for (const message of pack(shipments, MESSAGE_BYTES)) yield encodeMessage({ kind: 'records', from: self, shipments: message });
  }

  /** In a cluster too large for its owner to tell everybody. What does not fit into a packet is left to the digests. */
  function passOn(data: Buffer, [first]: readonly Shipment[]): void {
    if (gossip && first && data.length <= gossip.room && live().length > MAX_TARGETS) gossip.broadcast(data, `${first.owner} ${first.epoch} ${first.upTo}`);
  }

  const sendDigest = (to: string, digest: Digest, options: { whole: boolean; reply: boolean }): void =>
    outbox?.send(to, encodeMessage({ kind: 'digest', from: self, owners: digest, ...options }));

  /** One delivery at a time to each: what it turns out to lack after that, the next digest shows. */
  function ship(to: string, shipments: readonly Shipment[]): void {
    if (outbox && !outbox.isBusy(to)) outbox.ship(to, encodeRecords(shipments));
  }

  // Receiving ---------------------------------------------------------------------------------------------------------

  function wholeDigest(): Digest {
    const digest: Digest = {};
    for (const [owner, { epoch, upTo }] of owners) if (isKnown(owner)) digest[owner] = [epoch, upTo];
    return digest;
  }

  /** What they lack is sent to them; what this node lacks is asked for by how far it is. */
  function compare({ from, owners: theirs, whole, reply }: StateMessage & { kind: 'digest' }): void {
    if (whole) progress.note(from, theirs);
    const shipments: Shipment[] = [];
    for (const owner of whole ? owners.keys() : Object.keys(theirs)) {
      const state = owners.get(owner);
      if (state && isKnown(owner)) shipments.push(...shipmentsFor(owner, state, theirs[owner]));
    }
    if (shipments.length > 0) ship(from, shipments);

    const [lastEpoch, lastUpTo] = theirs[self] ?? [0, 0];
    if (lastEpoch > own.epoch || (lastEpoch === own.epoch && lastUpTo > own.upTo)) outbid(lastEpoch);
    if (!reply) return;
    const lacking: Digest = {};
    for (const [owner, [epoch, upTo]] of Object.entries(theirs)) {
      const mine = owners.get(owner) ?? emptyOwner();
      if (owner !== self && isKnown(owner) && (epoch > mine.epoch || (epoch === mine.epoch && upTo > mine.upTo))) lacking[owner] = [mine.epoch, mine.upTo];
    }
    if (Object.keys(lacking).length > 0) sendDigest(from, lacking, { whole: false, reply: false });
  }

  /** True when it brought something new. */
  function take(shipment: Shipment, from: string): boolean {
    const { owner } = shipment;
    // Nobody speaks for this node; and of a node that nobody knows, only the node itself.
    if (owner === self) return false;
    if (!isKnown(owner) && !(owner === from && !gossip?.member(owner))) {
      if (!gossip?.member(owner)) early.keep(shipment);
      return false;
    }
    const state = owners.get(owner) ?? emptyOwner();
    owners.set(owner, state);
    const changes = accept(state, shipment, clock.now());
    for (const change of changes) view.tell(owner, change);
    const changed = changes.map(({ before, after }) => (after ?? before)!);
    // A node that is killed the moment after it met another must know whose the way is that it then finds in its kernel.
    saved.save(owner, changed.map(({ table, key }) => recordId(table, key)), changed.some(({ table }) => table === 'node'));
    return changes.length > 0;
  }

  function receive(data: Buffer): void {
    const decoded = closed ? undefined : decodeMessage(data);
    ignored += decoded?.leftOut ?? 1;
    if (!decoded) return log.debug({ version: data[0] }, 'a message about soft state is of another version or makes no sense');
    const { message, leftOut } = decoded;
    if (leftOut > 0) log.warn({ from: message.from, leftOut }, 'records of soft state make no sense to this version and were left out');
    if (message.kind === 'digest') return compare(message);
    const isNew = message.shipments.map((shipment) => take(shipment, message.from));
    if (isNew.includes(true)) passOn(data, message.shipments);
  }

  // Members -----------------------------------------------------------------------------------------------------------

  function forget(owner: string): void {
    view.setHidden(owner, true);
    owners.delete(owner);
    absentSince.delete(owner);
    progress.forget(owner);
    view.setHidden(owner, false);
    saved.forget(owner);
  }

  function onMember({ type, member }: MemberEvent): void {
    if (member.name === self) return;
    if (type === 'join') {
      view.setHidden(member.name, false);
      for (const shipment of early.take(member.name)) take(shipment, member.name);
      // Each speaks with the newcomer about the two of them: all together it is everything, once.
      const { epoch, upTo } = owners.get(member.name) ?? emptyOwner();
      sendDigest(member.name, { [self]: [own.epoch, own.upTo], [member.name]: [epoch, upTo] }, { whole: false, reply: true });
    } else if (type === 'leave') {
      if (member.state === 'left') forget(member.name);
      else view.setHidden(member.name, true);
    }
  }

  /** Owners of saved records that turn out to be no members. While nobody is there to tell, they stay. */
  function judgeAbsent(): void {
    for (const owner of owners.keys()) {
      if (owner === self || gossip?.member(owner)) {
        absentSince.delete(owner);
        continue;
      }
      const since = absentSince.get(owner) ?? clock.now();
      absentSince.set(owner, since);
      if (clock.now() - since > absenceMs) forget(owner);
      else if (clock.now() - since > ABSENT_HIDE_MS) view.setHidden(owner, true);
    }
  }

  /** Deletions that have been kept for long enough. */
  function forgetOld(): void {
    const present = gossip?.members().flatMap(({ name, state }) => (name === self || state === 'left' ? [] : [name])) ?? [];
    const waiting = [...owners].filter(([, { records }]) => records.deletions.size > 0);
    const some = (): void => {
      for (const [owner, state] of waiting.splice(0, OWNERS_PER_TURN)) {
        forgetDeletions(state, { passed: progress.passed(owner, state.epoch, present), now: clock.now(), maxAge: absenceMs, maxCount: MAX_DELETIONS });
      }
      if (waiting.length > 0 && !closed) clock.setTimeout(some, 0);
    };
    some();
  }

  function round(): void {
    if (closed) return;
    forgetOld();
    const members = live();
    const partner = members[random.int(members.length)];
    if (partner) {
      judgeAbsent();
      sendDigest(partner.name, wholeDigest(), { whole: true, reply: true });
    }
    clock.setTimeout(round, DIGEST_INTERVAL_MS);
  }
  clock.setTimeout(round, random.float() * DIGEST_INTERVAL_MS);

  return {
    self,
    publish: (table, key, value) => write(table, key, value),
    withdraw: (table, key) => write(table, key, null),
    list: (table) => view.list(table),
    watch: (table, onChange, filter) => view.watch(table, onChange, filter),
    members: () => gossip?.members().map((member) => ({ id: member.name, name: member.meta.toString() || member.name, state: member.state, address: member.address.host })) ?? [],
    ready: () => {
      own.completeAt = ++own.upTo;
      sendSoon(own.upTo - 1);
    },
    attach: (next) => {
      gossip = next;
      outbox = createOutbox(next, log);
      gossip.watch(onMember);
    },
    delegate: {
      onMessage: receive,
      localState: () => encodeMessage({ kind: 'digest', from: self, owners: wholeDigest(), whole: true, reply: false }),
      mergeState: receive,
    },
    get ignored() { return ignored; },
    get deletionsKept() {
      let count = 0;
      for (const { records } of owners.values()) count += records.deletions.size;
      return count;
    },
    close: () => {
      saved.flush();
      closed = true;
      outbox?.close();
    },
  };
}
