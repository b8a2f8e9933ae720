/**
 * Which nodes hold a copy of the cluster's own store: one while there are two nodes, three from the third on, so that the loss
 * of one changes nothing. Each node looks after itself; a newcomer is a learner until it has caught up.
 */
import type { Clock } from '../base/clock.ts';
import { errorText, weftError } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';
import type { Member } from '../store/etcd-members.ts';
import { describeQuorum } from '../store/quorum.ts';
import type { NodeStore } from './node-store.ts';
import { findNode } from './nodes.ts';

const CHECK_MS = 15_000;
/** While there is something to do. */
const STEP_MS = 1_000;
const VOTERS = 3;
/** More would make every write wait for more of them (etcd.io/docs, FAQ). */
const MOST_VOTERS = 5;
const NODES = 'nodes/';
/** Nodes that shall hold a copy, whatever their number is. */
const ASKED = 'store/asked/';

/** A node, as the others see it. */
export interface Peer { id: string; name: string; number: number; isAlive: boolean; /** Where it would be asked for its copy, if it has one. */ clientUrl: string }

export interface StoreMembersOptions {
  nodeStore: NodeStore;
  self: { id: string; peerUrl: string };
  /** All nodes, this one included. */
  peers(): readonly Peer[];
  clock: Clock;
  log: Logger;
}

export interface StoreMembers {
  /** Where nodes ask, as far as it is known. */
  endpoints(): string[];
  /** Whether this node holds a copy, or would be given one while there are too few. */
  mayHold(): boolean;
  /** What the members are and what the next loss means; undefined where the store is not the cluster's own. */
  quorum(): string | undefined;
  /** What is wrong with this node's copy: it does not run, its disk is full. */
  problem(): Promise<string | undefined>;
  /**
   * The node gets a copy soon, in the place of a member that is away where there is one, else besides. Idempotent. Throws
   * WEFT-NODE-UNKNOWN, WEFT-NODE-AWAY, WEFT-STORE-ALONE, WEFT-STORE-MEMBERS, WEFT-STORE-QUORUM.
   */
  promote(reference: string): Promise<void>;
  close(): void;
}

const byNumber = (a: Peer, b: Peer): number => a.number - b.number;

export function keepStoreMembers({ nodeStore, self, peers, clock, log }: StoreMembersOptions): StoreMembers {
  let members: Member[] = [];
  let closed = false;

  const endpoints = (): string[] => members.flatMap(({ clientUrl }) => clientUrl ?? []).sort();

  /** One step, if there is one to take: true, and the next comes soon. */
  async function tend(): Promise<boolean> {
    const { cluster } = nodeStore;
    if (!cluster) return false;
    members = await cluster.members.list();
    if (endpoints().length > 0) nodeStore.useEndpoints(endpoints());
    const mine = members.find(({ name, peerUrl }) => name === self.id || (name === '' && peerUrl === self.peerUrl));
    // Entered, and killed before its copy was there; or the copy is lost.
    if (mine && !nodeStore.etcd) {
      nodeStore.startMember(await cluster.members.enter({ name: self.id, peerUrl: self.peerUrl }));
      return true;
    }
    if (mine && mine.peerUrl !== self.peerUrl) {
      await cluster.members.move(self.id, self.peerUrl);
      return true;
    }
    if (mine?.isLearner) {
      await cluster.txn([], [{ delete: ASKED + self.id }]);
      await cluster.members.promote(self.id);
      return true;
    }
    // Taken off the members while it was away: its log must not vote again.
    if (!mine && nodeStore.etcd) {
      await nodeStore.stopMember();
      return true;
    }
    const nodes = peers();
    // Of a node that is in the cluster no more, and could not say so to the store. Asked there: what is known here may be of yesterday.
    const gone = members.find(({ name }) => name !== '' && !nodes.some(({ id }) => id === name));
    const [first] = nodes.filter(({ id, isAlive }) => isAlive && members.some(({ name }) => name === id)).sort(byNumber);
    if (gone && first?.id === self.id && !await cluster.get(NODES + gone.name)) {
      await cluster.members.remove(gone.name);
      log.info({ node: gone.name }, 'its copy of the store is out of the count');
      return true;
    }
    if (mine || members.some(({ isLearner }) => isLearner)) return false;
    const { entries } = await cluster.range(ASKED);
    const asked = entries.map(({ key }) => key.slice(ASKED.length));
    const candidates = nodes.filter(({ id, isAlive }) => isAlive && !members.some(({ name }) => name === id)).sort(byNumber);
    const chosen = candidates.find(({ id }) => asked.includes(id));
    const wanted = nodes.length >= VOTERS ? VOTERS : 1;
    if ((chosen ?? (members.length < wanted ? candidates[0] : undefined))?.id !== self.id) return false;
    nodeStore.startMember(await cluster.members.enter({ name: self.id, peerUrl: self.peerUrl }));
    log.info({}, 'this node gets a copy of the store');
    return true;
  }

  async function round(): Promise<void> {
    let wasBusy = true;
    try {
      wasBusy = await tend();
    } catch (error) {
      log.debug({ detail: errorText(error) }, 'the members of the store are looked at again');
      nodeStore.alsoAsk(peers().filter(({ id, isAlive }) => isAlive && (members.length === 0 || members.some(({ name }) => name === id))).sort(byNumber).slice(0, MOST_VOTERS).map(({ clientUrl }) => clientUrl));
    }
    if (!closed) timer = clock.setTimeout(() => void round(), wasBusy || members.length === 0 ? STEP_MS : CHECK_MS);
  }
  let timer = nodeStore.kind === 'external' ? undefined : clock.setTimeout(() => void round(), 0);

  return {
    endpoints,
    mayHold: () => nodeStore.kind === 'cluster' && (members.length < VOTERS || nodeStore.etcd !== undefined),
    quorum: () => {
      if (members.length === 0) return undefined;
      const known = new Map(peers().map((peer) => [peer.id, peer]));
      return describeQuorum(members.map(({ name, isLearner }) => ({ name: known.get(name)?.name ?? name, isLearner, isAlive: known.get(name)?.isAlive ?? false })), known.size, nodeStore.store.healthy).text;
    },
    problem: async () => (await nodeStore.etcd?.health())?.problem,
    promote: async (reference) => {
      const { cluster } = nodeStore;
      if (!cluster) throw weftError('WEFT-STORE-ALONE', {});
      const nodes = peers();
      const node = findNode(nodes, reference);
      if (!node.isAlive) throw weftError('WEFT-NODE-AWAY', { node: node.name });
      members = await cluster.members.list();
      if (members.some(({ name }) => name === node.id)) return;
      const away = members.find(({ name }) => nodes.some(({ id, isAlive }) => id === name && !isAlive));
      if (!away && members.length >= MOST_VOTERS) throw weftError('WEFT-STORE-MEMBERS', { most: MOST_VOTERS });
      // First, so that no other node takes the place that becomes free.
      await cluster.txn([], [{ put: ASKED + node.id, value: 'true' }]);
      if (away) await cluster.members.remove(away.name);
      log.info({ node: node.id, insteadOf: away?.name }, 'a node was asked to hold a copy of the store');
    },
    close: () => {
      closed = true;
      clock.clearTimeout(timer);
    },
  };
}
