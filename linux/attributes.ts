/**
 * Netlink attributes: length, type, payload, padded to four bytes (linux/netlink.h). Numbers are in host order, which
 * is little-endian on every machine Node runs on today, unless the name says otherwise.
 */
const HEADER = 4;
const NLA_F_NESTED = 0x8000;
const TYPE_MASK = 0x3fff;

export function attribute(type: number, payload: Uint8Array): Buffer {
  const bytes = Buffer.alloc(align(HEADER + payload.length));
  bytes.writeUInt16LE(HEADER + payload.length, 0);
  bytes.writeUInt16LE(type, 2);
  bytes.set(payload, HEADER);
  return bytes;
}

export const align = (length: number): number => (length + 3) & ~3;

/** NLA_F_NESTED is always set: strictly checked families refuse a nest without it. */
export const nested = (type: number, ...parts: Uint8Array[]): Buffer => attribute(type | NLA_F_NESTED, Buffer.concat(parts));
export const u8 = (type: number, value: number): Buffer => attribute(type, Uint8Array.of(value));
export const flag = (type: number, value: boolean): Buffer => u8(type, value ? 1 : 0);
export const text = (type: number, value: string): Buffer => attribute(type, Buffer.from(`${value}\0`));
export const u16be = (type: number, value: number): Buffer => attribute(type, Uint8Array.of(value >>> 8, value & 255));

export function u16(type: number, value: number): Buffer {
  const payload = Buffer.alloc(2);
  payload.writeUInt16LE(value, 0);
  return attribute(type, payload);
}

export function u32(type: number, value: number): Buffer {
  const payload = Buffer.alloc(4);
  payload.writeUInt32LE(value >>> 0, 0);
  return attribute(type, payload);
}

/** Left out where there is nothing to say. */
export const optional = <T>(value: T | undefined, encode: (value: T) => Buffer): Buffer[] => (value === undefined ? [] : [encode(value)]);

/** What does not fit its own length ends the list. */
function walk(data: Buffer, visit: (type: number, start: number, end: number) => void): void {
  for (let at = 0; at + HEADER <= data.length;) {
    // Not readUInt16LE: each call of it costs as much as all the rest.
    const length = data[at]! | (data[at + 1]! << 8);
    if (length < HEADER || at + length > data.length) return;
    visit((data[at + 2]! | (data[at + 3]! << 8)) & TYPE_MASK, at + HEADER, at + length);
    at += align(length);
  }
}

/** Type and payload (a view of `data`) in order. */
export function eachAttribute(data: Buffer): [type: number, payload: Buffer][] {
  const all: [number, Buffer][] = [];
  walk(data, (type, start, end) => void all.push([type, data.subarray(start, end)]));
  return all;
}

/** By type; the last of a type wins. Payloads are views, made when they are asked for: of the forty of a link, eight are. */
export class Attributes {
  readonly #data: Buffer;
  readonly #places = new Map<number, number>();

  constructor(data: Buffer) {
    this.#data = data;
    walk(data, (type, start) => void this.#places.set(type, start));
  }

  has(type: number): boolean {
    return this.#places.has(type);
  }

  get(type: number): Buffer | undefined {
    const start = this.#places.get(type);
    return start === undefined ? undefined : this.#data.subarray(start, start - HEADER + this.#data.readUInt16LE(start - HEADER));
  }
}

export const parseAttributes = (data: Buffer): Attributes => new Attributes(data);

export const readText = (payload: Buffer | undefined): string | undefined => payload?.toString('utf8').replace(/\0.*$/s, '');
export const readU16 = (payload: Buffer | undefined): number | undefined => (payload && payload.length >= 2 ? payload.readUInt16LE(0) : undefined);
export const readU32 = (payload: Buffer | undefined): number | undefined => (payload && payload.length >= 4 ? payload.readUInt32LE(0) : undefined);
