/** News waiting to be passed on: the least often passed on first; a later word about the same thing replaces the earlier. */
import { MAX_PARTS, PART_OVERHEAD } from './framing.ts';

interface Item { about: string | undefined; message: Buffer; transmits: number; order: number; done: (() => void) | undefined }

export class BroadcastQueue {
  readonly #items = new Map<string | symbol, Item>();
  #order = 0;

  /** `done` is called when it was passed on often enough, or replaced. */
  add(message: Buffer, about?: string, done?: () => void): void {
    const key = about ?? Symbol('nothing replaces it');
    this.#items.get(key)?.done?.();
    this.#items.delete(key);
    this.#items.set(key, { about, message, transmits: 0, order: this.#order++, done });
  }

  get length(): number {
    return this.#items.size;
  }

  /** Messages for one packet with `room` bytes left, each counted as passed on once; after `limit` times it is done. */
  take(room: number, limit: number): Buffer[] {
    if (this.#items.size === 0) return [];
    const waiting = [...this.#items].sort(([, a], [, b]) => a.transmits - b.transmits || b.message.length - a.message.length || b.order - a.order);
    const taken: Buffer[] = [];
    let left = room;
    for (const [key, item] of waiting) {
      const size = item.message.length + PART_OVERHEAD;
      if (size > left) continue;
      // One place is left for the message that news travels with.
      if (taken.length === MAX_PARTS - 1) break;
      left -= size;
      taken.push(item.message);
      if (++item.transmits < limit) continue;
      this.#items.delete(key);
      item.done?.();
    }
    return taken;
  }
}
