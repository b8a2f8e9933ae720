/** What a comparison in pieces finds: counted by kind, told in a sentence each when it is over. */
import type { Repair } from '../../cnm/driver.ts';

export class Differences {
  readonly #kinds = new Map<string, { count: number; first: string }>();

  /** `kind`: 'routes were missing'; `thing`: one of them. */
  add(kind: string, thing: string): void {
    const known = this.#kinds.get(kind);
    if (known) known.count++;
    else this.#kinds.set(kind, { count: 1, first: thing });
  }

  tell(found: Repair[]): void {
    for (const [kind, { count, first }] of this.#kinds) found.push({ what: `${count} ${kind} (${first})` });
  }
}
