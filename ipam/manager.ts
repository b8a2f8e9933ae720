/** The address manager: requests for pools and addresses, and the repair of what went on while the store was away. */
import type { Clock, TimerHandle } from '../base/clock.ts';
import { errorText, weftError } from '../base/errors.ts';
import { withoutLength } from '../base/ip.ts';
import type { Logger } from '../base/log.ts';
import { type Family, formatPrefix, parsePrefix, type Prefix } from '../base/prefix.ts';
import { type Random, systemRandom } from '../base/random.ts';
import type { LocalStore, Store, WatchEvent } from '../store/store.ts';
import { createAddressRequests } from './address-requests.ts';
import { type AddressUse, createBlockClaims } from './block-claims.ts';
import { createBorrowing } from './borrowing.ts';
import { createClaims, isUnreachable, keyName, type PoolRecord, POOLS, readPool } from './claims.ts';
import type { AddressManager, Pool } from './ipam.ts';
import { createPools, type KnownPool } from './pools.ts';
import { checkedRange, checkedSubnet, chooseSubnet, type Occupied } from './subnets.ts';
import { createUpkeep, type Upkeep } from './upkeep.ts';

const DEFAULT_POOLS = ['10.192.0.0/11'];
/**
 * A released address rests so long that no peer still has the old holder in a cache, an open connection, or a forwarding
 * entry (those of a failed node go 30 s after it was found failed).
 */
const REST_MS = 60_000;
const RETRY_MS = 10_000;
/** Docker's sign of a network without addresses: nothing is claimed, and every request is answered with it. */
const NULL_POOLS = ['0.0.0.0/0', '::/0'];

export interface AddressManagerOptions {
  store: Store;
  local: LocalStore;
  node: { id: string; name: string };
  clock: Clock;
  log: Logger;
  /** Where a subnet is taken from when none is asked for, a /24 each (IPv6: a /64; by default of a prefix made for this cluster). */
  defaultPools?: readonly string[];
  restMs?: number;
  /** Prefixes that are routed or used by Docker, on any node. */
  occupied: () => readonly Occupied[];
  /**
   * Addresses that other nodes are seen to use. Blocks with such an address are not claimed, even if the store has them
   * as free: a store that was restored does not know what was claimed since.
   */
  usedElsewhere?: () => Iterable<AddressUse>;
  /** What people call the holder of an address of this node; by default what it was given to. */
  holderName?: (address: string, holder: string) => string;
  random?: Random;
}

export interface StartedAddressManager extends AddressManager {
  /**
   * Follows the store. Requests are served from this node's disk before that, and while the store is away. Resolves
   * after the first comparison with the store or its failure, so within the store's deadline.
   */
  start(): Promise<void>;
  readonly upkeep: Upkeep;
  close(): void;
}

export function createAddressManager(options: AddressManagerOptions): StartedAddressManager {
  const { store, local, node, clock, log, defaultPools = DEFAULT_POOLS, restMs = REST_MS, occupied, usedElsewhere = () => [], holderName = (_, holder) => holder, random = systemRandom } = options;
  const claims = createClaims({ store, node, clock, random });
  const pools = createPools({ local, clock, log, restMs });
  const blocks = createBlockClaims({ claims, pools, nodeId: node.id, usedElsewhere, log });
  const borrowing = createBorrowing({ store, claims, blocks, pools, node, clock, random, log });
  const requests = createAddressRequests({ claims, pools, blocks, borrowing, nodeId: node.id, restMs, holderName });

  const refresh = async (subnet: string): Promise<KnownPool> => pools.confirm(subnet, await claims.getPool(subnet));

  // --- repair

  let reconciling: Promise<void> | undefined;
  let retry: TimerHandle;
  let closed = false;
  let stopWatch = (): void => {};

  /** Never rejects: what the store's absence prevents is tried again. */
  function reconcile(): Promise<void> {
    clock.clearTimeout(retry);
    reconciling ??= compareWithStore()
      .catch((error: unknown) => {
        log.warn({ detail: errorText(error) }, 'address blocks could not be compared with the store; trying again');
        retryLater();
      })
      .finally(() => { reconciling = undefined; });
    return reconciling;
  }

  function retryLater(): void {
    clock.clearTimeout(retry);
    if (!closed) retry = clock.setTimeout(() => void reconcile(), RETRY_MS);
  }

  async function compareWithStore(): Promise<void> {
    await removeAbandoned();
    const highest = Math.max(0, ...pools.all().map((pool) => pool.revision));
    const { entries, revision } = await store.range(POOLS);
    // Revisions do not go back, unless a backup was restored or the state was moved to another store.
    if (revision < highest) pools.forgetRevisions();
    pools.learnAll(entries.map(readPool), revision);
    for (const pool of pools.all()) if (pool.ledger.blocks().length > 0) await blocks.compare(pool);
  }

  /** Pools whose release, or whose failed making, could not be told to the store. */
  async function removeAbandoned(): Promise<void> {
    for (const { key, value } of local.list('ipam/abandoned/')) {
      const { subnet, id } = JSON.parse(value) as { subnet: string; id: string };
      await claims.removePool(subnet, id);
      local.delete(key);
    }
  }

  function abandon({ subnet, id }: Pick<PoolRecord, 'subnet' | 'id'>): void {
    local.put(`ipam/abandoned/${keyName(subnet)}`, JSON.stringify({ subnet, id }));
    retryLater();
  }

  function onEvent(event: WatchEvent): void {
    if (event.type === 'put') {
      pools.learn(readPool(event.entry));
    } else if (event.type === 'delete') {
      const known = pools.all().find(({ record }) => POOLS + keyName(record.subnet) === event.key);
      if (known && known.revision <= event.revision) pools.forget(known, 'it was released');
    } else {
      pools.learnAll(event.entries.map(readPool), event.revision);
      void reconcile();
    }
  }

  // --- pools

  async function createPool(wanted: Prefix | Family, range: string | undefined, shared: boolean): Promise<Pool> {
    await removeAbandoned();
    const sources = wanted === 6 ? await sourcesOf6() : defaultPools;
    let attempted: PoolRecord | undefined;
    try {
      const made = await claims.createPool(
        (stored) => chooseSubnet(wanted, stored, shared ? [] : occupied(), sources), range, (record) => { attempted = record; },
      );
      return asPool(pools.learn(made));
    } catch (error) {
      // Whether the store has it is unknown; if so, nobody else will take it back.
      if (attempted && isUnreachable(error)) abandon(attempted);
      throw error;
    }
  }

  async function sourcesOf6(): Promise<readonly string[]> {
    const configured = defaultPools.filter((pool) => parsePrefix(pool)?.family === 6);
    return configured.length > 0 ? configured : [await claims.uniqueLocalPrefix()];
  }

  async function existingPool(subnet: string): Promise<Pool> {
    try {
      // Asked for each time: this node may not have seen yet that the pool was released and made anew.
      return asPool(await refresh(subnet));
    } catch (error) {
      const known = pools.get(subnet);
      if (!known || !isUnreachable(error)) throw error;
      return asPool(known);
    }
  }

  return {
    requestPool: async ({ subnet, range, existing, family = 4, shared = false }) => {
      if (subnet !== undefined && NULL_POOLS.includes(subnet)) return { subnet };
      const wanted = subnet === undefined ? undefined : checkedSubnet(subnet);
      if (existing) return existingPool(wanted ? formatPrefix(wanted) : '(none given)');
      if (range === undefined) return createPool(wanted ?? family, undefined, shared && wanted !== undefined);
      if (!wanted) throw weftError('WEFT-RANGE-OUTSIDE', { range, subnet: '(none given)' });
      return createPool(wanted, formatPrefix(checkedRange(range, wanted, formatPrefix(wanted))), shared);
    },

    releasePool: async (text, id) => {
      const prefix = parsePrefix(text);
      if (!prefix || NULL_POOLS.includes(text)) return;
      const subnet = formatPrefix(prefix);
      const known = pools.get(subnet);
      try {
        const making = id ?? (await claims.getPool(subnet))?.record.id;
        if (making !== undefined) await claims.removePool(subnet, making);
      } catch (error) {
        const making = id ?? known?.record.id;
        if (making !== undefined && isUnreachable(error)) abandon({ subnet, id: making });
        throw error;
      }
      if (known && pools.get(subnet) === known && (id ?? known.record.id) === known.record.id) pools.forget(known, 'it was released here');
    },

    poolId: (subnet) => pools.get(subnet)?.record.id,

    reserve: async (text, reserved) => {
      if (NULL_POOLS.includes(text)) return;
      await requests.reserve(formatPrefix(checkedSubnet(text)), reserved);
    },

    requestAddress: async (request) => {
      if (NULL_POOLS.includes(request.subnet)) {
        if (request.address === undefined) return request.subnet;
        throw weftError('WEFT-ADDRESS-OUTSIDE', { address: request.address, pool: `${request.subnet}, which has none` });
      }
      const prefix = checkedSubnet(request.subnet);
      const subnet = formatPrefix(prefix);
      return `${await requests.request(subnet, request)}/${prefix.length}`;
    },

    releaseAddress: async (subnet, text) => {
      const prefix = parsePrefix(subnet);
      const pool = prefix && pools.get(formatPrefix(prefix));
      const slot = pool?.layout.slotOf(withoutLength(text));
      if (pool && slot) pool.ledger.release(pool.layout.addressOf(slot));
    },

    holderOf: (subnet, text) => {
      const prefix = parsePrefix(subnet);
      const pool = prefix && pools.get(formatPrefix(prefix));
      const slot = pool?.layout.slotOf(withoutLength(text));
      return pool && slot && pool.ledger.holderOf(pool.layout.addressOf(slot));
    },

    usage: () => pools.all().map(({ record, ledger }) => ({ subnet: record.subnet, ...ledger.usage() })).filter((each) => each.blocks > 0),

    upkeep: createUpkeep({ store, claims, pools, blocks, nodeId: node.id }),

    start: async () => {
      stopWatch = store.watch(POOLS, onEvent);
      borrowing.start();
      await reconcile();
    },

    close: () => {
      closed = true;
      stopWatch();
      borrowing.close();
      clock.clearTimeout(retry);
    },
  };
}

const asPool = ({ record: { subnet, range, id } }: KnownPool): Pool => ({ subnet, ...(range !== undefined && { range }), id });
