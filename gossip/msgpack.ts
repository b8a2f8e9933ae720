/**
 * The part of MessagePack that memberlist speaks: the old specification, in which strings and bytes are both "raw"
 * (a0+n, da, db; never d9 or c4). Writers are for fixed shapes, so that bytes equal Go's; the reader is lenient, since
 * peers of different ages write integers differently, and bounded, since it reads what strangers send.
 */
export type Packed = number | bigint | boolean | null | Buffer | Packed[] | { [key: string]: Packed };

const MAX_DEPTH = 8;

/** The data ends in the middle of a value: more may come. */
export class Incomplete extends Error {
  override readonly name = 'Incomplete';

  constructor() {
    super('the data ends early');
  }
}

export function raw(value: string | Uint8Array): Buffer {
  const bytes = typeof value === 'string' ? Buffer.from(value) : Buffer.from(value);
  const { length } = bytes;
  if (length < 32) return Buffer.concat([Buffer.of(0xa0 | length), bytes]);
  if (length < 0x10000) return Buffer.concat([Buffer.of(0xda, length >> 8, length & 255), bytes]);
  const head = Buffer.alloc(5);
  head[0] = 0xdb;
  head.writeUInt32BE(length, 1);
  return Buffer.concat([head, bytes]);
}

/** Unsigned, in the shortest form, as Go writes its uint fields. */
export function uint(value: number): Buffer {
  if (value < 0x80) return Buffer.of(value);
  if (value < 0x100) return Buffer.of(0xcc, value);
  if (value < 0x10000) return Buffer.of(0xcd, value >> 8, value & 255);
  const bytes = Buffer.alloc(5);
  bytes[0] = 0xce;
  bytes.writeUInt32BE(value >>> 0, 1);
  return bytes;
}

export const bool = (value: boolean): Buffer => Buffer.of(value ? 0xc3 : 0xc2);
export const nil = Buffer.of(0xc0);

/** Fields in the order given: Go sorts them by name. Those that are undefined are left out. */
export function map(fields: Record<string, Buffer | undefined>): Buffer {
  const present = Object.entries(fields).filter((entry): entry is [string, Buffer] => entry[1] !== undefined);
  return Buffer.concat([Buffer.of(0x80 | present.length), ...present.flatMap(([name, value]) => [raw(name), value])]);
}

/** One value from `offset`. Throws Incomplete where the data ends early, RangeError where it makes no sense. */
export function unpack(data: Buffer, offset = 0): { value: Packed; end: number } {
  let at = offset;
  const need = (bytes: number): number => {
    const start = at;
    if (start + bytes > data.length) throw new Incomplete();
    at += bytes;
    return start;
  };
  const bytes = (length: number): Buffer => {
    const start = need(length);
    return data.subarray(start, start + length);
  };
  const u8 = (): number => data[need(1)]!;
  const u16 = (): number => data.readUInt16BE(need(2));
  const u32 = (): number => data.readUInt32BE(need(4));

  const array = (length: number, depth: number): Packed[] => {
    // Every element takes a byte at least: a count beyond what is there is refused before it costs anything.
    if (length > data.length - at) throw new Incomplete();
    return Array.from({ length }, () => value(depth + 1));
  };
  const object = (length: number, depth: number): { [key: string]: Packed } => {
    if (length * 2 > data.length - at) throw new Incomplete();
    const result: { [key: string]: Packed } = Object.create(null) as { [key: string]: Packed };
    for (let i = 0; i < length; i++) {
      const key = value(depth + 1);
      if (!Buffer.isBuffer(key)) throw new RangeError('a key is text');
      result[key.toString()] = value(depth + 1);
    }
    return result;
  };

  function value(depth: number): Packed {
    if (depth > MAX_DEPTH) throw new RangeError('nested too deeply');
    const tag = u8();
    if (tag < 0x80) return tag;
    if (tag < 0x90) return object(tag & 15, depth);
    if (tag < 0xa0) return array(tag & 15, depth);
    if (tag < 0xc0) return bytes(tag & 31);
    if (tag >= 0xe0) return tag - 256;
    switch (tag) {
      case 0xc0: return null;
      case 0xc2: return false;
      case 0xc3: return true;
      case 0xc4: case 0xd9: return bytes(u8());
      case 0xc5: case 0xda: return bytes(u16());
      case 0xc6: case 0xdb: return bytes(u32());
      case 0xca: return data.readFloatBE(need(4));
      case 0xcb: return data.readDoubleBE(need(8));
      case 0xcc: return u8();
      case 0xcd: return u16();
      case 0xce: return u32();
      case 0xcf: return data.readBigUInt64BE(need(8));
      case 0xd0: return data.readInt8(need(1));
      case 0xd1: return data.readInt16BE(need(2));
      case 0xd2: return data.readInt32BE(need(4));
      case 0xd3: return data.readBigInt64BE(need(8));
      case 0xdc: return array(u16(), depth);
      case 0xdd: return array(u32(), depth);
      case 0xde: return object(u16(), depth);
      case 0xdf: return object(u32(), depth);
      default: throw new RangeError(`unknown type ${tag}`);
    }
  }

  return { value: value(0), end: at };
}
