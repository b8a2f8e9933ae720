/** The address manager: requests for pools and addresses, and the repair of what went on while the store was away. */
import type { Clock, TimerHandle } from '../base/clock.ts';
import { errorText, WeftError, weftError } from '../base/errors.ts';
import { contains4, formatIp4, formatPrefix4, last4, parseIp4, parsePrefix4, type Prefix4, withoutLength } from '../base/ip.ts';
import type { Logger } from '../base/log.ts';
import type { LocalStore, Store, WatchEvent } from '../store/store.ts';
import { createBlockClaims } from './block-claims.ts';
import { type Bounds, blockBounds, blockOf, intersect } from './blocks.ts';
import { type BlockClaim, createClaims, keyName, type PoolRecord, POOLS, readPool } from './claims.ts';
import type { AddressManager, AddressRequest, Pool } from './ipam.ts';
import { createPools, type KnownPool } from './pools.ts';
import { chooseSubnet } from './subnets.ts';

const DEFAULT_POOLS = ['10.192.0.0/11'];
/** A released address rests so long that no peer still has the old holder in a cache or an open connection. */
const REST_MS = 60_000;
const RETRY_MS = 10_000;
/** A larger subnet has more blocks than one node should list. */
const SHORTEST_LENGTH = 8;

export interface AddressManagerOptions {
  store: Store;
  local: LocalStore;
  node: { id: string; name: string };
  clock: Clock;
  log: Logger;
  /** Where a subnet is taken from when none is asked for, a /24 each. */
  defaultPools?: readonly string[];
  restMs?: number;
  /** Prefixes that are routed or used by Docker, on any node. */
  occupied: () => readonly { prefix: string; by: string }[];
  /** What people call the holder of an address of this node; by default what it was given to. */
  holderName?: (address: string, holder: string) => string;
}

export interface StartedAddressManager extends AddressManager {
  /**
   * Follows the store. Requests are served from this node's disk before that, and while the store is away. Resolves
   * after the first comparison with the store or its failure, so within the store's deadline.
   */
  start(): Promise<void>;
  close(): void;
}

const isUnreachable = (error: unknown): boolean => error instanceof WeftError && error.code === 'WEFT-STORE-UNREACHABLE';

export function createAddressManager(options: AddressManagerOptions): StartedAddressManager {
  const { store, local, node, clock, log, defaultPools = DEFAULT_POOLS, restMs = REST_MS, occupied, holderName = (_, holder) => holder } = options;
  const claims = createClaims(store, node);
  const pools = createPools({ local, clock, log, restMs });
  const blocks = createBlockClaims({ claims, pools, nodeId: node.id, log });

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
    if (range === undefined) return layout.hosts;
    const prefix = checkedRange(range, layout.prefix, record.subnet);
    return intersect(layout.hosts, { low: prefix.base, high: last4(prefix) });
  }

  async function requestAny({ range, holder }: AddressRequest, subnet: string): Promise<number> {
    for (;;) {
      const pool = await find(subnet);
      const bounds = boundsFor(pool, range);
      if (bounds.high < bounds.low) throw weftError('WEFT-POOL-EXHAUSTED', { pool: subnet });
      const address = pool.ledger.addressOf(holder) ?? pool.ledger.pick(bounds);
      if (address !== undefined) {
        pool.ledger.take(address, holder);
        return address;
      }
      await blocks.claimNext(pool, bounds);
    }
  }

  async function requestThis(request: AddressRequest, subnet: string, text: string): Promise<number> {
    for (;;) {
      const pool = await find(subnet);
      const address = hostAddress(pool, text);
      const reservedFor = pool.record.reserved[text];
      if (reservedFor === request.holder) return address;
      if (reservedFor !== undefined) throw weftError('WEFT-ADDRESS-IN-USE', { address: text, holder: `the network itself (${reservedFor})` });
      const block = blockOf(pool.layout, address);
      if (pool.ledger.has(block)) {
        const other = pool.ledger.holderOf(address);
        if (other !== undefined && other !== request.holder) throw weftError('WEFT-ADDRESS-IN-USE', { address: text, holder: holderName(text, other) });
        pool.ledger.take(address, request.holder);
        return address;
      }
      const owner = await blocks.claim(pool, block, request.chooser);
      if (owner) throw elsewhere(pool, text, owner, request);
    }
  }

  /** Undefined when it has to be tried again with what was learnt meanwhile. */
  async function tryReserve(subnet: string, reserved: Record<string, string>): Promise<'done' | undefined> {
    let pool = await find(subnet);
    const missing = Object.entries(reserved).filter(([, text]) => {
      hostAddress(pool, text);
      return pool.record.reserved[text] === undefined;
    });
    if (missing.length === 0) return 'done';
    if (pool.revision === 0) pool = await refresh(subnet);
    const { layout, ledger } = pool;
    const addresses = missing.map(([, text]) => parseIp4(text)!);
    for (const address of addresses) {
      const holder = ledger.holderOf(address);
      if (holder !== undefined) throw weftError('WEFT-ADDRESS-IN-USE', { address: formatIp4(address), holder });
    }
    // At once, so that no request gets one of them while the store is asked.
    for (const address of addresses) ledger.reserve(address);
    const foreign = new Set(addresses.map((address) => blockOf(layout, address)).filter((index) => !ledger.has(index)));
    const outcome = await claims.reserve(pool, Object.fromEntries(missing.map(([name, text]) => [text, name])), [...foreign]);
    if (outcome.type === 'reserved') {
      pools.learn(outcome.entry);
      return 'done';
    }
    if (outcome.type === 'pool-changed') pools.confirm(subnet, outcome.entry);
    else if (outcome.by.node === node.id) await blocks.compare(pool);
    else throw weftError('WEFT-ADDRESS-IN-USE', { address: addresses.map(formatIp4).join(', '), holder: `node ${outcome.by.name}, which hands out the addresses around it` });
    return undefined;
  }

  // --- pools

  async function createPool(wanted: Prefix4 | undefined, range: string | undefined): Promise<Pool> {
    await removeAbandoned();
    let attempted: PoolRecord | undefined;
    try {
      const made = await claims.createPool(
        (stored) => chooseSubnet(wanted, stored, occupied(), defaultPools), range, (record) => { attempted = record; },
      );
      return asPool(pools.learn(made));
    } catch (error) {
      // Whether the store has it is unknown; if so, nobody else will take it back.
      if (attempted && isUnreachable(error)) abandon(attempted);
      throw error;
    }
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
    requestPool: async ({ subnet, range, existing }) => {
      const wanted = subnet === undefined ? undefined : checkedSubnet(subnet);
      if (existing) return existingPool(wanted ? formatPrefix4(wanted) : '(none given)');
      if (range === undefined) return createPool(wanted, undefined);
      if (!wanted) throw weftError('WEFT-RANGE-OUTSIDE', { range, subnet: '(none given)' });
      return createPool(wanted, formatPrefix4(checkedRange(range, wanted, formatPrefix4(wanted))));
    },

    releasePool: async (text) => {
      const prefix = parsePrefix4(text);
      if (!prefix) return;
      const subnet = formatPrefix4(prefix);
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
      const subnet = formatPrefix4(checkedSubnet(text));
      while (!await tryReserve(subnet, reserved));
    },

    requestAddress: async (request) => {
      const prefix = checkedSubnet(request.subnet);
      const subnet = formatPrefix4(prefix);
      const address = request.address === undefined ? await requestAny(request, subnet) : await requestThis(request, subnet, request.address);
      return `${formatIp4(address)}/${prefix.length}`;
    },

    releaseAddress: async (subnet, text) => {
      const prefix = parsePrefix4(subnet);
      const address = parseIp4(withoutLength(text));
      if (prefix && address !== undefined) pools.get(formatPrefix4(prefix))?.ledger.release(address);
    },

    usage: () => pools.all().map(({ record, ledger }) => ({ subnet: record.subnet, ...ledger.usage() })).filter((each) => each.blocks > 0),

    start: async () => {
      stopWatch = store.watch(POOLS, onEvent);
      await reconcile();
    },

    close: () => {
      closed = true;
      stopWatch();
      clock.clearTimeout(retry);
    },
  };
}

const asPool = ({ record: { subnet, range } }: KnownPool): Pool => ({ subnet, ...(range !== undefined && { range }) });

function checkedSubnet(text: string): Prefix4 {
  const prefix = parsePrefix4(text);
  if (!prefix) throw weftError('WEFT-SUBNET-MALFORMED', { subnet: text });
  if (prefix.length < SHORTEST_LENGTH) throw weftError('WEFT-SUBNET-MALFORMED', { subnet: `${text}, larger than a /${SHORTEST_LENGTH},` });
  return prefix;
}

function checkedRange(range: string, subnet: Prefix4, name: string): Prefix4 {
  const prefix = parsePrefix4(range);
  if (!prefix || prefix.length < subnet.length || !contains4(subnet, prefix.base)) throw weftError('WEFT-RANGE-OUTSIDE', { range, subnet: name });
  return prefix;
}

function hostAddress({ record, layout: { hosts } }: KnownPool, text: string): number {
  const address = parseIp4(text);
  if (address === undefined) throw weftError('WEFT-ADDRESS-MALFORMED', { address: text });
  if (address < hosts.low || address > hosts.high) throw weftError('WEFT-ADDRESS-OUTSIDE', { address: text, pool: record.subnet });
  return address;
}

/** An address that Docker or the user chose in a block of another node. */
function elsewhere({ record, layout, ledger }: KnownPool, address: string, owner: BlockClaim, { chooser, network = 'NAME' }: AddressRequest): WeftError {
  const other = `${owner.name} (${owner.node})`;
  if (chooser === 'weft') {
    const own = ledger.blocks().map((index) => blockBounds(layout, index)).map(({ low, high }) => (low === high ? formatIp4(low) : `${formatIp4(low)}-${formatIp4(high)}`));
    return weftError('WEFT-ADDRESS-FOREIGN', { address, node: other, own: own.join(', ') || 'it has none yet' });
  }
  const gateway = Object.entries(record.reserved).find(([, name]) => name === 'gateway')?.[0];
  const range = record.range === undefined ? '' : ` --ip-range ${record.range}`;
  const create = `docker network create -d weft-overlay --ipam-driver weft --subnet ${record.subnet}${range}${gateway === undefined ? '' : ` --gateway ${gateway}`} ${network}`;
  return weftError('WEFT-ADDRESS-ELSEWHERE', { address, node: other, command: `docker network rm ${network} && ${create}` });
}
