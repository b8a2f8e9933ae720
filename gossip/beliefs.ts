/** What this node believes of the members and says of itself: takes words of life and death in, passes news on. */
import type { Clock } from '../base/clock.ts';
import type { Logger } from '../base/log.ts';
import type { Awareness } from './awareness.ts';
import { Members, addressKey, isLive, sameAddress, type Member } from './members.ts';
import { encodeAccusation, encodeAlive, type Accusation, type Address, type Alive, type NodeRecord } from './messages.ts';
import type { BroadcastQueue } from './queue.ts';
import { startSuspicion, suspicionLimits, type Suspicion } from './suspicion.ts';
import type { Timers } from './timers.ts';
import type { Tuning } from './tuning.ts';
import { isSane, type Versions } from './versions.ts';

/**
 * join: it is alive, and was not before. suspect: accused, not yet failed. recover: alive again after being suspected.
 * update: other meta data. leave: failed (state dead) or gone on purpose (state left).
 */
export interface MemberEvent { type: 'join' | 'suspect' | 'recover' | 'update' | 'leave'; member: Member }

export interface BeliefsOptions {
  name: string;
  /** Where others reach this node. */
  address: Address;
  meta: Buffer;
  versions: Versions;
  tuning: Tuning;
  clock: Clock;
  timers: Timers;
  log: Logger;
  queue: BroadcastQueue;
  awareness: Awareness;
  notify(event: MemberEvent): void;
  /** Members of a former life. */
  known: readonly Member[];
  /** At once, to one node. */
  tell(to: Address, message: Buffer): void;
  /** Whether a node may be a member. */
  admits(word: Alive): boolean;
  /** Another node has the name of a live member. */
  onConflict(known: Member, word: Alive): void;
}

export interface Beliefs {
  readonly members: Members;
  others(...states: Member['state'][]): Member[];
  alive(word: Alive): void;
  suspect(word: Accusation): void;
  dead(word: Accusation): void;
  /** Whom the other side of a state exchange is told of. */
  spokenOf(): Member[];
  /** What it told. True when it was news. */
  merge(records: readonly NodeRecord[]): boolean;
  /** `done` is called once the new data was passed on often enough. */
  updateMeta(meta: Buffer, done: () => void): void;
  /** From now on this node has left; returns the message that says so. */
  leave(): Buffer;
  /** Members that went long ago are forgotten. */
  reap(): void;
}

export function createBeliefs(options: BeliefsOptions): Beliefs {
  const { name, address, versions, tuning, clock, timers, log, queue, awareness, known: former, notify, tell, admits, onConflict } = options;
  const members = new Members();
  const suspicions = new Map<string, Suspicion>();
  /** Who else wants the name of a live member: it gets it when that one fails. */
  const claims = new Map<string, Alive>();
  let { meta } = options;
  let leaving = false;
  let namesakeSeen = false;
  let changes = 0;
  // A restarted node must outbid whatever was said of it before: seconds grow faster than refutations.
  let incarnation = Math.floor(clock.wallNow() / 1000) >>> 0;

  const own = (): Alive => ({ incarnation, node: name, address, meta, versions });
  const others = (...states: Member['state'][]): Member[] => members.all().filter((member) => member.name !== name && states.includes(member.state));

  /** `isOwn`: it is the member's own word, and need not be told to it. */
  function announce(type: MemberEvent['type'], member: Member, message: Buffer, isOwn: boolean): void {
    queue.add(message, { about: member.name, ...(isOwn && { origin: addressKey(member.address) }) });
    changes++;
    notify({ type, member });
  }

  function endSuspicion(node: string): void {
    suspicions.get(node)?.end();
    suspicions.delete(node);
  }

  /**
   * Who went is remembered for reapTime, and others are told of it in the first half of that; who learns of it so, for the
   * second half. Else those who have forgotten would learn of it again from those who have not, for ever.
   */
  const toldUntil = (): number => clock.now() - tuning.reapTime / 2;

  // This node ---------------------------------------------------------------------------------------------------------

  function announceSelf(done?: () => void): void {
    members.alive(own(), clock.now());
    queue.add(encodeAlive(own()), { about: name, ...(done && { done }) });
  }

  /** Word about this node that is not its own is outbid. */
  function refute(theirs: number): void {
    if (leaving || theirs < incarnation) return;
    incarnation = (theirs + 1) >>> 0;
    awareness.change(1);
    announceSelf();
  }

  function aliveSelf(word: Alive): void {
    if (!sameAddress(word.address, address)) {
      // To outbid a namesake would start a war; once is enough to say so.
      if (!namesakeSeen) log.error({ name, theirs: `${word.address.host}:${word.address.port}` }, 'another node has this node\'s name: is this host a copy of it, or did its address change?');
      namesakeSeen = true;
      return onConflict(members.get(name)!, word);
    }
    if (word.incarnation > incarnation || !word.meta.equals(meta)) refute(word.incarnation);
  }

  // Others ------------------------------------------------------------------------------------------------------------

  function alive(word: Alive): void {
    if (!isSane(word.versions)) return;
    if (word.node === name) return aliveSelf(word);
    if (!admits(word)) return;
    const before = members.get(word.node);
    const member = members.alive(word, clock.now(), tuning.reclaimTime);
    if (!member) {
      if (before && isLive(before) && !sameAddress(before.address, word.address)) {
        claims.set(word.node, word);
        return onConflict(before, word);
      }
      // An old word of a node that is thought gone: it does not know that it has to outbid what is said of it.
      if (before && before.state !== 'alive' && word.incarnation <= before.incarnation) {
        tell(word.address, encodeAccusation(before.state === 'suspect' ? 'suspect' : 'dead', { incarnation: before.incarnation, node: before.name, from: name }));
      }
      return;
    }
    endSuspicion(word.node);
    announce(!before || !isLive(before) ? 'join' : before.state === 'suspect' ? 'recover' : 'update', member, encodeAlive(word), true);
  }

  function suspect(word: Accusation): void {
    if (word.node === name) return refute(word.incarnation);
    const running = suspicions.get(word.node);
    const member = members.suspect(word, clock.now());
    if (member) {
      suspicions.set(word.node, startSuspicion(suspicionLimits(tuning, members.liveCount), word.from, () => clock.now(), timers, () => fail(word.node)));
      announce('suspect', member, encodeAccusation('suspect', word), false);
    } else if (running && word.incarnation >= members.get(word.node)!.incarnation && running.confirm(word.from)) {
      queue.add(encodeAccusation('suspect', word), { about: word.node, beside: true });
    }
  }

  function fail(node: string): void {
    const member = members.get(node);
    if (member?.state === 'suspect') dead({ node, incarnation: member.incarnation, from: name });
  }

  function dead(word: Accusation): void {
    if (word.node === name) return refute(word.incarnation);
    const member = members.dead(word, clock.now());
    if (!member) return;
    endSuspicion(word.node);
    announce('leave', member, encodeAccusation('dead', word), member.state === 'left');
    const claim = claims.get(word.node);
    claims.delete(word.node);
    if (claim) alive(claim);
  }

  for (const member of former) if (member.name !== name) members.restore(member);
  members.alive(own(), clock.now());
  return {
    members, others, alive, suspect, dead,
    spokenOf: () => {
      const since = toldUntil();
      return members.all().filter((member) => isLive(member) || member.since > since);
    },
    merge: (records) => {
      const before = changes;
      for (const record of records) {
        const { node, incarnation: theirs } = record;
        const known = node === name || members.get(node) !== undefined;
        if (record.state === 'alive' || (record.state === 'suspect' && !known)) alive(record);
        if (record.state === 'alive') continue;
        if (!known && record.state !== 'suspect') {
          // Its death is no news to pass on, but its old word must not be taken for a new life.
          if (isSane(record.versions) && admits(record)) notify({ type: 'leave', member: members.gone(record, toldUntil()) });
        } else if (record.state === 'left') dead({ node, incarnation: theirs, from: node });
        // Not dead on hearsay: suspected, so that it can refute.
        else suspect({ node, incarnation: theirs, from: name });
      }
      return changes > before;
    },
    updateMeta: (next, done) => {
      if (next.equals(meta)) return done();
      meta = next;
      incarnation = (incarnation + 1) >>> 0;
      announceSelf(done);
    },
    leave: () => {
      leaving = true;
      const word = { incarnation, node: name, from: name };
      members.dead(word, clock.now());
      return encodeAccusation('dead', word);
    },
    reap: () => {
      for (const member of others('dead', 'left')) if (clock.now() - member.since > tuning.reapTime) members.forget(member.name);
    },
  };
}
