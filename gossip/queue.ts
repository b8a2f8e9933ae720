/**
 * News waiting to be passed on: the least often passed on first, then the longest, then the newest; a later word about
 * the same thing replaces the earlier. Nobody is told twice before everybody was told once: memberlist counts packets
 * only, so that in a small cluster answers to one busy member can use up what was meant for all.
 */
import { MAX_PARTS, PART_OVERHEAD } from './framing.ts';

interface Item {
  readonly about: string | undefined;
  readonly message: Buffer;
  readonly order: number;
  /** Whose own word it is: it need not be told. */
  readonly origin: string | undefined;
  readonly done: (() => void) | undefined;
  readonly told: Set<string>;
  readonly toldDead: Set<string>;
  transmits: number;
}

export interface NewsOptions {
  /** A later item about the same replaces this one. */
  about?: string;
  /** It replaces none itself. */
  beside?: boolean;
  /** The address (as `take` is given it) that the news is from. */
  origin?: string;
  /** Called when it was passed on often enough, or replaced. */
  done?: () => void;
}

export interface Receiver {
  /** Where the packet goes. */
  to: string;
  /** How many there are to be told. */
  audience: number;
  /** After so many times an item is done. */
  limit: number;
  /** Thought to be: it may hear news as well, and takes nothing from the share of the others. */
  isDead?: boolean;
}

const before = (a: Item, b: Item): number => a.transmits - b.transmits || b.message.length - a.message.length || b.order - a.order;

export class BroadcastQueue {
  /** In the order in which they are to be sent. */
  readonly #items: Item[] = [];
  readonly #byAbout = new Map<string, Set<Item>>();
  #order = 0;
  /** Called whenever there is something new to pass on. */
  onNews = (): void => {};

  add(message: Buffer, { about, beside = false, origin, done }: NewsOptions = {}): void {
    const item: Item = { about, message, order: this.#order++, origin, done, told: new Set(origin === undefined ? [] : [origin]), toldDead: new Set(), transmits: 0 };
    if (about !== undefined) {
      const earlier = this.#byAbout.get(about) ?? new Set();
      for (const each of beside ? [] : earlier) {
        earlier.delete(each);
        this.#items.splice(this.#items.indexOf(each), 1);
        each.done?.();
      }
      this.#byAbout.set(about, earlier.add(item));
    }
    this.#insert(item);
    this.onNews();
  }

  get length(): number {
    return this.#items.length;
  }

  /** Messages for one packet with `room` bytes left, each counted as passed on once. */
  take(room: number, { to, audience, limit, isDead = false }: Receiver): Buffer[] {
    const taken: Item[] = [];
    const passed: Item[] = [];
    let [left, end] = [room, 0];
    for (const item of this.#items) {
      // One place is left for the message that news travels with.
      if (left <= PART_OVERHEAD || taken.length === MAX_PARTS - 1) break;
      const size = item.message.length + PART_OVERHEAD;
      const fits = size <= left && (isDead ? !item.toldDead.has(to) : this.#mayTell(item, to, audience));
      (fits ? taken : passed).push(item);
      if (!fits) continue;
      left -= size;
      end = taken.length + passed.length;
    }
    if (!isDead) this.#items.splice(0, end, ...passed.slice(0, end - taken.length));
    for (const item of taken) {
      if (isDead) {
        item.toldDead.add(to);
        continue;
      }
      item.told.add(to);
      if (++item.transmits < limit) {
        this.#insert(item);
        continue;
      }
      this.#forget(item);
      item.done?.();
    }
    return taken.map(({ message }) => message);
  }

  #mayTell(item: Item, to: string, audience: number): boolean {
    if (!item.told.has(to)) return true;
    if (to === item.origin || item.told.size < audience) return false;
    item.told.clear();
    if (item.origin !== undefined) item.told.add(item.origin);
    return true;
  }

  #forget(item: Item): void {
    if (item.about === undefined) return;
    const others = this.#byAbout.get(item.about)!;
    others.delete(item);
    if (others.size === 0) this.#byAbout.delete(item.about);
  }

  #insert(item: Item): void {
    let low = 0;
    let high = this.#items.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (before(this.#items[middle]!, item) <= 0) low = middle + 1;
      else high = middle;
    }
    this.#items.splice(low, 0, item);
  }
}
