/** What the operator can look at and put right: all of the store's pools and blocks, and what this node has in its own. */
import { weftError } from '../base/errors.ts';
import type { Store } from '../store/store.ts';
import type { BlockClaims } from './block-claims.ts';
import { type BlockClaim, BLOCKS, type Claims, poolKey, POOLS, readBlock, readPool } from './claims.ts';
import type { Holding } from './ledger.ts';
import type { Pools } from './pools.ts';

export interface SurveyedBlock {
  key: string;
  revision: number;
  claim: BlockClaim;
  /** Undefined when there is no pool of that subnet. */
  low?: string;
  high?: string;
  /** Of the pool as it is, not of an earlier one of that subnet. */
  current: boolean;
}

export interface SurveyedPool {
  id: string;
  subnet: string;
  range?: string;
  /** Name of the node that made it, and when by its wall clock, in ms. */
  by: string;
  made: number;
  reserved: Readonly<Record<string, string>>;
  blockSize: number;
  /** How many blocks it has in all. */
  blockCount: number;
  blocks: SurveyedBlock[];
  /** Blocks that this node hands out from while the store has them for somebody else, or for nobody. */
  notOurs: string[];
  /** Blocks that the store has for this node and this node does not know of. */
  unknown: string[];
  /** What this node has handed out. */
  holdings: ReadonlyMap<string, Holding>;
  /** Address → key of the block it is in; undefined when it is not of this pool. */
  blockKeyOf(address: string): string | undefined;
}

export interface Survey {
  pools: SurveyedPool[];
  /** Blocks of subnets that no pool is made of. */
  stray: SurveyedBlock[];
}

export interface Upkeep {
  /** Throws WEFT-STORE-UNREACHABLE. */
  survey(): Promise<Survey>;
  /** If it is still as it was when surveyed. */
  removeBlock(block: SurveyedBlock): Promise<boolean>;
  /** That making of it. */
  removePool(pool: SurveyedPool): Promise<void>;
  /** This node's ledger against the store. */
  compare(subnet: string): Promise<void>;
  /** Makes a node's blocks free for others; returns how many. Only for a node that surely uses none of their addresses any more. */
  reclaim(nodeId: string): Promise<number>;
}

const ATTEMPTS = 16;
/** Below the store's limit of 128 operations in a transaction. */
const CHUNK = 100;

export function createUpkeep({ store, claims, pools, blocks, nodeId }: { store: Store; claims: Claims; pools: Pools; blocks: BlockClaims; nodeId: string }): Upkeep {
  async function survey(): Promise<Survey> {
    const makers = new Map((await claims.listPools()).map((item) => [item.subnet, item.by]));
    const { entries, revision } = await store.range(POOLS);
    pools.learnAll(entries.map(readPool), revision);
    const claimed = (await store.range(BLOCKS)).entries;
    const bySubnet = Map.groupBy(claimed, ({ key }) => key.slice(BLOCKS.length, key.lastIndexOf('/')));
    const surveyed = entries.map(readPool).flatMap(({ record }): SurveyedPool[] => {
      const known = pools.get(record.subnet);
      if (known?.record.id !== record.id) return [];
      const { layout, ledger } = known;
      const name = poolKey(record.subnet).slice(POOLS.length);
      const stored = new Map((bySubnet.get(name) ?? []).map((entry) => [readBlock(entry).index, entry]));
      bySubnet.delete(name);
      const blockText = (block: number): string =>
        [...new Set([layout.addressOf({ block, offset: 0 }), layout.addressOf({ block, offset: layout.blockSize - 1 })])].join('-');
      const ours = new Set([...stored.values()].map(readBlock).filter(({ claim }) => claim.node === nodeId && claim.pool === record.id).map(({ index }) => index));
      return [{
        id: record.id, subnet: record.subnet, ...(record.range !== undefined && { range: record.range }), by: makers.get(record.subnet) ?? '', made: record.made,
        reserved: record.reserved, blockSize: layout.blockSize, blockCount: layout.blockCount, holdings: ledger.holdings(),
        notOurs: ledger.blocks().filter((block) => !ours.has(block)).map(blockText),
        unknown: [...ours].filter((block) => !ledger.has(block)).map(blockText),
        blocks: [...stored].map(([index, entry]) => ({
          key: entry.key, revision: entry.revision, claim: readBlock(entry).claim, current: readBlock(entry).claim.pool === record.id,
          low: layout.addressOf({ block: index, offset: 0 }), high: layout.addressOf({ block: index, offset: layout.blockSize - 1 }),
        })),
        blockKeyOf: (address) => {
          const slot = layout.slotOf(address);
          return slot && `${BLOCKS}${name}/${slot.block}`;
        },
      }];
    });
    const stray = [...bySubnet.values()].flat().map((entry) => ({ key: entry.key, revision: entry.revision, claim: readBlock(entry).claim, current: false }));
    return { pools: surveyed, stray };
  }

  return {
    survey,
    removeBlock: async ({ key, revision }) => (await store.txn([{ key, revision }], [{ delete: key }])).succeeded,
    removePool: ({ subnet, id }) => claims.removePool(subnet, id),
    compare: async (subnet) => {
      const pool = pools.get(subnet);
      if (pool) await blocks.compare(pool);
    },
    reclaim: async (id) => {
      let count = 0;
      for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
        const owned = (await store.range(BLOCKS)).entries.filter((entry) => readBlock(entry).claim.node === id);
        if (owned.length === 0) return count;
        for (let at = 0; at < owned.length; at += CHUNK) {
          const chunk = owned.slice(at, at + CHUNK);
          const { succeeded } = await store.txn(chunk.map(({ key, revision }) => ({ key, revision })), chunk.map(({ key }) => ({ delete: key })));
          if (succeeded) count += chunk.length;
        }
      }
      throw weftError('WEFT-STORE-CONFLICT', { what: `the blocks of node ${id}` });
    },
  };
}
