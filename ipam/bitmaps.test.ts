import fc from 'fast-check';
import { test } from 'tap';
import { createBitmaps } from './bitmaps.ts';

void test('it finds what a set of numbers says', async (t) => {
  t.doesNotThrow(() => fc.assert(fc.property(
    fc.integer({ min: 1, max: 256 }), fc.array(fc.tuple(fc.boolean(), fc.nat(255)), { maxLength: 300 }), fc.nat(255), fc.nat(255),
    (size, changes, a, b) => {
      const bitmaps = createBitmaps(size);
      const [before, row, after] = [bitmaps.add(), bitmaps.add(), bitmaps.add()];
      bitmaps.remove(before);
      const clear = new Set(Array.from({ length: size }, (_, bit) => bit));
      for (const [set, at] of changes) {
        const bit = at % size;
        const changed = set ? bitmaps.set(row, bit) : bitmaps.clear(row, bit);
        if (changed !== (set === clear.has(bit))) return false;
        if (set) clear.delete(bit);
        else clear.add(bit);
      }
      const [low, high] = [Math.min(a, b) % size, Math.max(a, b) % size].sort((x, y) => x - y) as [number, number];
      const expected = Math.max(-1, ...[...clear].filter((bit) => bit >= low && bit <= high));
      return bitmaps.lastClear(row, high, low) === expected && bitmaps.lastClear(after, high, low) === high && bitmaps.add() === before;
    },
  ), { numRuns: 1000 }));
});
