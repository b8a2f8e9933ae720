/** Whole states exchanged over a stream: at join, now and then, and soon after a join as long as that brings news. */
import { errorText } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';
import type { Random } from '../base/random.ts';
import type { Beliefs } from './beliefs.ts';
import { Refused, type DropReason } from './counters.ts';
import type { Delegate } from './delegate.ts';
import type { Member } from './members.ts';
import { encodeRecord, encodeState, ownCopy, type Address, type PushPull } from './messages.ts';
import type { StreamCall, Streams } from './streams.ts';
import type { Timers } from './timers.ts';
import { pushPullScale, type Tuning } from './tuning.ts';
import { checkVersions, isSane, type Versions } from './versions.ts';

/**
 * When a whole cluster starts at once, news is passed on less often than the cluster's size asks for, since nobody knows
 * that yet; memberlist's nodes then wait for the next regular exchange, a minute or two.
 */
const SETTLING = { firstMs: 500, spreadMs: 1_500, factor: 2, maxMs: 30_000 };

/** Encoding so many, or taking them in, costs less than 100 µs; between two such pieces of work packets are heard. */
const MEMBERS_PER_TURN = 25;

export interface StateExchangeOptions {
  name: string;
  versions: Versions;
  tuning: Tuning;
  random: Random;
  timers: Timers;
  log: Logger;
  beliefs: Beliefs;
  streams: Streams;
  delegate: Delegate | undefined;
  guarded(run: () => void): void;
  onDrop(reason: DropReason): void;
}

export interface StateExchange {
  /** With one node; rejects when it does not answer or does not fit. */
  with(to: Address, join: boolean, call: StreamCall): Promise<void>;
  /** Somebody else's state came; returns what goes back. */
  answer(theirs: PushPull): Promise<Buffer>;
}

export function createStateExchange(options: StateExchangeOptions): StateExchange {
  const { name, versions, tuning, random, timers, log, beliefs, streams, delegate, guarded, onDrop } = options;
  /** A member is never changed but replaced. */
  const encoded = new WeakMap<Member, Buffer>();
  let settling = false;

  async function inTurns<T>(all: readonly T[], run: (some: readonly T[]) => void): Promise<void> {
    for (let at = 0; at < all.length; at += MEMBERS_PER_TURN) {
      run(all.slice(at, at + MEMBERS_PER_TURN));
      if (all.length > MEMBERS_PER_TURN) await timers.nextTurn();
    }
  }

  function recordOf(member: Member): Buffer {
    let record = encoded.get(member);
    if (!record) encoded.set(member, record = ownCopy(encodeRecord({ ...member, node: member.name })));
    return record;
  }

  async function ownState(join: boolean): Promise<Buffer> {
    const records: Buffer[] = [];
    let userState = Buffer.alloc(0);
    guarded(() => (userState = Buffer.from(delegate?.localState?.(join) ?? [])));
    await inTurns(beliefs.spokenOf(), (some) => void records.push(...some.map(recordOf)));
    return encodeState(join, records, userState);
  }

  /** The receiver answers before it judges, so both sides have to judge. Throws when they do not fit; true when it was news. */
  async function merge({ join, nodes, userState }: PushPull): Promise<boolean> {
    const theirs = nodes.filter((node) => node.state === 'alive' && isSane(node.versions));
    checkVersions([{ name, versions }, ...beliefs.others('alive'), ...theirs.map(({ node, versions: spoken }) => ({ name: node, versions: spoken }))]);
    if (join) delegate?.mayMerge?.(theirs.filter((node) => node.node !== name).map(({ node, address, meta, versions: spoken }) => ({ name: node, address, meta, versions: spoken })));
    let news = false;
    await inTurns(nodes, (some) => (news = beliefs.merge(some) || news));
    if (userState.length > 0) guarded(() => delegate?.mergeState?.(userState, join));
    return news;
  }

  async function exchange(to: Address, join: boolean, call: StreamCall): Promise<boolean> {
    const theirs = await streams.exchange(to, await ownState(join), call);
    if (theirs.type !== 'pushPull') throw new Refused('malformed', 'the other side answered something else');
    try {
      return await merge({ ...theirs, join });
    } catch (error) {
      onDrop('refused');
      throw error;
    }
  }

  /** With anybody; false when nothing new came of it. */
  async function withRandomMember(): Promise<boolean> {
    const [partner] = beliefs.members.sample(1, random, (member) => member.state === 'alive' && member.name !== name);
    if (!partner) return false;
    try {
      return await exchange(partner.address, false, { timeoutMs: tuning.streamTimeout });
    } catch (error) {
      log.debug({ member: partner.name, detail: errorText(error) }, 'a state exchange failed');
      return false;
    }
  }

  function settle(delayMs: number): void {
    settling = true;
    timers.after(delayMs, () => void withRandomMember().then((news) => {
      settling = false;
      if (news) settle(Math.min(SETTLING.maxMs, delayMs * SETTLING.factor));
    }));
  }

  timers.loop(() => tuning.pushPullInterval * pushPullScale(beliefs.members.liveCount), async () => {
    beliefs.reap();
    await withRandomMember();
  });

  return {
    with: async (to, join, call) => {
      const news = await exchange(to, join, call);
      if (join && news && !settling) settle(SETTLING.firstMs + random.float() * SETTLING.spreadMs);
    },
    answer: async (theirs) => {
      const answer = await ownState(false);
      // Who waits for the answer need not wait for this.
      merge(theirs).catch((error: unknown) => {
        onDrop('refused');
        log.warn({ detail: errorText(error) }, 'a node that does not fit into the cluster tried to join');
      });
      return answer;
    },
  };
}
