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
  const length = typeof value === 'string' ? Buffer.byteLength(value) : value.length;
  const head = length < 32 ? 1 : length < 0x10000 ? 3 : 5;
  const bytes = Buffer.allocUnsafe(head + length);
  if (head === 1) bytes[0] = 0xa0 | length;
  else if (head === 3) {
    bytes[0] = 0xda;
    bytes.writeUInt16BE(length, 1);
  } else {
    bytes[0] = 0xdb;
    bytes.writeUInt32BE(length, 1);
  }
  if (typeof value === 'string') bytes.write(value, head);
  else bytes.set(value, head);
  return bytes;
}

/** Unsigned, in the shortest form, as Go writes its uint fields. */
export function uint(value: number): Buffer {
  const size = value < 0x80 ? 1 : value < 0x100 ? 2 : value < 0x10000 ? 3 : 5;
  const bytes = Buffer.allocUnsafe(size);
  if (size === 1) bytes[0] = value;
  else if (size === 2) {
    bytes[0] = 0xcc;
    bytes[1] = value;
  } else if (size === 3) {
    bytes[0] = 0xcd;
    bytes.writeUInt16BE(value, 1);
  } else {
    bytes[0] = 0xce;
    bytes.writeUInt32BE(value >>> 0, 1);
  }
  return bytes;
}

export const bool = (value: boolean): Buffer => Buffer.of(value ? 0xc3 : 0xc2);
export const nil = Buffer.of(0xc0);

/** The names of fields as they are written: a few dozen, each of them again and again. */
const names = new Map<string, Buffer>();

function nameOf(field: string): Buffer {
  let name = names.get(field);
  if (!name) names.set(field, name = raw(field));
  return name;
}

/** Up to 15 fields, of names that are known beforehand, in the order given: Go sorts them by name. Those that are undefined are left out. */
export function map(fields: Record<string, Buffer | undefined>): Buffer {
  let count = 0;
  let length = 1;
  for (const field in fields) {
    const value = fields[field];
    if (!value) continue;
    count++;
    length += nameOf(field).length + value.length;
  }
  const bytes = Buffer.allocUnsafe(length);
  bytes[0] = 0x80 | count;
  let at = 1;
  for (const field in fields) {
    const value = fields[field];
    if (!value) continue;
    const name = nameOf(field);
    bytes.set(name, at);
    bytes.set(value, at + name.length);
    at += name.length + value.length;
  }
  return bytes;
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
