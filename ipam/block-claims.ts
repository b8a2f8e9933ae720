/** Getting blocks into hand, and comparing those in hand with the store. */
import { weftError } from '../base/errors.ts';
import { formatIp4 } from '../base/ip.ts';
import type { Logger } from '../base/log.ts';
import { type Bounds, blockBounds, blockOf, intersect } from './blocks.ts';
import type { BlockClaim, Claims } from './claims.ts';
import type { Chooser } from './ledger.ts';
import type { KnownPool, Pools } from './pools.ts';

export interface BlockClaims {
  /**
   * Claims one block. Returns its owner if that is another node; otherwise it is in hand now, or the pool is another one:
   * look again. Throws WEFT-POOL-UNKNOWN, WEFT-STORE-UNREACHABLE.
   */
  claim(pool: KnownPool, index: number, chooser: Chooser): Promise<BlockClaim | undefined>;
  /**
   * Claims the highest free block that has an address within bounds, for Weft to choose from. Requests that wait at the
   * same time wait for the same block. Throws WEFT-POOL-EXHAUSTED, and what claim throws.
   */
  claimNext(pool: KnownPool, bounds: Bounds): Promise<void>;
  /** The store's word against the ledger's: takes in what is ours there, claims again what it lost. */
  compare(pool: KnownPool): Promise<void>;
}

export function createBlockClaims({ claims, pools, nodeId, log }: { claims: Claims; pools: Pools; nodeId: string; log: Logger }): BlockClaims {
  const running = new WeakMap<KnownPool, Map<string, Promise<void>>>();
  const isOurs = ({ record }: KnownPool, claim: BlockClaim): boolean => claim.node === nodeId && claim.pool === record.id;

  async function claim(pool: KnownPool, index: number, chooser: Chooser): Promise<BlockClaim | undefined> {
    const { subnet } = pool.record;
    if (pool.revision === 0) pools.confirm(subnet, await claims.getPool(subnet));
    while (pools.get(subnet) === pool) {
      const outcome = await claims.claimBlock(pool, index, chooser);
      if (outcome.type === 'pool-changed') {
        pools.confirm(subnet, outcome.entry);
      } else {
        if (outcome.type === 'taken' && !isOurs(pool, outcome.by)) return outcome.by;
        // Ours already: an earlier claim whose answer was lost.
        if (pools.get(subnet) === pool) pool.ledger.addBlock(index, outcome.type === 'taken' ? outcome.by.chooser : chooser);
        return undefined;
      }
    }
    return undefined;
  }

  async function claimNext(pool: KnownPool, bounds: Bounds): Promise<void> {
    const { layout, ledger, record } = pool;
    const stored = await claims.listBlocks(record.subnet);
    if (pools.get(record.subnet) !== pool || takeIn(pool, stored) > 0) return;
    for (let index = blockOf(layout, bounds.high); index >= blockOf(layout, bounds.low); index--) {
      if (ledger.has(index) || stored.get(index)?.claim.pool === record.id) continue;
      if (!hasUsable(pool, intersect(blockBounds(layout, index), bounds))) continue;
      if (await claim(pool, index, 'weft') === undefined) return;
    }
    throw weftError('WEFT-POOL-EXHAUSTED', { pool: record.subnet });
  }

  function hasUsable({ record: { reserved } }: KnownPool, { low, high }: Bounds): boolean {
    for (let address = high; address >= low; address--) if (reserved[formatIp4(address)] === undefined) return true;
    return false;
  }

  /** Blocks that the store has for us and the ledger has not; returns how many. */
  function takeIn(pool: KnownPool, stored: Awaited<ReturnType<Claims['listBlocks']>>): number {
    const found = [...stored.values()].filter(({ index, claim: made }) => isOurs(pool, made) && !pool.ledger.has(index));
    for (const { index, claim: made } of found) pool.ledger.addBlock(index, made.chooser);
    return found.length;
  }

  return {
    claim,

    claimNext: (pool, bounds) => {
      const ofPool = running.get(pool) ?? new Map<string, Promise<void>>();
      running.set(pool, ofPool);
      const key = `${bounds.low}-${bounds.high}`;
      const started = ofPool.get(key) ?? claimNext(pool, bounds).finally(() => ofPool.delete(key));
      ofPool.set(key, started);
      return started;
    },

    compare: async (pool) => {
      const { record: { subnet }, ledger } = pool;
      const stored = await claims.listBlocks(subnet);
      if (pools.get(subnet) !== pool) return;
      takeIn(pool, stored);
      for (const index of ledger.blocks()) {
        const entry = stored.get(index);
        if (entry && isOurs(pool, entry.claim)) continue;
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
