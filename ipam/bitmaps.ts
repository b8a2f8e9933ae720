/** Rows of bits of one width in one piece of memory: 65,536 rows of 256 bits take 2 MB, whatever else is around. */
export interface Bitmaps {
  /** A row of zeros. */
  add(): number;
  remove(row: number): void;
  /** Whether that changed it. */
  set(row: number, bit: number): boolean;
  /** Whether that changed it. */
  clear(row: number, bit: number): boolean;
  /** The highest zero in [low, high], a word at a time; -1 when there is none. */
  lastClear(row: number, high: number, low: number): number;
}

const FIRST_ROWS = 4;

export function createBitmaps(width: number): Bitmaps {
  const wordsOfRow = Math.ceil(width / 32);
  let words = new Uint32Array(FIRST_ROWS * wordsOfRow);
  let rows = 0;
  const removed: number[] = [];

  return {
    add: () => {
      const row = removed.pop() ?? rows++;
      if (rows * wordsOfRow > words.length) {
        const larger = new Uint32Array(words.length * 2);
        larger.set(words);
        words = larger;
      }
      words.fill(0, row * wordsOfRow, (row + 1) * wordsOfRow);
      return row;
    },
    remove: (row) => void removed.push(row),
    set: (row, bit) => {
      const at = row * wordsOfRow + (bit >>> 5);
      const mask = 1 << (bit & 31);
      if ((words[at]! & mask) !== 0) return false;
      words[at]! |= mask;
      return true;
    },
    clear: (row, bit) => {
      const at = row * wordsOfRow + (bit >>> 5);
      const mask = 1 << (bit & 31);
      if ((words[at]! & mask) === 0) return false;
      words[at]! &= ~mask;
      return true;
    },
    lastClear: (row, high, low) => {
      const from = row * wordsOfRow;
      for (let index = high >>> 5; index >= low >>> 5; index--) {
        let clear = ~words[from + index]! >>> 0;
        if (index === high >>> 5) clear &= 0xffffffff >>> (31 - (high & 31));
        if (clear === 0) continue;
        const bit = index * 32 + 31 - Math.clz32(clear);
        return bit >= low ? bit : -1;
      }
      return -1;
    },
  };
}
