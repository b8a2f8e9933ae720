/** The members as this node sees them, and the rules by which word of them is believed (SWIM §4.2, memberlist's order). */
import { shuffle, type Random } from '../base/random.ts';
import type { Accusation, Address, Alive, NodeRecord, NodeState } from './messages.ts';
import type { Versions } from './versions.ts';

export interface Member {
  readonly name: string;
  readonly address: Address;
  readonly meta: Buffer;
  readonly versions: Versions;
  readonly state: NodeState;
  readonly incarnation: number;
  /** When the state began, on the injected clock. */
  readonly since: number;
}

/** u32 wraps in nobody's lifetime; a jump this large is forged or broken, and would make the node unreachable for good. */
const MAX_INCARNATION_JUMP = 2 ** 31;

export const addressKey = ({ host, port }: Address): string => `${host}:${port}`;
export const sameAddress = (a: Address, b: Address): boolean => a.host === b.host && a.port === b.port;
export const isLive = ({ state }: Member): boolean => state === 'alive' || state === 'suspect';

/** Below so many members, choosing at random looks at all of them. */
const FEW = 32;

export class Members {
  readonly #members = new Map<string, Member>();
  /** Their names, so that some can be drawn without a look at all. */
  readonly #names: string[] = [];
  #live = 0;

  get(name: string): Member | undefined {
    return this.#members.get(name);
  }

  all(): Member[] {
    return [...this.#members.values()];
  }

  /** How many are alive or suspected: what the formulas call n. */
  get liveCount(): number {
    return this.#live;
  }

  /** Up to `count` different ones, at random, of those that fit; from many it may find fewer than there are (memberlist's rule: three draws for each member). */
  sample(count: number, random: Random, fits: (member: Member) => boolean): Member[] {
    if (this.#names.length <= FEW) return shuffle(this.all().filter(fits), random).slice(0, count);
    const chosen = new Set<Member>();
    for (let draws = 3 * this.#names.length; draws > 0 && chosen.size < count; draws--) {
      const member = this.#members.get(this.#names[random.int(this.#names.length)]!)!;
      if (fits(member)) chosen.add(member);
    }
    return [...chosen];
  }

  forget(name: string): void {
    const member = this.#members.get(name);
    if (!member) return;
    if (isLive(member)) this.#live--;
    this.#members.delete(name);
    this.#names.splice(this.#names.indexOf(name), 1);
  }

  /** One that is known already, as it was. */
  restore(member: Member): void {
    this.#set(member);
  }

  /**
   * Each of these returns the member as it is now when the word changed something, else undefined.
   *
   * A live member does not move: it may be two nodes of one name, which would outbid each other for ever. Once it is
   * known as failed for `reclaimTime`, a later incarnation may come from anywhere; once it has left, any.
   */
  alive(word: Alive, now: number, reclaimTime = 0): Member | undefined {
    const known = this.#members.get(word.node);
    if (known) {
      const jump = word.incarnation - known.incarnation;
      const moved = !sameAddress(known.address, word.address);
      if (jump > MAX_INCARNATION_JUMP || (moved && (isLive(known) || (known.state === 'dead' && now - known.since < reclaimTime)))) return undefined;
      if (jump <= 0 && !(moved && known.state === 'left')) return undefined;
    }
    const { node: name, address, meta, versions, incarnation } = word;
    return this.#set({ name, address, meta, versions, state: 'alive', incarnation, since: known?.state === 'alive' ? known.since : now });
  }

  suspect({ node, incarnation }: Accusation, now: number): Member | undefined {
    const known = this.#believable(node, incarnation);
    if (!known) return undefined;
    if (known.state !== 'alive') {
      this.#raise(known, incarnation);
      return undefined;
    }
    return this.#set({ ...known, state: 'suspect', incarnation, since: now });
  }

  /** Said by the member itself, it has left. */
  dead({ node, incarnation, from }: Accusation, now: number): Member | undefined {
    const known = this.#believable(node, incarnation);
    if (!known) return undefined;
    const left = from === node;
    if (known.state === 'left' || (known.state === 'dead' && !left)) {
      this.#raise(known, incarnation);
      return undefined;
    }
    return this.#set({ ...known, state: left ? 'left' : 'dead', incarnation, since: now });
  }

  /** One that is heard of for the first time when it is already gone, since then. */
  gone(record: NodeRecord, since: number): Member {
    const { node: name, address, meta, versions, state, incarnation } = record;
    return this.#set({ name, address, meta, versions, state: state === 'left' ? 'left' : 'dead', incarnation, since });
  }

  #believable(name: string, incarnation: number): Member | undefined {
    const known = this.#members.get(name);
    return known && incarnation >= known.incarnation && incarnation - known.incarnation <= MAX_INCARNATION_JUMP ? known : undefined;
  }

  /** The highest evidence counts, or an old word of life would raise the dead. */
  #raise(known: Member, incarnation: number): void {
    if (incarnation > known.incarnation) this.#set({ ...known, incarnation });
  }

  #set(member: Member): Member {
    const before = this.#members.get(member.name);
    if (!before) this.#names.push(member.name);
    this.#live += Number(isLive(member)) - Number(before !== undefined && isLive(before));
    this.#members.set(member.name, member);
    return member;
  }
}
