/**
 * Words of life, byte for byte, that say what is believed already. Each is heard a dozen times, in a storm of joins by the
 * hundred thousand, and to know it again costs a tenth of reading it.
 */
import { sameAddress, type Member, type Members } from './members.ts';
import type { Alive } from './messages.ts';

/** With the longest meta data this is less than a megabyte. */
const MAX_WORDS = 1_024;

export class FamiliarWords {
  readonly #members: Members;
  readonly #words = new Map<string, Member>();

  constructor(members: Members) {
    this.#members = members;
  }

  /** Whether taking it in would change nothing and call for no answer. */
  has(message: Buffer): boolean {
    const member = this.#words.get(message.toString('latin1'));
    // A member is never changed but replaced.
    return member !== undefined && this.#members.get(member.name) === member;
  }

  /** `word` is what the message says, and has been taken in. */
  add(message: Buffer, { node, incarnation, address }: Alive): void {
    const member = this.#members.get(node);
    if (member?.state !== 'alive' || member.incarnation !== incarnation || !sameAddress(member.address, address)) return;
    if (this.#words.size >= MAX_WORDS) this.#words.clear();
    this.#words.set(message.toString('latin1'), member);
  }
}
