/** Getting blocks into hand, and comparing those in hand with the store. */
import { weftError } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';
import type { BlockClaim, BlockEntry, Claims } from './claims.ts';
import { type Bounds, partOf } from './layout.ts';
import type { KnownPool, Pools } from './pools.ts';
import { createSharedCalls } from './shared-calls.ts';
import type { Chooser } from './space.ts';

export interface AddressUse { address: string; node: { id: string; name: string } }

export interface BlockClaims {
  /** Another node that is seen to use an address of a block. */
  userOf(pool: KnownPool, index: number): AddressUse['node'] | undefined;
  /**
   * Claims one block. Returns its owner if that is another node; otherwise it is in hand now, or the pool is another one:
   * look again. Throws WEFT-POOL-UNKNOWN, WEFT-STORE-UNREACHABLE.
   */
  claim(pool: KnownPool, index: number, chooser: Chooser): Promise<BlockClaim | undefined>;
  /**
   * Claims the highest free block that has an address within bounds, for Weft to choose from. Requests that wait at the
   * same time wait for the same block. False: there is none. Throws what claim throws.
   */
  claimNext(pool: KnownPool, bounds: Bounds): Promise<boolean>;
  /** Takes in the blocks that the store has for this node and the ledger has not; returns how many. */
  takeIn(pool: KnownPool, stored: ReadonlyMap<number, BlockEntry>): Promise<number>;
  /** The store's word against the ledger's: takes in what is ours there, claims again what it lost. */
  compare(pool: KnownPool): Promise<void>;
}

export interface BlockClaimsOptions { claims: Claims; pools: Pools; nodeId: string; usedElsewhere: () => Iterable<AddressUse>; log: Logger }

/** Each attempt that fails means that the pool was changed by another node. */
const ATTEMPTS = 64;

export function createBlockClaims({ claims, pools, nodeId, usedElsewhere, log }: BlockClaimsOptions): BlockClaims {
  const shared = createSharedCalls<KnownPool, boolean>();
  const isOurs = ({ record }: KnownPool, claim: BlockClaim): boolean => claim.node === nodeId && claim.pool === record.id;

  async function claim(pool: KnownPool, index: number, chooser: Chooser): Promise<BlockClaim | undefined> {
    const { subnet } = pool.record;
    if (pool.revision === 0) pools.confirm(subnet, await claims.getPool(subnet));
    for (let attempt = 0; pools.get(subnet) === pool; attempt++) {
      if (attempt === ATTEMPTS) throw weftError('WEFT-STORE-CONFLICT', { what: `pool ${subnet}` });
      const outcome = await claims.claimBlock(pool, index, chooser);
      if (outcome.type === 'taken') return outcome.by;
      if (outcome.type === 'pool-changed') pools.confirm(subnet, outcome.entry);
      else {
        if (pools.get(subnet) === pool) pool.ledger.addBlock(index, outcome.chooser);
        return undefined;
      }
    }
    return undefined;
  }

  async function claimNext(pool: KnownPool, bounds: Bounds): Promise<boolean> {
    const { ledger, record } = pool;
    const stored = await claims.listBlocks(record.subnet);
    if (pools.get(record.subnet) !== pool || await takeIn(pool, stored) > 0) return true;
    const used = usersOf(pool);
    for (let index = bounds.high.block; index >= bounds.low.block; index--) {
      if (ledger.has(index) || used.has(index) || stored.get(index)?.claim.pool === record.id) continue;
      if (!hasUsable(pool, index, bounds)) continue;
      if (await claim(pool, index, 'weft') === undefined) return true;
    }
    return false;
  }

  function usersOf({ layout }: KnownPool): Map<number, AddressUse['node']> {
    return new Map([...usedElsewhere()].flatMap(({ address, node }) => {
      const slot = layout.slotOf(address);
      return slot ? [[slot.block, node] as const] : [];
    }));
  }

  function hasUsable({ layout, record: { reserved } }: KnownPool, block: number, bounds: Bounds): boolean {
    const part = partOf(layout, block, bounds);
    if (!part) return false;
    for (let offset = part.high; offset >= part.low; offset--) if (reserved[layout.addressOf({ block, offset })] === undefined) return true;
    return false;
  }

  async function takeIn(pool: KnownPool, stored: ReadonlyMap<number, BlockEntry>): Promise<number> {
    const found = [...stored.values()].filter(({ index, claim: made }) => isOurs(pool, made) && !pool.ledger.has(index));
    for (const { index, claim: made } of found) await claim(pool, index, made.chooser);
    return found.length;
  }

  return {
    claim, takeIn,
    userOf: (pool, index) => usersOf(pool).get(index),

    claimNext: (pool, bounds) => shared(pool, JSON.stringify(bounds), () => claimNext(pool, bounds)),

    compare: async (pool) => {
      const { record: { subnet }, ledger } = pool;
      const inHand = ledger.blocks();
      const stored = await claims.listBlocks(subnet);
      if (pools.get(subnet) !== pool) return;
      await takeIn(pool, stored);
      for (const index of inHand) {
        const entry = stored.get(index);
        if (!ledger.has(index) || (entry && isOurs(pool, entry.claim))) continue;
        const owner = await claim(pool, index, ledger.chooserOf(index));
        if (pools.get(subnet) !== pool) return;
        if (owner) {
          const used = ledger.dropBlock(index);
          log.warn({ pool: subnet, block: index, node: owner.name, used }, 'a block of this node belongs to another node now; its addresses may be in use twice');
        } else if (!entry) {
          log.warn({ pool: subnet, block: index }, 'the store had lost a block of this node; it was claimed again');
        }
      }
    },
  };
}
