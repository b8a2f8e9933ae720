/** Whole states exchanged over a stream: at join, now and then, and soon after a join as long as that brings news. */
import { errorText } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';
import type { Random } from '../base/random.ts';
import type { Beliefs } from './beliefs.ts';
import { Refused, type DropReason } from './counters.ts';
import type { Delegate } from './delegate.ts';
import { encodePushPull, encodeRecord, type Address, type PushPull } from './messages.ts';
import type { Reply, StreamCall, Streams } from './streams.ts';
import type { Timers } from './timers.ts';
import { pushPullScale, type Tuning } from './tuning.ts';
import { each, type Steps, type Turns } from './turns.ts';
import { checkVersions, isSane, type Versions } from './versions.ts';

/**
 * When a whole cluster starts at once, news is passed on less often than the cluster's size asks for, since nobody knows
 * that yet; memberlist's nodes then wait for the next regular exchange, a minute or two.
 */
const SETTLING = { firstMs: 500, spreadMs: 1_500, factor: 2, maxMs: 30_000 };

export interface StateExchangeOptions {
  name: string;
  versions: Versions;
  tuning: Tuning;
  random: Random;
  timers: Timers;
  turns: Turns;
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
  /** Somebody else's state came; says this node's, and takes theirs in. */
  answer(theirs: PushPull, reply: Reply): Steps<void>;
}

export function createStateExchange(options: StateExchangeOptions): StateExchange {
  const { name, versions, tuning, random, timers, turns, log, beliefs, streams, delegate, guarded, onDrop } = options;
  let settling = false;

  function* encodeState(join: boolean): Steps<Buffer> {
    const nodes = beliefs.members.records();
    const records: Buffer[] = [];
    let userState = Buffer.alloc(0);
    guarded(() => (userState = Buffer.from(delegate?.localState?.(join) ?? [])));
    yield* each(nodes, (node) => void records.push(encodeRecord(node)));
    return encodePushPull({ join, nodes, userState }, records);
  }

  /** The receiver answers before it judges, so both sides have to judge. Throws when they do not fit; true when it was news. */
  function* merge({ join, nodes, userState }: PushPull): Steps<boolean> {
    const theirs = nodes.filter((node) => node.state === 'alive' && isSane(node.versions));
    yield* checkVersions([{ name, versions }, ...beliefs.others('alive'), ...theirs.map(({ node, versions: spoken }) => ({ name: node, versions: spoken }))]);
    if (join) delegate?.mayMerge?.(theirs.filter((node) => node.node !== name).map(({ node, address, meta, versions: spoken }) => ({ name: node, address, meta, versions: spoken })));
    let news = false;
    yield* each(nodes, (node) => (news = beliefs.merge(node) || news));
    if (userState.length > 0) guarded(() => delegate?.mergeState?.(userState, join));
    return news;
  }

  async function exchange(to: Address, join: boolean, call: StreamCall): Promise<boolean> {
    const theirs = await streams.exchange(to, await turns.work(encodeState(join)), call);
    if (theirs.type !== 'pushPull') throw new Refused('malformed', 'the other side answered something else');
    try {
      return await turns.work(merge({ ...theirs, join }));
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
    * answer(theirs, reply) {
      yield* reply(yield* encodeState(false));
      try {
        yield* merge(theirs);
      } catch (error) {
        onDrop('refused');
        log.warn({ detail: errorText(error) }, 'a node that does not fit into the cluster tried to join');
      }
    },
  };
}
