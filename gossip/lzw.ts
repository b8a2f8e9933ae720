/**
 * LZW as Go's compress/lzw writes it: least significant bit first, literals of 8 bits, codes of 9 to 12 bits (GIF's
 * flavour, no early change).
 */
const CLEAR = 256;
const END = 257;
const MAX_WIDTH = 12;

/** Throws RangeError for what is cut, makes no sense, or would take more than `limit` bytes. */
export function decompress(data: Uint8Array, limit: number): Buffer {
  const prefix = new Uint16Array(1 << MAX_WIDTH);
  const suffix = new Uint8Array(1 << MAX_WIDTH);
  const length = new Uint16Array(1 << MAX_WIDTH);
  for (let code = 0; code < CLEAR; code++) {
    suffix[code] = code;
    length[code] = 1;
  }
  let out = Buffer.allocUnsafe(Math.min(limit, Math.max(64, data.length * 4)));
  let size = 0;
  let width = 9;
  let highest = END;
  let previous = -1;
  let bits = 0;
  let held = 0;
  for (const byte of data) {
    bits |= byte << held;
    held += 8;
    if (held < width) continue;
    const code = bits & ((1 << width) - 1);
    bits >>>= width;
    held -= width;
    if (code === END) return out.subarray(0, size);
    if (code === CLEAR) {
      width = 9;
      highest = END;
      previous = -1;
      continue;
    }
    if (code > highest) throw new RangeError('an LZW code comes before its meaning');
    // The code that is being defined by itself: the previous string and its own first byte.
    const own = code === highest && previous >= 0;
    const base = own ? previous : code;
    const span = length[base]! + (own ? 1 : 0);
    if (size + span > limit) throw new RangeError('unpacked, it would be too large');
    if (size + span > out.length) {
      const larger = Buffer.allocUnsafe(Math.min(limit, Math.max(out.length * 2, size + span)));
      out.copy(larger, 0, 0, size);
      out = larger;
    }
    let at = size + length[base]!;
    for (let each = base; at > size; each = prefix[each]!) out[--at] = suffix[each]!;
    const first = out[size]!;
    if (own) out[size + span - 1] = first;
    if (previous >= 0) {
      prefix[highest] = previous;
      suffix[highest] = first;
      length[highest] = length[previous]! + 1;
    }
    size += span;
    previous = code;
    highest++;
    if (highest === 1 << width && width < MAX_WIDTH) width++;
    else if (highest === 1 << MAX_WIDTH) {
      // The table is full: nothing is added until the writer clears it.
      highest = (1 << MAX_WIDTH) - 1;
      previous = -1;
    }
  }
  throw new RangeError('the LZW data ends early');
}

/** Generation-tagged, so that a table need not be cleared for each packet: entry = generation, prefix and byte, code. */
const TABLE_BITS = 14;
const TABLE_MASK = (1 << TABLE_BITS) - 1;
const tableKeys = new Int32Array(1 << TABLE_BITS);
const tableCodes = new Uint16Array(1 << TABLE_BITS);
const tableGenerations = new Uint32Array(1 << TABLE_BITS);
let generation = 0;

/** The same bytes as Go's writer. */
export function compress(data: Uint8Array): Buffer {
  // 12 bits at most for each byte, the codes of clearing, and the end.
  const out = Buffer.allocUnsafe(Math.ceil((data.length * 1.5) * 1.01) + 16);
  let size = 0;
  let bits = 0;
  let held = 0;
  let width = 9;
  let highest = END;
  generation = (generation + 1) >>> 0;

  const write = (code: number): void => {
    bits |= code << held;
    held += width;
    while (held >= 8) {
      out[size++] = bits & 0xff;
      bits >>>= 8;
      held -= 8;
    }
  };
  /** False when the table was full and was cleared. */
  const nextCode = (): boolean => {
    if (++highest === 1 << width) width++;
    if (highest < (1 << MAX_WIDTH) - 1) return true;
    write(CLEAR);
    width = 9;
    highest = END;
    generation = (generation + 1) >>> 0;
    return false;
  };

  write(CLEAR);
  let code = -1;
  for (const byte of data) {
    if (code < 0) {
      code = byte;
      continue;
    }
    const key = (code << 8) | byte;
    let slot = ((key >>> 12) ^ key) & TABLE_MASK;
    while (tableGenerations[slot] === generation && tableKeys[slot] !== key) slot = (slot + 1) & TABLE_MASK;
    if (tableGenerations[slot] === generation) {
      code = tableCodes[slot]!;
      continue;
    }
    write(code);
    code = byte;
    if (!nextCode()) continue;
    tableGenerations[slot] = generation;
    tableKeys[slot] = key;
    tableCodes[slot] = highest;
  }
  if (code >= 0) {
    write(code);
    nextCode();
  }
  write(END);
  if (held > 0) out[size++] = bits & 0xff;
  return out.subarray(0, size);
}
