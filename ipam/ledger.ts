/**
 * One pool on this node: the blocks in hand and who has which of their addresses. Everything is on this node's disk
 * before a call returns, and nothing here waits, so two requests cannot be given one address. Addresses are canonical
 * text.
 */
import type { Clock } from '../base/clock.ts';
import { weftError } from '../base/errors.ts';
import type { LocalStore } from '../store/store.ts';
import { type Bounds, isBlock, isWithin, type Layout, partOf } from './layout.ts';
import { type Chooser, createSpace } from './space.ts';

/** Who has an address, and since when by the wall clock, in ms. */
export interface Holding { holder: string; since: number }

export interface Ledger {
  has(block: number): boolean;
  /** From the top downwards. */
  blocks(): readonly number[];
  /** Of a block in hand. */
  chooserOf(block: number): Chooser;
  /** Idempotent. */
  addBlock(block: number, chooser: Chooser): void;
  /** Returns the addresses that were in use in it. */
  dropBlock(block: number): string[];
  /** Blocks of Weft's choice with an address within bounds, all of whose addresses are free and have rested; the lowest first. */
  idleBlocks(bounds: Bounds): number[];
  /** An address that no endpoint may get, from now on. */
  reserve(address: string): void;
  holdings(): ReadonlyMap<string, Holding>;
  holderOf(address: string): string | undefined;
  addressOf(holder: string): string | undefined;
  /** A free address within bounds in a block where Weft chooses: the next below the last one given, then from the top. */
  takeNext(holder: string, bounds: Bounds): string | undefined;
  /** The one within bounds that has rested longest and not long enough. */
  takeResting(holder: string, bounds: Bounds): string | undefined;
  /** The address must be in a block in hand. Throws WEFT-ADDRESS-IN-USE. */
  take(address: string, holder: string): void;
  /** Idempotent. The address rests first. */
  release(address: string): void;
  usage(): { blocks: number; used: number; resting: number; free: number };
  /** Removes every trace from the disk. */
  erase(): void;
}

export interface LedgerOptions {
  layout: Layout;
  /** The pool's name in keys. */
  name: string;
  local: LocalStore;
  clock: Clock;
  restMs: number;
}

/** A row without a holder is that of an address that rests. */
type Row = Holding | { resting: true };

export function createLedger({ layout, name, local, clock, restMs }: LedgerOptions): Ledger {
  const blockPrefix = `ipam/blocks/${name}/`;
  const addressPrefix = `ipam/addresses/${name}/`;

  const space = createSpace(layout);
  const reserved = new Set<string>();
  const holdings = new Map<string, Holding>();
  const addresses = new Map<string, string>();
  /** Address → when its rest ends on the clock; in the order of release, so the first ends first. */
  const resting = new Map<string, number>();
  /** Addresses whose rest is over and whose row is still on disk: it goes with the next write. */
  const rested = new Set<string>();
  /** Block → how many of its addresses are held or resting. */
  const busy = new Map<number, number>();

  const slotOf = (address: string) => layout.slotOf(address)!;
  const inBlock = (block: number) => (address: string): boolean => slotOf(address).block === block;

  function occupy(address: string, by: 1 | -1): void {
    const slot = slotOf(address);
    busy.set(slot.block, (busy.get(slot.block) ?? 0) + by);
    if (by > 0) space.take(slot);
    else if (!reserved.has(address)) space.free(slot);
  }

  function addToSpace(block: number, chooser: Chooser): void {
    space.add(block, chooser);
    for (const known of [reserved, holdings.keys(), resting.keys()]) {
      for (const address of known) if (slotOf(address).block === block) space.take(slotOf(address));
    }
  }

  function load(): void {
    for (const { key, value } of local.list(blockPrefix)) {
      const block = Number(key.slice(blockPrefix.length));
      if (isBlock(layout, block)) space.add(block, (JSON.parse(value) as { chooser: Chooser }).chooser);
    }
    for (const { key, value } of local.list(addressPrefix)) {
      const address = key.slice(addressPrefix.length);
      if (!layout.slotOf(address)) continue;
      const row = JSON.parse(value) as Row;
      if ('holder' in row) hold(address, row);
      // From the beginning: how long it has rested would be the wall clock's word, which may have been set meanwhile.
      else rest(address);
    }
  }

  function hold(address: string, holding: Holding): void {
    if (resting.delete(address)) occupy(address, -1);
    rested.delete(address);
    holdings.set(address, holding);
    addresses.set(holding.holder, address);
    occupy(address, 1);
  }

  function rest(address: string): void {
    resting.set(address, clock.now() + restMs);
    occupy(address, 1);
  }
  load();

  function wake(): void {
    for (const [address, until] of resting) {
      if (until > clock.now()) return;
      resting.delete(address);
      rested.add(address);
      occupy(address, -1);
    }
  }

  function record(address: string, holder: string): void {
    const holding = { holder, since: clock.wallNow() };
    const row = JSON.stringify(holding satisfies Row);
    if (rested.size === 0) {
      local.put(addressPrefix + address, row);
    } else {
      local.transaction(() => {
        for (const each of rested) local.delete(addressPrefix + each);
        local.put(addressPrefix + address, row);
      });
      rested.clear();
    }
    hold(address, holding);
  }

  return {
    has: space.has,
    blocks: space.blocks,
    chooserOf: space.chooserOf,
    addBlock: (block, chooser) => {
      if (space.has(block)) return;
      local.put(blockPrefix + block, JSON.stringify({ chooser }));
      addToSpace(block, chooser);
    },
    dropBlock: (block) => {
      const inside = inBlock(block);
      const used = [...holdings.keys()].filter(inside);
      local.transaction(() => {
        local.delete(blockPrefix + block);
        for (const { key } of local.list(addressPrefix)) if (inside(key.slice(addressPrefix.length))) local.delete(key);
      });
      for (const address of used) {
        addresses.delete(holdings.get(address)!.holder);
        holdings.delete(address);
      }
      for (const address of [...resting.keys()].filter(inside)) resting.delete(address);
      for (const address of [...rested].filter(inside)) rested.delete(address);
      busy.delete(block);
      space.remove(block);
      return used;
    },
    idleBlocks: (bounds) => {
      wake();
      const isUsable = (block: number): boolean => {
        const part = partOf(layout, block, bounds);
        if (!part) return false;
        for (let offset = part.high; offset >= part.low; offset--) if (!reserved.has(layout.addressOf({ block, offset }))) return true;
        return false;
      };
      return space.blocks().filter((block) => !busy.get(block) && space.chooserOf(block) === 'weft' && isUsable(block)).toReversed();
    },
    reserve: (address) => {
      reserved.add(address);
      space.take(slotOf(address));
      // Nobody gets it: its rest would only keep the block from others.
      if (!resting.delete(address)) return;
      rested.add(address);
      occupy(address, -1);
    },
    holdings: () => holdings,
    holderOf: (address) => holdings.get(address)?.holder,
    addressOf: (holder) => addresses.get(holder),
    takeNext: (holder, bounds) => {
      wake();
      const slot = space.takeNext(bounds);
      if (!slot) return undefined;
      const address = layout.addressOf(slot);
      try {
        record(address, holder);
      } catch (error) {
        space.free(slot);
        throw error;
      }
      return address;
    },
    takeResting: (holder, bounds) => {
      for (const address of resting.keys()) {
        const slot = slotOf(address);
        if (reserved.has(address) || !isWithin(slot, bounds) || !space.has(slot.block) || space.chooserOf(slot.block) === 'docker') continue;
        record(address, holder);
        return address;
      }
      return undefined;
    },
    take: (address, holder) => {
      const other = holdings.get(address)?.holder;
      if (other === holder) return;
      if (other !== undefined || reserved.has(address)) throw weftError('WEFT-ADDRESS-IN-USE', { address, holder: other ?? 'the network itself' });
      record(address, holder);
    },
    release: (address) => {
      const holding = holdings.get(address);
      if (!holding) return;
      local.put(addressPrefix + address, JSON.stringify({ resting: true } satisfies Row));
      holdings.delete(address);
      if (addresses.get(holding.holder) === address) addresses.delete(holding.holder);
      occupy(address, -1);
      rest(address);
    },
    usage: () => {
      wake();
      return { blocks: space.blocks().length, used: holdings.size, resting: resting.size, free: space.countFree() };
    },
    erase: () => local.transaction(() => {
      for (const prefix of [blockPrefix, addressPrefix]) for (const { key } of local.list(prefix)) local.delete(key);
    }),
  };
}
