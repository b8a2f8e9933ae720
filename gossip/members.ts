/** The members as this node sees them, and the rules by which word of them is believed (SWIM §4.2, memberlist's order). */
import type { Address, Alive, NodeRecord, NodeState, Versions } from './messages.ts';

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

export class Members {
  readonly #members = new Map<string, Member>();

  get(name: string): Member | undefined {
    return this.#members.get(name);
  }

  all(): Member[] {
    return [...this.#members.values()];
  }

  get size(): number {
    return this.#members.size;
  }

  forget(name: string): void {
    this.#members.delete(name);
  }

  /** Returns the member as it is now when the word changed something, else undefined. */
  alive(word: Alive, now: number): Member | undefined {
    const known = this.#members.get(word.node);
    if (known && !acceptsAlive(known, word)) return undefined;
    return this.#set({ name: word.node, address: word.address, meta: word.meta, versions: word.versions, state: 'alive', incarnation: word.incarnation, since: known?.state === 'alive' ? known.since : now });
  }

  suspect(name: string, incarnation: number, now: number): Member | undefined {
    const known = this.#members.get(name);
    if (!known || incarnation < known.incarnation || known.state !== 'alive') return undefined;
    return this.#set({ ...known, state: 'suspect', incarnation, since: now });
  }

  dead(name: string, incarnation: number, left: boolean, now: number): Member | undefined {
    const known = this.#members.get(name);
    if (!known || incarnation < known.incarnation) return undefined;
    if (known.state === 'left' || (known.state === 'dead' && !left)) {
      // The highest evidence counts, or an old word of life would raise the dead.
      if (incarnation > known.incarnation) this.#set({ ...known, incarnation });
      return undefined;
    }
    return this.#set({ ...known, state: left ? 'left' : 'dead', incarnation, since: now });
  }

  records(): NodeRecord[] {
    return this.all().map(({ name, address, meta, versions, state, incarnation }) => ({ node: name, address, meta, versions, state, incarnation }));
  }

  #set(member: Member): Member {
    this.#members.set(member.name, member);
    return member;
  }
}

function acceptsAlive(known: Member, word: Alive): boolean {
  const jump = word.incarnation - known.incarnation;
  if (jump > MAX_INCARNATION_JUMP) return false;
  const moved = known.address.host !== word.address.host || known.address.port !== word.address.port;
  // A node that restarted elsewhere has a higher incarnation (they begin at the clock's seconds), so its move is believed.
  return jump > 0 || (moved && known.state === 'left');
}
