/**
 * IPv4 and IPv6 text to bytes and back, and IPv4 prefixes as unsigned 32-bit integers (the allocator's and the
 * overlap checks' arithmetic). Text is strict: four decimal parts without leading zeros (RFC 6943 §3.1.1).
 */
import { isIPv4, isIPv6 } from 'node:net';

export interface Prefix4 {
  /** First address, host bits cleared, as uint32. */
  readonly base: number;
  readonly length: number;
}

/** '10.0.0.1' → 0x0a000001; undefined when the text is not a strict dotted quad. */
export function parseIp4(text: string): number | undefined {
  if (!isIPv4(text)) return undefined;
  const [a, b, c, d] = text.split('.').map(Number);
  return ((a! << 24) | (b! << 16) | (c! << 8) | d!) >>> 0;
}

export const formatIp4 = (value: number): string =>
  `${value >>> 24}.${(value >>> 16) & 255}.${(value >>> 8) & 255}.${value & 255}`;

export const mask4 = (length: number): number => (length === 0 ? 0 : (0xffffffff << (32 - length)) >>> 0);

/** '10.0.0.7/24' → its prefix (host bits cleared); undefined when malformed. */
export function parsePrefix4(text: string): Prefix4 | undefined {
  const slash = text.indexOf('/');
  if (slash < 0 || !/^(0|[1-9]\d?)$/.test(text.slice(slash + 1))) return undefined;
  const address = parseIp4(text.slice(0, slash));
  const length = Number(text.slice(slash + 1));
  if (address === undefined || length > 32) return undefined;
  return { base: (address & mask4(length)) >>> 0, length };
}

/** '10.0.0.7/24' → '10.0.0.7'. Text without a slash is returned as it is. */
export const withoutLength = (text: string): string => text.split('/', 1)[0]!;

/** '10.0.0.1:80', '[fd00::1]:80' (RFC 3986 §3.2.2). */
export const hostPort = (ip: string, port: number): string => `${ip.includes(':') ? `[${ip}]` : ip}:${port}`;

/** The reverse of hostPort. */
export function splitHostPort(text: string): { ip: string; port: number } {
  const colon = text.lastIndexOf(':');
  return { ip: text.slice(0, colon).replace(/^\[(.*)\]$/, '$1'), port: Number(text.slice(colon + 1)) };
}

/** Stands for every address of the same family, where a socket is bound. */
export const everyAddress = (ip: string): string => (ip.includes(':') ? '::' : '0.0.0.0');

/** 'https://[fd00::1]:7948' → 'fd00::1'. */
export const hostOfUrl = (url: string): string => new URL(url).hostname.replace(/^\[(.*)\]$/, '$1');

export const formatPrefix4 = (prefix: Prefix4): string => `${formatIp4(prefix.base)}/${prefix.length}`;

export const size4 = (prefix: Prefix4): number => 2 ** (32 - prefix.length);

/** Last address of the prefix. */
export const last4 = (prefix: Prefix4): number => prefix.base + size4(prefix) - 1;

export const contains4 = (prefix: Prefix4, address: number): boolean =>
  ((address & mask4(prefix.length)) >>> 0) === prefix.base;

export const overlaps4 = (a: Prefix4, b: Prefix4): boolean =>
  a.length <= b.length ? contains4(a, b.base) : contains4(b, a.base);

/** Network-order bytes: 4 for IPv4, 16 for IPv6. Throws RangeError on anything else. */
export function ipToBytes(text: string): Uint8Array {
  const v4 = parseIp4(text);
  if (v4 !== undefined) return Uint8Array.of(v4 >>> 24, (v4 >>> 16) & 255, (v4 >>> 8) & 255, v4 & 255);
  if (!isIPv6(text) || text.includes('%')) throw new RangeError(`not an IP address: ${text}`);
  let body = text;
  const bytes = new Uint8Array(16);
  const lastColon = body.lastIndexOf(':');
  const embedded = parseIp4(body.slice(lastColon + 1));
  if (embedded !== undefined) {
    const high = (embedded >>> 16).toString(16);
    body = `${body.slice(0, lastColon + 1)}${high}:${(embedded & 0xffff).toString(16)}`;
  }
  const [head, tail] = body.split('::') as [string, string | undefined];
  const left = head ? head.split(':') : [];
  const right = tail ? tail.split(':') : [];
  left.forEach((part, i) => writeGroup(bytes, i, part));
  right.forEach((part, i) => writeGroup(bytes, 8 - right.length + i, part));
  return bytes;
}

function writeGroup(bytes: Uint8Array, index: number, text: string): void {
  const value = Number.parseInt(text, 16);
  bytes[index * 2] = value >>> 8;
  bytes[index * 2 + 1] = value & 255;
}

/** The reverse of ipToBytes; IPv6 in RFC 5952 form. */
export function bytesToIp(bytes: Uint8Array): string {
  if (bytes.length === 4) return bytes.join('.');
  if (bytes.length !== 16) throw new RangeError(`an IP address has 4 or 16 bytes, not ${bytes.length}`);
  const groups = Array.from({ length: 8 }, (_, i) => ((bytes[i * 2]! << 8) | bytes[i * 2 + 1]!).toString(16));
  let best = { at: -1, length: 1 };
  for (let i = 0; i < 8; i++) {
    let end = i;
    while (end < 8 && groups[end] === '0') end++;
    if (end - i > best.length) best = { at: i, length: end - i };
    if (end > i) i = end;
  }
  if (best.at < 0) return groups.join(':');
  return `${groups.slice(0, best.at).join(':')}::${groups.slice(best.at + best.length).join(':')}`;
}

/** '02:42:0a:00:00:05' → 6 bytes. Throws RangeError when malformed. */
export function macToBytes(text: string): Uint8Array {
  if (!/^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/i.test(text)) throw new RangeError(`not a MAC address: ${text}`);
  return Uint8Array.from(text.split(':'), (part) => Number.parseInt(part, 16));
}

const HEX = Array.from({ length: 256 }, (_, byte) => byte.toString(16).padStart(2, '0'));

export function bytesToMac(bytes: Uint8Array): string {
  let text = '';
  for (const byte of bytes) text += text === '' ? HEX[byte] : `:${HEX[byte]}`;
  return text;
}
