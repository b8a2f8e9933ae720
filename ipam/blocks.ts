/** How a pool is cut into blocks: 16 of 16 addresses in a /24, 256 of 256 in a /16, single addresses in a small one. */
import { last4, type Prefix4, size4 } from '../base/ip.ts';

export interface Bounds { low: number; high: number }

export interface Layout {
  prefix: Prefix4;
  /** Addresses that hosts can have: not the first and last of the subnet, except in a /31 (RFC 3021) or /32. */
  hosts: Bounds;
  /** Addresses in a block. */
  blockSize: number;
}

const LARGEST_BLOCK_BITS = 8;
/** Hosts bits above a block, as long as the block is not at its largest: 16 blocks, so that 16 nodes find one each. */
const SPREAD_BITS = 4;

export function layoutOf(prefix: Prefix4): Layout {
  const bits = Math.min(Math.max(32 - prefix.length - SPREAD_BITS, 0), LARGEST_BLOCK_BITS);
  const edge = prefix.length < 31 ? 1 : 0;
  return { prefix, hosts: { low: prefix.base + edge, high: last4(prefix) - edge }, blockSize: 2 ** bits };
}

export const blockOf = ({ prefix, blockSize }: Layout, address: number): number => Math.floor((address - prefix.base) / blockSize);

export const blockBounds = ({ prefix, blockSize }: Layout, index: number): Bounds =>
  ({ low: prefix.base + index * blockSize, high: prefix.base + (index + 1) * blockSize - 1 });

export const isBlock = ({ prefix, blockSize }: Layout, index: number): boolean =>
  Number.isInteger(index) && index >= 0 && index < size4(prefix) / blockSize;

/** Empty when high < low. */
export const intersect = (a: Bounds, b: Bounds): Bounds => ({ low: Math.max(a.low, b.low), high: Math.min(a.high, b.high) });
