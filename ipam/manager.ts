/** The address manager: requests for pools and addresses, and the repair of what went on while the store was away. */
import type { Clock, TimerHandle } from '../base/clock.ts';
import { errorText, WeftError, weftError } from '../base/errors.ts';
import { withoutLength } from '../base/ip.ts';
import type { Logger } from '../base/log.ts';
import { covers, type Family, formatPrefix, parseIp, parsePrefix, type Prefix } from '../base/prefix.ts';
import { type Random, systemRandom } from '../base/random.ts';
import type { LocalStore, Store, WatchEvent } from '../store/store.ts';
import { createBlockClaims } from './block-claims.ts';
import { createBorrowing } from './borrowing.ts';
import { type BlockClaim, createClaims, keyName, type PoolRecord, POOLS, readPool } from './claims.ts';
import type { AddressManager, AddressRequest, Pool } from './ipam.ts';
import { type Bounds, boundsOf, intersect, isEmpty, isWithin, type Slot } from './layout.ts';
import { createPools, type KnownPool } from './pools.ts';
import { chooseSubnet, type Occupied } from './subnets.ts';
import { createUpkeep, type Upkeep } from './upkeep.ts';

const DEFAULT_POOLS = ['10.192.0.0/11'];
/**
 * A released address rests so long that no peer still has the old holder in a cache, an open connection, or a forwarding
 * entry (those of a failed node go 10 s after it was found failed).
 */
const REST_MS = 60_000;
const RETRY_MS = 10_000;
/** A larger subnet has more blocks than one node should list, or than can be counted exactly. */
const SHORTEST_LENGTH = { 4: 8, 6: 64 } as const;
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

const isUnreachable = (error: unknown): boolean => error instanceof WeftError && error.code === 'WEFT-STORE-UNREACHABLE';

export function createAddressManager(options: AddressManagerOptions): StartedAddressManager {
  const { store, local, node, clock, log, defaultPools = DEFAULT_POOLS, restMs = REST_MS, occupied, holderName = (_, holder) => holder, random = systemRandom } = options;
  const claims = createClaims({ store, node, clock, random });
  const pools = createPools({ local, clock, log, restMs });
  const blocks = createBlockClaims({ claims, pools, nodeId: node.id, log });
  const borrowing = createBorrowing({ store, claims, blocks, pools, node, clock, random, log });

  const refresh = async (subnet: string): Promise<KnownPool> => pools.confirm(subnet, await claims.getPool(subnet));
  const find = async (subnet: string): Promise<KnownPool> => pools.get(subnet) ?? refresh(subnet);

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
    const { entries, revision } = await store.range(POOLS);
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

  function abandon({ subnet, id }: PoolRecord): void {
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

  // --- addresses

  function boundsFor({ record, layout }: KnownPool, range = record.range): Bounds {
    return range === undefined ? layout.choosable : intersect(layout.hosts, boundsOf(layout, checkedRange(range, layout.prefix, record.subnet)));
  }

  async function requestAny({ range, holder }: AddressRequest, subnet: string): Promise<string> {
    for (;;) {
      const pool = await find(subnet);
      const { ledger } = pool;
      const bounds = boundsFor(pool, range);
      const address = ledger.addressOf(holder) ?? ledger.takeNext(holder, bounds);
      if (address !== undefined) return address;
      if (isEmpty(bounds)) throw weftError('WEFT-POOL-EXHAUSTED', { pool: subnet, detail: 'it has no host addresses to choose from' });
      try {
        if (await blocks.claimNext(pool, bounds)) continue;
      } catch (error) {
        const resting = isUnreachable(error) ? ledger.takeResting(holder, bounds) : undefined;
        if (resting === undefined) throw error;
        return resting;
      }
      // Rest is for the other nodes: to them nothing changes if the address stays here.
      const resting = ledger.takeResting(holder, bounds);
      if (resting !== undefined) return resting;
      if (!await borrowing.borrow(pool, bounds, 'weft')) throw await exhausted(pool);
    }
  }

  async function requestThis(request: AddressRequest, subnet: string, text: string): Promise<string> {
    for (let asked = false; ;) {
      const pool = await find(subnet);
      const { slot, address } = hostAddress(pool, text);
      const reservedFor = pool.record.reserved[address];
      if (reservedFor === request.holder) return address;
      if (reservedFor !== undefined) throw weftError('WEFT-ADDRESS-IN-USE', { address, holder: `the network itself (${reservedFor})` });
      if (pool.ledger.has(slot.block)) {
        const other = pool.ledger.holderOf(address);
        if (other !== undefined && other !== request.holder) throw weftError('WEFT-ADDRESS-IN-USE', { address, holder: holderName(address, other) });
        pool.ledger.take(address, request.holder);
        return address;
      }
      const owner = await blocks.claim(pool, slot.block, request.chooser);
      if (!owner) continue;
      if (asked) throw elsewhere(pool, address, owner, request);
      asked = true;
      await borrowing.borrow(pool, { low: slot, high: slot }, request.chooser);
    }
  }

  async function exhausted({ record: { id, subnet }, ledger }: KnownPool): Promise<WeftError> {
    const { used, resting } = ledger.usage();
    const others = new Map<string, number>();
    for (const { claim } of (await claims.listBlocks(subnet)).values()) {
      if (claim.pool === id && claim.node !== node.id) others.set(claim.name, (others.get(claim.name) ?? 0) + 1);
    }
    const elsewhereText = [...others].map(([name, count]) => `${name} has ${count}`).join(', ');
    const rest = resting > 0 ? `, ${resting} were released less than ${restMs / 1000} s ago` : '';
    return weftError('WEFT-POOL-EXHAUSTED', {
      pool: subnet, detail: `${used} are in use here${rest}${elsewhereText === '' ? '' : `; of its blocks ${elsewhereText}, and none of them could be spared`}`,
    });
  }

  /** Undefined when it has to be tried again with what was learnt meanwhile. */
  async function tryReserve(subnet: string, reserved: Record<string, string>): Promise<'done' | undefined> {
    let pool = await find(subnet);
    const wanted = Object.entries(reserved).map(([name, text]) => ({ name, ...hostAddress(pool, text) }));
    const missing = wanted.filter(({ address }) => pool.record.reserved[address] === undefined);
    if (missing.length === 0) return 'done';
    if (pool.revision === 0) pool = await refresh(subnet);
    const { ledger } = pool;
    for (const { address } of missing) {
      const holder = ledger.holderOf(address);
      if (holder !== undefined) throw weftError('WEFT-ADDRESS-IN-USE', { address, holder: holderName(address, holder) });
    }
    // At once, so that no request gets one of them while the store is asked.
    for (const { address } of missing) ledger.reserve(address);
    const foreign = new Set(missing.map(({ slot }) => slot.block).filter((index) => !ledger.has(index)));
    const outcome = await claims.reserve(pool, Object.fromEntries(missing.map(({ name, address }) => [address, name])), [...foreign]);
    if (outcome.type === 'reserved') {
      pools.learn(outcome.entry);
      return 'done';
    }
    if (outcome.type === 'pool-changed') pools.confirm(subnet, outcome.entry);
    else if (outcome.by.node === node.id) await blocks.compare(pool);
    else throw weftError('WEFT-ADDRESS-IN-USE', { address: missing.map(({ address }) => address).join(', '), holder: `node ${outcome.by.name}, which hands out the addresses around it` });
    return undefined;
  }

  // --- pools

  async function createPool(wanted: Prefix | Family, range: string | undefined): Promise<Pool> {
    await removeAbandoned();
    const sources = wanted === 6 ? await sourcesOf6() : defaultPools;
    let attempted: PoolRecord | undefined;
    try {
      const made = await claims.createPool(
        (stored) => chooseSubnet(wanted, stored, occupied(), sources), range, (record) => { attempted = record; },
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
    requestPool: async ({ subnet, range, existing, family = 4 }) => {
      if (subnet !== undefined && NULL_POOLS.includes(subnet)) return { subnet };
      const wanted = subnet === undefined ? undefined : checkedSubnet(subnet);
      if (existing) return existingPool(wanted ? formatPrefix(wanted) : '(none given)');
      if (range === undefined) return createPool(wanted ?? family, undefined);
      if (!wanted) throw weftError('WEFT-RANGE-OUTSIDE', { range, subnet: '(none given)' });
      return createPool(wanted, formatPrefix(checkedRange(range, wanted, formatPrefix(wanted))));
    },

    releasePool: async (text) => {
      const prefix = parsePrefix(text);
      if (!prefix || NULL_POOLS.includes(text)) return;
      const subnet = formatPrefix(prefix);
      const known = pools.get(subnet);
      try {
        const entry = await claims.getPool(subnet);
        if (entry) await claims.removePool(subnet, entry.record.id);
      } catch (error) {
        if (known && isUnreachable(error)) abandon(known.record);
        throw error;
      }
      if (known && pools.get(subnet) === known) pools.forget(known, 'it was released here');
    },

    reserve: async (text, reserved) => {
      if (NULL_POOLS.includes(text)) return;
      const subnet = formatPrefix(checkedSubnet(text));
      while (!await tryReserve(subnet, reserved));
    },

    requestAddress: async (request) => {
      if (NULL_POOLS.includes(request.subnet)) {
        if (request.address === undefined) return request.subnet;
        throw weftError('WEFT-ADDRESS-OUTSIDE', { address: request.address, pool: `${request.subnet}, which has none` });
      }
      const prefix = checkedSubnet(request.subnet);
      const subnet = formatPrefix(prefix);
      const address = request.address === undefined ? await requestAny(request, subnet) : await requestThis(request, subnet, request.address);
      return `${address}/${prefix.length}`;
    },

    releaseAddress: async (subnet, text) => {
      const prefix = parsePrefix(subnet);
      const pool = prefix && pools.get(formatPrefix(prefix));
      const slot = pool?.layout.slotOf(withoutLength(text));
      if (pool && slot) pool.ledger.release(pool.layout.addressOf(slot));
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

const asPool = ({ record: { subnet, range } }: KnownPool): Pool => ({ subnet, ...(range !== undefined && { range }) });

function checkedSubnet(text: string): Prefix {
  const prefix = parsePrefix(text);
  if (!prefix) throw weftError('WEFT-SUBNET-MALFORMED', { subnet: text });
  const shortest = SHORTEST_LENGTH[prefix.family];
  if (prefix.length < shortest) throw weftError('WEFT-SUBNET-MALFORMED', { subnet: `${text}, larger than a /${shortest},` });
  return prefix;
}

function checkedRange(range: string, subnet: Prefix, name: string): Prefix {
  const prefix = parsePrefix(range);
  if (!prefix || !covers(subnet, prefix)) throw weftError('WEFT-RANGE-OUTSIDE', { range, subnet: name });
  return prefix;
}

/** `address` in its canonical form. */
function hostAddress({ record, layout }: KnownPool, text: string): { slot: Slot; address: string } {
  const slot = layout.slotOf(text);
  if (slot && isWithin(slot, layout.hosts)) return { slot, address: layout.addressOf(slot) };
  if (!slot && !parseIp(text)) throw weftError('WEFT-ADDRESS-MALFORMED', { address: text });
  throw weftError('WEFT-ADDRESS-OUTSIDE', { address: text, pool: record.subnet });
}

/** An address that Docker or the user chose in a block of another node. */
function elsewhere({ record, layout, ledger }: KnownPool, address: string, owner: BlockClaim, { chooser, network = 'NAME' }: AddressRequest): WeftError {
  const other = `${owner.name} (${owner.node})`;
  if (chooser === 'weft') {
    const own = ledger.blocks().map((block) => {
      const low = layout.addressOf({ block, offset: 0 });
      return layout.blockSize === 1 ? low : `${low}-${layout.addressOf({ block, offset: layout.blockSize - 1 })}`;
    });
    return weftError('WEFT-ADDRESS-FOREIGN', { address, node: other, own: own.join(', ') || 'it has none yet' });
  }
  const gateway = Object.entries(record.reserved).find(([, name]) => name === 'gateway')?.[0];
  const range = record.range === undefined ? '' : ` --ip-range ${record.range}`;
  const create = `docker network create -d weft-overlay --ipam-driver weft --subnet ${record.subnet}${range}${gateway === undefined ? '' : ` --gateway ${gateway}`} ${network}`;
  return weftError('WEFT-ADDRESS-ELSEWHERE', { address, node: other, command: `docker network rm ${network} && ${create}` });
}
