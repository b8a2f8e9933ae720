/**
 * Addresses and prefixes of both families as 128-bit integers, for what is compared now and then: overlaps, free
 * subnets, ranges. What runs for every packet or container uses ./ip.ts or numbers of its own.
 */
import { isIPv6 } from 'node:net';
import { bytesToIp, formatIp4, ipToBytes, parseIp4 } from './ip.ts';

export type Family = 4 | 6;

export interface Prefix {
  readonly family: Family;
  /** First address, host bits cleared. */
  readonly base: bigint;
  readonly length: number;
}

export const BITS = { 4: 32, 6: 128 } as const;

/** Undefined unless it is a strict dotted quad, or IPv6 without a zone. */
export function parseIp(text: string): { family: Family; value: bigint } | undefined {
  const number = parseIp4(text);
  if (number !== undefined) return { family: 4, value: BigInt(number) };
  if (!isIPv6(text) || text.includes('%')) return undefined;
  const view = new DataView(ipToBytes(text).buffer);
  return { family: 6, value: (view.getBigUint64(0) << 64n) | view.getBigUint64(8) };
}

/** IPv6 in RFC 5952 form. */
export function formatIp(family: Family, value: bigint): string {
  if (family === 4) return formatIp4(Number(value));
  const bytes = new Uint8Array(16);
  const view = new DataView(bytes.buffer);
  view.setBigUint64(0, value >> 64n);
  view.setBigUint64(8, value & 0xffff_ffff_ffff_ffffn);
  return bytesToIp(bytes);
}

/** 'fd00::7/64' → its prefix (host bits cleared); undefined when malformed. */
export function parsePrefix(text: string): Prefix | undefined {
  const slash = text.indexOf('/');
  if (slash < 0 || !/^(0|[1-9]\d{0,2})$/.test(text.slice(slash + 1))) return undefined;
  const address = parseIp(text.slice(0, slash));
  const length = Number(text.slice(slash + 1));
  if (!address || length > BITS[address.family]) return undefined;
  const hostBits = BigInt(BITS[address.family] - length);
  return { family: address.family, base: (address.value >> hostBits) << hostBits, length };
}

export const formatPrefix = ({ family, base, length }: Prefix): string => `${formatIp(family, base)}/${length}`;

export const sizeOf = ({ family, length }: Prefix): bigint => 1n << BigInt(BITS[family] - length);

export const lastOf = (prefix: Prefix): bigint => prefix.base + sizeOf(prefix) - 1n;

/** `address` as text; false when it is none. */
export function contains(prefix: Prefix, address: string): boolean {
  const ip = parseIp(address);
  return ip?.family === prefix.family && ip.value >= prefix.base && ip.value <= lastOf(prefix);
}

export const overlaps = (a: Prefix, b: Prefix): boolean => a.family === b.family && a.base <= lastOf(b) && b.base <= lastOf(a);

/** Of an address or a prefix that is known to be one. */
export const familyOf = (text: string): Family => (text.includes(':') ? 6 : 4);

/** RFC 5952 for IPv6; undefined when it is no address. */
export function canonicalIp(text: string): string | undefined {
  const ip = parseIp(text);
  return ip && formatIp(ip.family, ip.value);
}

/** Whether the prefix has two addresses or one, all of which hosts can have (RFC 3021, RFC 6164). */
const isPointToPoint = ({ family, length }: Prefix): boolean => BITS[family] - length < 2;

/** A network's gateway, unless another one is asked for. */
export const firstHost = (prefix: Prefix): string => formatIp(prefix.family, prefix.base + (isPointToPoint(prefix) ? 0n : 1n));

/** Neither the subnet's own address (IPv6: that of all its routers, RFC 4291 §2.6.1) nor the broadcast address. False for what is no address. */
export function isHostAddress(prefix: Prefix, address: string): boolean {
  const ip = parseIp(address);
  if (!ip || !contains(prefix, address)) return false;
  return isPointToPoint(prefix) || (ip.value !== prefix.base && (ip.family === 6 || ip.value !== lastOf(prefix)));
}

/** Whether all of `inner` lies in `outer`. */
export const covers = (outer: Prefix, inner: Prefix): boolean => outer.family === inner.family && outer.length <= inner.length && overlaps(outer, inner);
