/** A fixed number of bits, searched downwards a word at a time. */
export interface Bitmap {
  set(bit: number): void;
  clear(bit: number): void;
  /** The highest clear bit in [low, high]; -1 when all are set. */
  lastClear(high: number, low: number): number;
  countClear(): number;
}

export function createBitmap(size: number): Bitmap {
  const words = new Uint32Array(Math.ceil(size / 32));
  const lastWord = words.length - 1;
  // Bits beyond the size count as set.
  if (size % 32 > 0) words[lastWord] = (0xffffffff << size % 32) >>> 0;

  return {
    set: (bit) => { words[bit >>> 5]! |= 1 << (bit & 31); },
    clear: (bit) => { words[bit >>> 5]! &= ~(1 << (bit & 31)); },
    lastClear: (high, low) => {
      for (let index = high >>> 5; index >= low >>> 5; index--) {
        let clear = ~words[index]! >>> 0;
        if (index === high >>> 5) clear &= 0xffffffff >>> (31 - (high & 31));
        if (clear === 0) continue;
        const bit = index * 32 + 31 - Math.clz32(clear);
        return bit >= low ? bit : -1;
      }
      return -1;
    },
    countClear: () => words.reduce((sum, word) => sum + ones(~word), 0),
  };
}

function ones(word: number): number {
  let count = 0;
  for (let rest = word >>> 0; rest !== 0; rest = (rest & (rest - 1)) >>> 0) count++;
  return count;
}
