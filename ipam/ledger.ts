/**
 * One pool on this node: the blocks in hand and who has which of their addresses. Everything is on this node's disk
 * before a call returns, and nothing here waits, so two requests cannot be given one address.
 */
import type { Clock } from '../base/clock.ts';
import { weftError } from '../base/errors.ts';
import { formatIp4, parseIp4 } from '../base/ip.ts';
import type { LocalStore } from '../store/store.ts';
import { type Bitmap, createBitmap } from './bitmap.ts';
import { type Bounds, blockBounds, intersect, isBlock, type Layout } from './blocks.ts';

/** Who chooses addresses in a block. Weft stays out of Docker's, where Docker would give the same address again. */
export type Chooser = 'weft' | 'docker';

export interface Ledger {
  has(block: number): boolean;
  blocks(): number[];
  /** Of a block in hand. */
  chooserOf(block: number): Chooser;
  /** Idempotent. */
  addBlock(index: number, chooser: Chooser): void;
  /** Returns the addresses that were in use in it. */
  dropBlock(index: number): string[];
  /** An address that no endpoint may get, from now on. */
  reserve(address: number): void;
  holderOf(address: number): string | undefined;
  addressOf(holder: string): number | undefined;
  /** A free address within bounds in a block where Weft chooses: the next below the last one given, then from the top. */
  pick(bounds: Bounds): number | undefined;
  /** The address must be in a block in hand. Throws WEFT-ADDRESS-IN-USE. */
  take(address: number, holder: string): void;
  /** Idempotent. The address rests first. */
  release(address: number): void;
  usage(): { blocks: number; used: number; free: number };
  /** Removes every trace from the disk. */
  erase(): void;
}

interface Block { index: number; chooser: Chooser; bounds: Bounds; taken: Bitmap }

export interface LedgerOptions {
  layout: Layout;
  /** The pool's name in keys. */
  name: string;
  local: LocalStore;
  clock: Clock;
  restMs: number;
}

export function createLedger({ layout, name, local, clock, restMs }: LedgerOptions): Ledger {
  const blockPrefix = `ipam/blocks/${name}/`;
  const addressPrefix = `ipam/addresses/${name}/`;
  const addressKey = (address: number): string => addressPrefix + formatIp4(address);

  /** From the top downwards. */
  const blocks: Block[] = [];
  const reserved = new Set<number>();
  const holders = new Map<number, string>();
  const addresses = new Map<string, number>();
  /** Address → when its rest ends on the clock; in the order of release, so the first ends first. */
  const resting = new Map<number, number>();
  let cursor = layout.hosts.high + 1;

  const blockAt = (address: number): Block | undefined => blocks.find(({ bounds }) => bounds.low <= address && address <= bounds.high);

  function mark(address: number, taken: boolean): void {
    const block = blockAt(address);
    if (taken) block?.taken.set(address - block.bounds.low);
    else block?.taken.clear(address - block.bounds.low);
  }

  function insert(index: number, chooser: Chooser): void {
    const bounds = blockBounds(layout, index);
    const block: Block = { index, chooser, bounds, taken: createBitmap(layout.blockSize) };
    for (const edge of [layout.hosts.low - 1, layout.hosts.high + 1]) {
      if (bounds.low <= edge && edge <= bounds.high) block.taken.set(edge - bounds.low);
    }
    for (const taken of [reserved, holders.keys(), resting.keys()]) {
      for (const address of taken) if (bounds.low <= address && address <= bounds.high) block.taken.set(address - bounds.low);
    }
    blocks.push(block);
    blocks.sort((a, b) => b.index - a.index);
  }

  function load(): void {
    const rests: { address: number; remaining: number }[] = [];
    for (const { key, value } of local.list(addressPrefix)) {
      const address = parseIp4(key.slice(addressPrefix.length));
      const { holder, released } = JSON.parse(value) as { holder?: string; released?: number };
      if (address === undefined) continue;
      if (holder !== undefined) {
        holders.set(address, holder);
        addresses.set(holder, address);
      } else {
        // A wall clock that was set back must not make it rest for ever.
        rests.push({ address, remaining: Math.min(restMs - (clock.wallNow() - (released ?? 0)), restMs) });
      }
    }
    for (const { address, remaining } of rests.sort((a, b) => a.remaining - b.remaining)) resting.set(address, clock.now() + remaining);
    for (const { key, value } of local.list(blockPrefix)) {
      const index = Number(key.slice(blockPrefix.length));
      if (isBlock(layout, index)) insert(index, (JSON.parse(value) as { chooser: Chooser }).chooser);
    }
  }
  load();

  function wake(): void {
    for (const [address, until] of resting) {
      if (until > clock.now()) return;
      resting.delete(address);
      mark(address, false);
    }
  }

  function search(bounds: Bounds): number | undefined {
    for (const block of blocks) {
      const { low, high } = intersect(block.bounds, bounds);
      if (low > high || block.chooser === 'docker') continue;
      const bit = block.taken.lastClear(high - block.bounds.low, low - block.bounds.low);
      if (bit >= 0) return block.bounds.low + bit;
    }
    return undefined;
  }

  return {
    has: (index) => blocks.some((block) => block.index === index),
    blocks: () => blocks.map(({ index }) => index),
    chooserOf: (index) => blocks.find((block) => block.index === index)?.chooser ?? 'weft',
    addBlock: (index, chooser) => {
      if (blocks.some((block) => block.index === index)) return;
      local.put(blockPrefix + index, JSON.stringify({ chooser }));
      insert(index, chooser);
    },
    dropBlock: (index) => {
      const { low, high } = blockBounds(layout, index);
      const inside = (address: number): boolean => low <= address && address <= high;
      const used = [...holders.keys()].filter(inside);
      const rested = [...resting.keys()].filter(inside);
      local.transaction(() => {
        local.delete(blockPrefix + index);
        for (const address of [...used, ...rested]) local.delete(addressKey(address));
      });
      for (const address of used) {
        addresses.delete(holders.get(address)!);
        holders.delete(address);
      }
      for (const address of rested) resting.delete(address);
      blocks.splice(0, blocks.length, ...blocks.filter((block) => block.index !== index));
      return used.map(formatIp4);
    },
    reserve: (address) => {
      reserved.add(address);
      mark(address, true);
    },
    holderOf: (address) => holders.get(address),
    addressOf: (holder) => addresses.get(holder),
    pick: ({ low, high }) => {
      wake();
      const address = search({ low, high: Math.min(high, cursor - 1) }) ?? search({ low: Math.max(low, cursor), high });
      if (address !== undefined) cursor = address;
      return address;
    },
    take: (address, holder) => {
      const other = holders.get(address);
      if (other === holder) return;
      if (other !== undefined || reserved.has(address)) throw weftError('WEFT-ADDRESS-IN-USE', { address: formatIp4(address), holder: other ?? 'the network itself' });
      local.put(addressKey(address), JSON.stringify({ holder }));
      holders.set(address, holder);
      addresses.set(holder, address);
      resting.delete(address);
      mark(address, true);
    },
    release: (address) => {
      const holder = holders.get(address);
      if (holder === undefined) return;
      local.put(addressKey(address), JSON.stringify({ released: clock.wallNow() }));
      holders.delete(address);
      if (addresses.get(holder) === address) addresses.delete(holder);
      resting.set(address, clock.now() + restMs);
    },
    usage: () => {
      wake();
      return { blocks: blocks.length, used: holders.size, free: blocks.reduce((sum, block) => sum + block.taken.countClear(), 0) };
    },
    erase: () => local.transaction(() => {
      for (const prefix of [blockPrefix, addressPrefix]) for (const { key } of local.list(prefix)) local.delete(key);
    }),
  };
}
