/** Requests for single addresses: from the blocks in hand, then from free ones, then from those of others. */
import { weftError, type WeftError } from '../base/errors.ts';
import { parseIp } from '../base/prefix.ts';
import type { BlockClaims } from './block-claims.ts';
import type { Borrowing } from './borrowing.ts';
import { type BlockClaim, type Claims, isUnreachable } from './claims.ts';
import type { AddressRequest } from './ipam.ts';
import { type Bounds, boundsOf, intersect, isEmpty, isWithin, type Slot } from './layout.ts';
import type { KnownPool, Pools } from './pools.ts';
import { checkedRange } from './subnets.ts';

export interface AddressRequests {
  /** Of the pool of that subnet, which is canonical. Returns the plain address. */
  request(subnet: string, request: AddressRequest): Promise<string>;
  reserve(subnet: string, reserved: Record<string, string>): Promise<void>;
}

export interface AddressRequestsOptions {
  claims: Claims;
  pools: Pools;
  blocks: BlockClaims;
  borrowing: Borrowing;
  nodeId: string;
  restMs: number;
  holderName: (address: string, holder: string) => string;
}

/** Each attempt that fails means that the pool was changed by another node. */
const ATTEMPTS = 64;

export function createAddressRequests({ claims, pools, blocks, borrowing, nodeId, restMs, holderName }: AddressRequestsOptions): AddressRequests {
  const refresh = async (subnet: string): Promise<KnownPool> => pools.confirm(subnet, await claims.getPool(subnet));
  const find = async (subnet: string): Promise<KnownPool> => pools.get(subnet) ?? refresh(subnet);

  function boundsFor({ record, layout }: KnownPool, range = record.range): Bounds {
    return range === undefined ? layout.choosable : intersect(layout.hosts, boundsOf(layout, checkedRange(range, layout.prefix, record.subnet)));
  }

  async function requestAny({ range, holder }: AddressRequest, subnet: string): Promise<string> {
    for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
      const pool = await find(subnet);
      const { ledger } = pool;
      const bounds = boundsFor(pool, range);
      const address = ledger.addressOf(holder) ?? ledger.takeNext(holder, bounds);
      if (address !== undefined) return address;
      if (isEmpty(bounds)) throw weftError('WEFT-POOL-EXHAUSTED', { pool: subnet, detail: 'it has no host addresses to choose from' });
      // Rest is for the other nodes: to them nothing changes if the address stays here. A repeat of this request, which
      // waited as well, may have been given one.
      const lastChoice = (): string | undefined => ledger.addressOf(holder) ?? ledger.takeResting(holder, bounds);
      try {
        if (await blocks.claimNext(pool, bounds)) continue;
      } catch (error) {
        const resting = isUnreachable(error) ? lastChoice() : undefined;
        if (resting === undefined) throw error;
        return resting;
      }
      const resting = lastChoice();
      if (resting !== undefined) return resting;
      if (!await borrowing.borrow(pool, bounds, 'weft')) throw await exhausted(pool);
    }
    // Nodes that all run dry can lend the last blocks round in a circle, each before its borrower could use it.
    throw weftError('WEFT-STORE-CONFLICT', { what: `the blocks of ${subnet}` });
  }

  async function requestThis(request: AddressRequest, subnet: string, text: string): Promise<string> {
    let asked = false;
    for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
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
      const user = blocks.userOf(pool, slot.block);
      const owner = user ? { node: user.id, name: user.name } : await blocks.claim(pool, slot.block, request.chooser);
      if (!owner) continue;
      if (asked) throw elsewhere(pool, address, owner, request);
      asked = true;
      await borrowing.borrow(pool, { low: slot, high: slot }, request.chooser);
    }
    throw weftError('WEFT-STORE-CONFLICT', { what: `the blocks of ${subnet}` });
  }

  async function exhausted({ record: { id, subnet }, ledger }: KnownPool): Promise<WeftError> {
    const { used, resting } = ledger.usage();
    const others = new Map<string, number>();
    for (const { claim } of (await claims.listBlocks(subnet)).values()) {
      if (claim.pool === id && claim.node !== nodeId) others.set(claim.name, (others.get(claim.name) ?? 0) + 1);
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
    else if (outcome.by.node === nodeId) await blocks.compare(pool);
    else throw weftError('WEFT-ADDRESS-IN-USE', { address: missing.map(({ address }) => address).join(', '), holder: `node ${outcome.by.name}, which hands out the addresses around it` });
    return undefined;
  }

  return {
    request: (subnet, request) => (request.address === undefined ? requestAny(request, subnet) : requestThis(request, subnet, request.address)),
    reserve: async (subnet, reserved) => {
      for (let attempt = 0; !await tryReserve(subnet, reserved); attempt++) {
        if (attempt === ATTEMPTS) throw weftError('WEFT-STORE-CONFLICT', { what: `pool ${subnet}` });
      }
    },
  };
}

/** `address` in its canonical form. */
function hostAddress({ record, layout }: KnownPool, text: string): { slot: Slot; address: string } {
  const slot = layout.slotOf(text);
  if (slot && isWithin(slot, layout.hosts)) return { slot, address: layout.addressOf(slot) };
  if (!slot && !parseIp(text)) throw weftError('WEFT-ADDRESS-MALFORMED', { address: text });
  throw weftError('WEFT-ADDRESS-OUTSIDE', { address: text, pool: record.subnet });
}

/** An address that Docker or the user chose in a block of another node. */
function elsewhere({ record, layout, ledger }: KnownPool, address: string, owner: Pick<BlockClaim, 'node' | 'name'>, { chooser, network = 'NAME' }: AddressRequest): WeftError {
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
