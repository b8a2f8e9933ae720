/**
 * A pool without a free block: other nodes are asked for one of theirs that they do not use. The wish and a question to
 * each owner are keys of the store, and so are the answers: an owner that has an idle block makes it the asker's and
 * removes the wish, in one transaction; one that has none removes its question. A wish can be fulfilled only once.
 */
import type { Clock } from '../base/clock.ts';
import { errorText } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';
import type { Random } from '../base/random.ts';
import type { Entry, Store, WatchEvent } from '../store/store.ts';
import type { BlockClaims } from './block-claims.ts';
import { type BlockEntry, type Claims, questionKey, randomId, type Want, WANTS } from './claims.ts';
import type { Bounds } from './layout.ts';
import type { KnownPool, Pools } from './pools.ts';
import { createSharedCalls } from './shared-calls.ts';
import type { Chooser } from './space.ts';

export interface Borrowing {
  /**
   * Asks the owners of blocks with an address within bounds for one of them. False: nobody can spare one; else look
   * again. Takes as long as the slowest of them, 2 s at most. Requests that wait at the same time wait for the same
   * block. Throws WEFT-STORE-UNREACHABLE.
   */
  borrow(pool: KnownPool, bounds: Bounds, chooser: Chooser): Promise<boolean>;
  /** Answers the questions of others from now on, until closed. */
  start(): void;
  close(): void;
}

export interface BorrowingOptions { store: Store; claims: Claims; blocks: BlockClaims; pools: Pools; node: { id: string; name: string }; clock: Clock; random: Random; log: Logger }

const PATIENCE_MS = 2_000;
/** A node that said nothing is not waited for again so soon: a container's start should not wait for a dead one each time. */
const SILENT_MS = 30_000;
/** So that nobody answers an asker that died; the asker's own wishes end with its patience. */
const LEASE_S = 10;

interface Waiting { key: string; open: Set<string>; revision: number; done(): void }

export function createBorrowing({ store, claims, blocks, pools, node, clock, random, log }: BorrowingOptions): Borrowing {
  const shared = createSharedCalls<KnownPool, boolean>();
  const waiting = new Map<string, Waiting>();
  /** Node → until when on the clock. */
  const silent = new Map<string, number>();
  let stop = (): void => {};

  // --- asking

  async function ask(pool: KnownPool, want: Want, owners: readonly string[]): Promise<void> {
    const key = `${WANTS}${randomId(random)}`;
    const lease = await store.lease(LEASE_S);
    try {
      let settle = (): void => {};
      const settled = new Promise<void>((resolve) => { settle = resolve; });
      const open = new Set(owners.filter((owner) => (silent.get(owner) ?? -Infinity) <= clock.now()));
      const mine: Waiting = { key, open, revision: Infinity, done: settle };
      waiting.set(key, mine);
      const value = JSON.stringify(want);
      const { revision } = await store.txn([], [{ put: key, value, lease }, ...owners.map((owner) => ({ put: questionKey(key, owner), value, lease }))]);
      mine.revision = revision;
      if (open.size === 0) return;
      const patience = clock.setTimeout(() => {
        for (const owner of open) silent.set(owner, clock.now() + SILENT_MS);
        settle();
      }, PATIENCE_MS);
      await settled;
      clock.clearTimeout(patience);
    } finally {
      waiting.delete(key);
      // Takes back what is still open.
      await lease.revoke().catch((error: unknown) => log.debug({ pool: pool.record.subnet, detail: errorText(error) }, 'a question to other nodes could not be taken back; it ends by itself'));
    }
  }

  async function borrow(pool: KnownPool, bounds: Bounds, chooser: Chooser): Promise<boolean> {
    const { layout, record: { id, subnet } } = pool;
    const ownersOf = async (): Promise<Map<number, BlockEntry>> => new Map([...await claims.listBlocks(subnet)]
      .filter(([index, { claim }]) => claim.pool === id && index >= bounds.low.block && index <= bounds.high.block));
    const before = await ownersOf();
    const owners = new Set([...before.values()].map(({ claim }) => claim.node).filter((owner) => owner !== node.id));
    if (owners.size === 0) return false;
    const low = layout.addressOf(bounds.low);
    const high = layout.addressOf(bounds.high);
    await ask(pool, { node: node.id, name: node.name, pool: id, subnet, low, high, chooser }, [...owners]);
    if (pools.get(subnet) !== pool) return true;
    const after = await ownersOf();
    // Blocks that changed hands meanwhile may have come to a node that can spare them.
    return await blocks.takeIn(pool, after) > 0 || after.size !== before.size
      || [...after].some(([index, { claim }]) => before.get(index)?.claim.node !== claim.node);
  }

  // --- answering

  async function answer(question: Entry): Promise<void> {
    const key = question.key.slice(0, question.key.lastIndexOf('/'));
    const want = JSON.parse(question.value) as Want;
    const pool = pools.get(want.subnet);
    const idle = pool?.record.id === want.pool ? idleBlock(pool, want) : undefined;
    if (!pool || idle === undefined) {
      await store.txn([], [{ delete: question.key }]);
      return;
    }
    // Given up here before anybody else can have it. Whatever happens to the transaction: to use it again, it is claimed again.
    pool.ledger.dropBlock(idle);
    // Written together, so the wish has the revision of the question.
    const given = await claims.giveBlock(pool, idle, { ...want, key, revision: question.revision });
    if (given) log.info({ pool: want.subnet, block: idle, node: want.name }, 'a block that was not in use was given to another node');
    else await blocks.claim(pool, idle, 'weft');
  }

  function idleBlock({ layout, ledger }: KnownPool, want: Want): number | undefined {
    const [low, high] = [layout.slotOf(want.low), layout.slotOf(want.high)];
    if (!low || !high) return undefined;
    return ledger.idleBlocks({ low, high })[0];
  }

  // --- what the store says

  function onEvent(event: WatchEvent): void {
    if (event.type === 'put') {
      onQuestion(event.entry);
    } else if (event.type === 'delete') {
      waiting.get(event.key)?.done();
      for (const each of waiting.values()) if (event.key.startsWith(`${each.key}/`)) answered(each, event.key.slice(each.key.length + 1));
    } else {
      const present = new Set(event.entries.map(({ key }) => key));
      for (const each of waiting.values()) {
        if (each.revision > event.revision) continue;
        if (!present.has(each.key)) each.done();
        for (const owner of each.open) if (!present.has(questionKey(each.key, owner))) answered(each, owner);
      }
      for (const entry of event.entries) onQuestion(entry);
    }
  }

  function answered(each: Waiting, owner: string): void {
    each.open.delete(owner);
    silent.delete(owner);
    if (each.open.size === 0) each.done();
  }

  function onQuestion(entry: Entry): void {
    if (!entry.key.endsWith(`/${node.id}`)) return;
    answer(entry).catch((error: unknown) => log.warn({ detail: errorText(error) }, 'a node that needs a block could not be answered'));
  }

  return {
    borrow: (pool, bounds, chooser) => shared(pool, JSON.stringify([bounds, chooser]), () => borrow(pool, bounds, chooser)),
    start: () => { stop = store.watch(WANTS, onEvent); },
    close: () => stop(),
  };
}
