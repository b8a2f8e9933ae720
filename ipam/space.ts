/** The blocks in hand, and which of their addresses are taken: memory and arithmetic only. */
import { createBitmaps } from './bitmaps.ts';
import { type Bounds, intersect, isEmpty, isWithin, type Layout, partOf, type Slot } from './layout.ts';

/** Who chooses addresses in a block. Weft stays out of Docker's, where Docker would give the same address again. */
export type Chooser = 'weft' | 'docker';

export interface Space {
  /** From the top downwards. */
  blocks(): readonly number[];
  has(block: number): boolean;
  /** Of a block in hand. */
  chooserOf(block: number): Chooser;
  /** Everything in it is free, but for the addresses that no host can have. Idempotent. */
  add(block: number, chooser: Chooser): void;
  remove(block: number): void;
  /** Nothing happens outside the blocks in hand. */
  take(slot: Slot): void;
  free(slot: Slot): void;
  /** Takes a free address within bounds in a block where Weft chooses: the next below the last one, then from the top. */
  takeNext(bounds: Bounds): Slot | undefined;
  countFree(): number;
}

/** No block's number. */
const NONE = -1;

/** One in hand; `row` is that of its bitmap, whose set bits are taken. */
interface Block { index: number; row: number; chooser: Chooser; free: number }

export function createSpace(layout: Layout): Space {
  const { blockSize, edges } = layout;
  const bitmaps = createBitmaps(blockSize);
  /** From the top downwards. */
  const blocks: Block[] = [];
  const byIndex = new Map<number, Block>();
  /** The last address that was chosen, once there is one. Numbers that change in place: an object kept for each address has to be told to the collector. */
  const cursor: Slot = { block: NONE, offset: 0 };
  /** Where it is in `blocks`, if nothing was added or removed since. */
  let cursorAt = 0;

  /** Of the highest block at or below an index. */
  function positionOf(index: number): number {
    if (blocks[cursorAt]?.index === index) return cursorAt;
    let [low, high] = [0, blocks.length];
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (blocks[middle]!.index > index) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  function search(bounds: Bounds): Slot | undefined {
    if (isEmpty(bounds)) return undefined;
    for (let at = positionOf(bounds.high.block); at < blocks.length; at++) {
      const block = blocks[at]!;
      if (block.index < bounds.low.block) return undefined;
      if (block.free === 0 || block.chooser === 'docker') continue;
      const part = partOf(layout, block.index, bounds);
      const offset = part ? bitmaps.lastClear(block.row, part.high, part.low) : -1;
      if (offset < 0) continue;
      cursorAt = at;
      bitmaps.set(block.row, offset);
      block.free--;
      return { block: block.index, offset };
    }
    return undefined;
  }

  /** The one below the last one, where that is in the same block: it is free most of the time. */
  function step(bounds: Bounds): Slot | undefined {
    const block = blocks[cursorAt];
    const offset = cursor.offset - 1;
    if (offset < 0 || block?.index !== cursor.block || block.chooser === 'docker') return undefined;
    const next = { block: block.index, offset };
    if (!isWithin(next, bounds) || !bitmaps.set(block.row, offset)) return undefined;
    block.free--;
    return next;
  }

  const below = ({ block, offset }: Slot): Slot => (offset > 0 ? { block, offset: offset - 1 } : { block: block - 1, offset: blockSize - 1 });

  function take({ block: index, offset }: Slot): void {
    const block = byIndex.get(index);
    if (block && bitmaps.set(block.row, offset)) block.free--;
  }

  return {
    blocks: () => blocks.map(({ index }) => index),
    has: (index) => byIndex.has(index),
    chooserOf: (index) => byIndex.get(index)?.chooser ?? 'weft',
    add: (index, chooser) => {
      if (byIndex.has(index)) return;
      const block = { index, row: bitmaps.add(), chooser, free: blockSize };
      blocks.splice(positionOf(index), 0, block);
      byIndex.set(index, block);
      for (const edge of edges) if (edge.block === index) take(edge);
    },
    remove: (index) => {
      const block = byIndex.get(index);
      if (!block) return;
      blocks.splice(blocks.indexOf(block), 1);
      byIndex.delete(index);
      bitmaps.remove(block.row);
    },
    take,
    free: ({ block: index, offset }) => {
      const block = byIndex.get(index);
      if (block && bitmaps.clear(block.row, offset)) block.free++;
    },
    takeNext: (bounds) => {
      const found = cursor.block === NONE
        ? search(bounds)
        : step(bounds) ?? search(intersect(bounds, { low: bounds.low, high: below(cursor) })) ?? search(intersect(bounds, { low: cursor, high: bounds.high }));
      if (found) {
        cursor.block = found.block;
        cursor.offset = found.offset;
      }
      return found;
    },
    countFree: () => blocks.reduce((sum, { free }) => sum + free, 0),
  };
}
