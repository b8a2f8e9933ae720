/** News waiting to be passed on: the least often passed on first; a later word about the same thing replaces the earlier. */
import { PART_OVERHEAD } from './framing.ts';

interface Item { about: string | undefined; message: Buffer; transmits: number; order: number; done: (() => void) | undefined }

export class BroadcastQueue {
  #items: Item[] = [];
  #order = 0;

  /** `done` is called when it was passed on often enough, or replaced. */
  add(message: Buffer, about?: string, done?: () => void): void {
    if (about !== undefined) {
      const old = this.#items.findIndex((item) => item.about === about);
      if (old >= 0) this.#items.splice(old, 1)[0]!.done?.();
    }
    this.#items.push({ about, message, transmits: 0, order: this.#order++, done });
  }

  get length(): number {
    return this.#items.length;
  }

  /** Messages for one packet with `room` bytes left, each counted as passed on once. */
  take(room: number, limit: number): Buffer[] {
    if (this.#items.length === 0) return [];
    this.#items.sort((a, b) => a.transmits - b.transmits || b.message.length - a.message.length || b.order - a.order);
    const taken: Buffer[] = [];
    let left = room;
    for (const item of this.#items) {
      const size = item.message.length + PART_OVERHEAD;
      if (size > left || taken.length === 200) continue;
      left -= size;
      item.transmits++;
      taken.push(item.message);
    }
    this.#items = this.#items.filter((item) => {
      if (item.transmits >= limit) item.done?.();
      return item.transmits < limit;
    });
    return taken;
  }
}
