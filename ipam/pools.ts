/** The pools that exist, as this node knows them: from the store, and from its own disk while the store is away. */
import type { Clock } from '../base/clock.ts';
import { weftError } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';
import { parsePrefix } from '../base/prefix.ts';
import type { LocalStore } from '../store/store.ts';
import { keyName, type PoolEntry, type PoolRecord } from './claims.ts';
import { type Layout, layoutOf } from './layout.ts';
import { createLedger, type Ledger } from './ledger.ts';

/** Revision 0: known from this node's disk only. The object stays the same for as long as this making of the pool lives. */
export interface KnownPool extends PoolEntry { layout: Layout; ledger: Ledger }

export interface Pools {
  get(subnet: string): KnownPool | undefined;
  all(): KnownPool[];
  /** What the store has, or had at an earlier revision. */
  learn(entry: PoolEntry): KnownPool;
  /**
   * What the store has for a subnet at this moment; its revision may be lower than the known one, in a store that was
   * restored or replaced. Throws WEFT-POOL-UNKNOWN when it has nothing.
   */
  confirm(subnet: string, entry: PoolEntry | undefined): KnownPool;
  /** All pools of the store at a revision. */
  learnAll(entries: readonly PoolEntry[], revision: number): void;
  /** The store is another one than before: what it has counts from now on, whatever its revisions are. */
  forgetRevisions(): void;
  forget(pool: KnownPool, reason: string): void;
}

export function createPools({ local, clock, log, restMs }: { local: LocalStore; clock: Clock; log: Logger; restMs: number }): Pools {
  const pools = new Map<string, KnownPool>();
  const localKey = (subnet: string): string => `ipam/pools/${keyName(subnet)}`;

  function adopt({ record, revision }: PoolEntry): KnownPool {
    const layout = layoutOf(parsePrefix(record.subnet)!);
    const pool = { record, revision, layout, ledger: createLedger({ layout, name: keyName(record.subnet), local, clock, restMs }) };
    reserve(pool);
    pools.set(record.subnet, pool);
    return pool;
  }

  function reserve({ record, ledger }: KnownPool): void {
    for (const address of Object.keys(record.reserved)) ledger.reserve(address);
  }

  function learn(entry: PoolEntry): KnownPool {
    const { subnet, id } = entry.record;
    const known = pools.get(subnet);
    if (known && entry.revision <= known.revision) return known;
    if (known && known.record.id !== id) forget(known, 'it was released and made anew');
    const text = JSON.stringify(entry.record);
    if (local.get(localKey(subnet)) !== text) local.put(localKey(subnet), text);
    if (known?.record.id !== id) return adopt(entry);
    known.record = entry.record;
    known.revision = entry.revision;
    reserve(known);
    return known;
  }

  function forget({ record, ledger }: KnownPool, reason: string): void {
    const { used } = ledger.usage();
    if (used > 0) log.warn({ pool: record.subnet, used, reason }, 'an address pool is gone while addresses of it are in use here');
    local.transaction(() => {
      ledger.erase();
      local.delete(localKey(record.subnet));
    });
    pools.delete(record.subnet);
  }

  for (const { value } of local.list('ipam/pools/')) adopt({ record: JSON.parse(value) as PoolRecord, revision: 0 });

  return {
    get: (subnet) => pools.get(subnet),
    all: () => [...pools.values()],
    learn,
    confirm: (subnet, entry) => {
      const known = pools.get(subnet);
      if (entry && known?.record.id === entry.record.id) known.revision = Math.min(known.revision, entry.revision - 1);
      if (entry) return learn(entry);
      if (known) forget(known, 'it was released');
      throw weftError('WEFT-POOL-UNKNOWN', { pool: subnet });
    },
    learnAll: (entries, revision) => {
      const present = new Set(entries.map(({ record }) => record.subnet));
      local.transaction(() => {
        // A pool made after that revision is not gone.
        for (const known of pools.values()) if (!present.has(known.record.subnet) && known.revision <= revision) forget(known, 'it was released');
        for (const entry of entries) learn(entry);
      });
    },
    forgetRevisions: () => {
      for (const known of pools.values()) known.revision = 0;
    },
    forget,
  };
}
