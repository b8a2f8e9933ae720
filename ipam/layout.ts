/**
 * How a pool is cut into blocks: 16 of 16 addresses in a /24, 256 of 256 in a /16, single addresses in a small one. An
 * IPv6 /64 has 2^48 blocks of 2^16. Behind this file an address is a slot, a pair of exact numbers in both families.
 */
import { formatIp4, parseIp4 } from '../base/ip.ts';
import { BITS, formatIp, lastOf, parseIp, type Prefix } from '../base/prefix.ts';

/** An address of a pool: its block, counted from the bottom, and its place in it. */
export interface Slot { block: number; offset: number }

/** From low to high, both included. Empty when high comes before low. */
export interface Bounds { low: Slot; high: Slot }

export interface Layout {
  prefix: Prefix;
  /** Addresses in a block. */
  blockSize: number;
  blockCount: number;
  /** What hosts can have: not the first and last of an IPv4 subnet, not the first of an IPv6 one (RFC 4291 §2.6.1). */
  hosts: Bounds;
  /** What Weft chooses from when nothing is asked for. */
  choosable: Bounds;
  /** The addresses that no host can have. */
  edges: readonly Slot[];
  /** Undefined when the text is no address of the subnet. */
  slotOf(address: string): Slot | undefined;
  addressOf(slot: Slot): string;
}

/** Host bits above a block, as long as the block is not at its largest: 16 blocks, so that 16 nodes find one each. */
const SPREAD_BITS = 4;
/** IPv6 has the larger blocks because a block's number has to stay exact: 64 - 16 bits. */
const LARGEST_BLOCK_BITS = { 4: 8, 6: 16 } as const;
/** Of a large IPv6 subnet Weft chooses from the lowest 2^32 addresses: fd00::ffff:fffe is short enough to be read. */
const CHOOSABLE_BITS = 32n;
/** The highest 128 addresses of an IPv6 subnet are anycast addresses (RFC 2526). */
const ANYCAST = 128n;
/** Of a smaller subnet they would be the better part. */
const ANYCAST_FROM_BITS = 9;

export function layoutOf(prefix: Prefix): Layout {
  const hostBits = BITS[prefix.family] - prefix.length;
  const blockBits = Math.min(Math.max(hostBits - SPREAD_BITS, 0), LARGEST_BLOCK_BITS[prefix.family]);
  const [first, last] = [prefix.base, lastOf(prefix)];
  const slot = (address: bigint): Slot => slotAt(address - first, blockBits);
  // A /31 and a /127 have two hosts (RFC 3021, RFC 6164), a single address is one.
  const edges = hostBits < 2 ? [] : prefix.family === 4 ? [first, last] : [first];
  const low = first + (edges.includes(first) ? 1n : 0n);
  const high = last - (edges.includes(last) ? 1n : 0n);
  const text = prefix.family === 4 ? texts4(Number(first), 2 ** hostBits, 2 ** blockBits) : texts6(first, last, blockBits);
  return {
    prefix, blockSize: 2 ** blockBits, blockCount: 2 ** (hostBits - blockBits), edges: edges.map(slot),
    hosts: { low: slot(low), high: slot(high) },
    choosable: { low: slot(low), high: slot(prefix.family === 4 ? high : highestChosen(first, high, hostBits)) },
    ...text,
  };
}

function highestChosen(first: bigint, high: bigint, hostBits: number): bigint {
  if (hostBits > Number(CHOOSABLE_BITS)) return first + (1n << CHOOSABLE_BITS) - 2n;
  return hostBits >= ANYCAST_FROM_BITS ? high - ANYCAST : high;
}

const slotAt = (offset: bigint, blockBits: number): Slot =>
  ({ block: Number(offset >> BigInt(blockBits)), offset: Number(offset & ((1n << BigInt(blockBits)) - 1n)) });

/** Numbers alone: every container's start comes this way. */
function texts4(base: number, size: number, blockSize: number): Pick<Layout, 'slotOf' | 'addressOf'> {
  return {
    slotOf: (text) => {
      const address = parseIp4(text);
      if (address === undefined || address < base || address >= base + size) return undefined;
      return { block: Math.floor((address - base) / blockSize), offset: (address - base) % blockSize };
    },
    addressOf: ({ block, offset }) => formatIp4(base + block * blockSize + offset),
  };
}

function texts6(first: bigint, last: bigint, blockBits: number): Pick<Layout, 'slotOf' | 'addressOf'> {
  return {
    slotOf: (text) => {
      const address = parseIp(text);
      if (address?.family !== 6 || address.value < first || address.value > last) return undefined;
      return slotAt(address.value - first, blockBits);
    },
    addressOf: ({ block, offset }) => formatIp(6, first + (BigInt(block) << BigInt(blockBits)) + BigInt(offset)),
  };
}

export const isBlock = ({ blockCount }: Layout, index: number): boolean => Number.isInteger(index) && index >= 0 && index < blockCount;

/** Negative when a comes before b. */
const order = (a: Slot, b: Slot): number => a.block - b.block || a.offset - b.offset;

export const isEmpty = ({ low, high }: Bounds): boolean => order(low, high) > 0;

export const isWithin = (slot: Slot, { low, high }: Bounds): boolean => order(low, slot) <= 0 && order(slot, high) <= 0;

export const intersect = (a: Bounds, b: Bounds): Bounds =>
  ({ low: order(a.low, b.low) > 0 ? a.low : b.low, high: order(a.high, b.high) < 0 ? a.high : b.high });

/** The addresses of a prefix that lies in the pool. */
export function boundsOf(layout: Layout, prefix: Prefix): Bounds {
  const { family, base } = prefix;
  return { low: layout.slotOf(formatIp(family, base))!, high: layout.slotOf(formatIp(family, lastOf(prefix)))! };
}

/** The part of a block within bounds, as offsets; undefined when there is none. */
export function partOf({ blockSize }: Layout, block: number, { low, high }: Bounds): { low: number; high: number } | undefined {
  if (block < low.block || block > high.block) return undefined;
  const part = { low: block === low.block ? low.offset : 0, high: block === high.block ? high.offset : blockSize - 1 };
  return part.low <= part.high ? part : undefined;
}
