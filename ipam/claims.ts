/**
 * Pools and blocks in the store. Keys: `pools-index` (all subnets, compared and swapped by whoever adds or removes one,
 * so that overlapping ones cannot be made at once), `pools/<subnet>`, `blocks/<subnet>/<index>` and `wants/<id>`. A block
 * names the making of the pool it belongs to: one that was left behind by an earlier pool of the same subnet counts as
 * free.
 */
import type { Clock } from '../base/clock.ts';
import { WeftError, weftError } from '../base/errors.ts';
import { bytesToIp } from '../base/ip.ts';
import { formatPrefix, parsePrefix, type Prefix } from '../base/prefix.ts';
import type { Random } from '../base/random.ts';
import type { Compare, Entry, Store } from '../store/store.ts';
import type { Chooser } from './space.ts';
import type { Taken } from './subnets.ts';

export interface PoolRecord {
  /** Of this making of the pool: a later one with the same subnet has another. */
  id: string;
  subnet: string;
  range?: string;
  /** By the maker's wall clock, in ms. */
  made: number;
  /** Addresses that no endpoint may get → what they are for ('gateway', 'aux:name'). */
  reserved: Record<string, string>;
}

export interface PoolEntry { record: PoolRecord; /** Of the key in the store. */ revision: number }
/** `pool`: id of the pool's record. */
export interface BlockClaim { node: string; name: string; pool: string; chooser: Chooser }
export interface BlockEntry { index: number; claim: BlockClaim; revision: number }

/** A node's wish for a block with an address from `low` to `high`. */
export interface Want { node: string; name: string; pool: string; subnet: string; low: string; high: string; chooser: Chooser }
/** In the store under `key`, last written at `revision`. */
export interface OpenWant extends Want { key: string; revision: number }

interface IndexItem { subnet: string; range?: string; /** Name of the node that made it. */ by: string }

const INDEX = 'pools-index';
const UNIQUE_LOCAL = 'unique-local-prefix';
export const POOLS = 'pools/';
export const BLOCKS = 'blocks/';
export const WANTS = 'wants/';
/** Beside a wish: the question to one node whether it has such a block. */
export const questionKey = (wantKey: string, node: string): string => `${wantKey}/${node}`;
/** Each attempt that fails means that another one succeeded. */
const ATTEMPTS = 64;
/** Blocks removed in one transaction; below the store's limit of 128 operations. */
const CHUNK = 100;

/** '10.1.0.0/24' as part of a key. */
export const keyName = (subnet: string): string => subnet.replace('/', '_');
export const poolKey = (subnet: string): string => POOLS + keyName(subnet);
const blockPrefix = (subnet: string): string => `${BLOCKS}${keyName(subnet)}/`;
const blockKey = (subnet: string, index: number): string => blockPrefix(subnet) + index;

export const readPool = ({ value, revision }: Entry): PoolEntry => ({ record: JSON.parse(value) as PoolRecord, revision });
export const readBlock = ({ key, value, revision }: Entry): BlockEntry =>
  ({ index: Number(key.slice(key.lastIndexOf('/') + 1)), claim: JSON.parse(value) as BlockClaim, revision });

/** Whether a call failed because the store did not answer: it may have been carried out. */
export const isUnreachable = (error: unknown): boolean => error instanceof WeftError && error.code === 'WEFT-STORE-UNREACHABLE';

type ClaimOutcome =
  | { type: 'claimed'; chooser: Chooser }
  | { type: 'taken'; by: BlockClaim }
  /** The pool's record is not the one that was compared with; undefined: it is gone. */
  | { type: 'pool-changed'; entry: PoolEntry | undefined };

export type Claims = ReturnType<typeof createClaims>;

/** 128 bits as hex digits: unique without asking anybody. */
export const randomId = (random: Random): string => Buffer.from(random.bytes(16)).toString('hex');

export function createClaims({ store, node, clock, random }: { store: Store; node: { id: string; name: string }; clock: Clock; random: Random }) {
  async function readIndex(): Promise<{ items: IndexItem[]; revision: number }> {
    const entry = await store.get(INDEX);
    return { items: entry ? (JSON.parse(entry.value) as IndexItem[]) : [], revision: entry?.revision ?? 0 };
  }

  async function getPool(subnet: string): Promise<PoolEntry | undefined> {
    const entry = await store.get(poolKey(subnet));
    return entry && readPool(entry);
  }

  async function listBlocks(subnet: string): Promise<Map<number, BlockEntry>> {
    const { entries } = await store.range(blockPrefix(subnet));
    return new Map(entries.map(readBlock).map((block) => [block.index, block]));
  }

  /** Tells apart why a transaction failed: the pool's record, or the blocks. */
  function whatChanged(pool: PoolEntry, current: readonly Entry[]): { pool: PoolEntry | undefined; changed: boolean; blocks: BlockEntry[] } {
    const entry = current.find(({ key }) => key === poolKey(pool.record.subnet));
    return {
      pool: entry && readPool(entry), changed: entry?.revision !== pool.revision,
      blocks: current.filter(({ key }) => key.startsWith(BLOCKS)).map(readBlock),
    };
  }

  return {
    getPool,
    listBlocks,
    listPools: async (): Promise<readonly IndexItem[]> => (await readIndex()).items,

    /** This cluster's own IPv6 /48, made when it is asked for first (RFC 4193 §3.2: fd00::/8 and 40 random bits). */
    uniqueLocalPrefix: async (): Promise<string> => {
      const bytes = new Uint8Array(16);
      bytes.set([0xfd, ...random.bytes(5)]);
      await store.txn([{ key: UNIQUE_LOCAL, revision: 0 }], [{ put: UNIQUE_LOCAL, value: JSON.stringify(`${bytesToIp(bytes)}/48`) }]);
      return JSON.parse((await store.get(UNIQUE_LOCAL))!.value) as string;
    },

    /**
     * `choose` is given what is taken in the store and returns the subnet; it throws when there is none. `onAttempt` is
     * told the record before it is sent.
     */
    createPool: async (
      choose: (taken: readonly Taken[]) => Prefix, range: string | undefined, onAttempt: (record: PoolRecord) => void,
    ): Promise<PoolEntry> => {
      for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
        const { items, revision } = await readIndex();
        const subnet = formatPrefix(choose(items.map((item) => ({ prefix: parsePrefix(item.subnet)!, by: `a pool made on node ${item.by}` }))));
        const ranged = { subnet, ...(range !== undefined && { range }) };
        const record: PoolRecord = { id: randomId(random), ...ranged, made: clock.wallNow(), reserved: {} };
        onAttempt(record);
        const result = await store.txn([{ key: INDEX, revision }], [
          { put: INDEX, value: JSON.stringify([...items, { ...ranged, by: node.name } satisfies IndexItem]) },
          { put: poolKey(subnet), value: JSON.stringify(record) },
        ]);
        if (result.succeeded) return { record, revision: result.revision };
      }
      throw weftError('WEFT-STORE-CONFLICT', { what: 'the list of address pools' });
    },

    /** Removes that making of the pool, and its blocks. Idempotent. */
    removePool: async (subnet: string, id: string): Promise<void> => {
      for (let attempt = 0; ; attempt++) {
        const pool = await getPool(subnet);
        if (pool?.record.id !== id) break;
        const { items, revision } = await readIndex();
        const result = await store.txn([{ key: INDEX, revision }, { key: poolKey(subnet), revision: pool.revision }], [
          { put: INDEX, value: JSON.stringify(items.filter((item) => item.subnet !== subnet)) },
          { delete: poolKey(subnet) },
        ]);
        if (result.succeeded) break;
        if (attempt === ATTEMPTS) throw weftError('WEFT-STORE-CONFLICT', { what: 'the list of address pools' });
      }
      // Without the pool none of its blocks can be claimed. A new pool of this subnet may take over some of them meanwhile.
      for (;;) {
        const left = [...(await listBlocks(subnet)).values()].filter(({ claim }) => claim.pool === id).slice(0, CHUNK);
        if (left.length === 0) return;
        await store.txn(
          left.map(({ index, revision }) => ({ key: blockKey(subnet, index), revision })),
          left.map(({ index }) => ({ delete: blockKey(subnet, index) })),
        );
      }
    },

    /**
     * A claim that is this node's already is written anew: so a late transaction of before, which gave the block away,
     * fails by its own compare.
     */
    claimBlock: async (known: PoolEntry, index: number, chooser: Chooser): Promise<ClaimOutcome> => {
      // A copy: what is known may be brought up to date while the store is asked, and only the compare may tell.
      const pool = { ...known };
      const { id, subnet } = pool.record;
      const key = blockKey(subnet, index);
      let claim: BlockClaim = { node: node.id, name: node.name, pool: id, chooser };
      let revision = 0;
      for (;;) {
        const result = await store.txn(
          [{ key: poolKey(subnet), revision: pool.revision }, { key, revision }], [{ put: key, value: JSON.stringify(claim) }],
        );
        if (result.succeeded) return { type: 'claimed', chooser: claim.chooser };
        const now = whatChanged(pool, result.current);
        if (now.changed) return { type: 'pool-changed', entry: now.pool };
        const other = now.blocks[0];
        if (other?.claim.pool === id && other.claim.node !== node.id) return { type: 'taken', by: other.claim };
        if (other?.claim.pool === id) claim = other.claim;
        revision = other?.revision ?? 0;
      }
    },

    /**
     * Makes a block of this node another's, as long as the question for it is open. False: it was not done. When this
     * throws, it may have been: the block must not be used before it is claimed again.
     */
    giveBlock: async ({ record: { id, subnet } }: PoolEntry, index: number, want: OpenWant): Promise<boolean> => {
      const key = blockKey(subnet, index);
      const entry = await store.get(key);
      const block = entry && readBlock(entry);
      if (block?.claim.node !== node.id || block.claim.pool !== id) return false;
      const claim: BlockClaim = { node: want.node, name: want.name, pool: id, chooser: want.chooser };
      const { succeeded } = await store.txn(
        [{ key, revision: block.revision }, { key: want.key, revision: want.revision }],
        [{ put: key, value: JSON.stringify(claim) }, { delete: want.key }, { delete: questionKey(want.key, node.id) }],
      );
      return succeeded;
    },

    /**
     * Adds to the pool's reserved addresses, on condition that the blocks `free` belong to nobody: what their owner
     * hands out cannot be known here.
     */
    reserve: async (
      known: PoolEntry, added: Record<string, string>, free: readonly number[],
    ): Promise<{ type: 'reserved'; entry: PoolEntry } | Exclude<ClaimOutcome, { type: 'claimed' }>> => {
      const pool = { ...known };
      const { subnet, id } = pool.record;
      const record = { ...pool.record, reserved: { ...added, ...pool.record.reserved } };
      const compares: Compare[] = free.map((index) => ({ key: blockKey(subnet, index), revision: 0 }));
      for (;;) {
        const result = await store.txn([{ key: poolKey(subnet), revision: pool.revision }, ...compares], [{ put: poolKey(subnet), value: JSON.stringify(record) }]);
        if (result.succeeded) return { type: 'reserved', entry: { record, revision: result.revision } };
        const now = whatChanged(pool, result.current);
        if (now.changed) return { type: 'pool-changed', entry: now.pool };
        const owned = now.blocks.find(({ claim }) => claim.pool === id);
        if (owned) return { type: 'taken', by: owned.claim };
        for (const compare of compares) compare.revision = now.blocks.find(({ index }) => blockKey(subnet, index) === compare.key)?.revision ?? 0;
      }
    },
  };
}
