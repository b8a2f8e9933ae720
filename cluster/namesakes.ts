/**
 * Two hosts that are the same node: one was copied, or started from the other's disk. Gossip goes by the one that it knew
 * first, so that all keeps working there, and does not tell that one of the other: the operator learns of it anywhere else.
 */
import type { Clock } from '../base/clock.ts';
import { weftError, type WeftError } from '../base/errors.ts';
import type { Delegate } from '../gossip/delegate.ts';
import type { Member } from '../gossip/gossip.ts';
import type { Address } from '../gossip/messages.ts';

/** Both are heard of with every exchange of states, which is every five minutes in the largest clusters. */
const FORGOTTEN_MS = 600_000;

export interface Namesakes {
  readonly onConflict: NonNullable<Delegate['onConflict']>;
  /** WEFT-NODE-TWICE for each node that is there twice, now or in the last minutes. */
  problems(memberOf: (id: string) => Member | undefined): WeftError[];
}

export function createNamesakes(clock: Clock): Namesakes {
  const heard = new Map<string, { other: Address; at: number }>();
  return {
    onConflict: ({ name }, { address }) => void heard.set(name, { other: address, at: clock.now() }),
    problems: (memberOf) => [...heard].flatMap(([id, { other, at }]) => {
      const known = memberOf(id);
      // A node that got another address is two nodes until the old address is found silent.
      const isOver = clock.now() - at > FORGOTTEN_MS || known === undefined || known.address.host === other.host || known.state === 'dead' || known.state === 'left';
      if (isOver) heard.delete(id);
      return isOver ? [] : [weftError('WEFT-NODE-TWICE', { node: known.meta.toString() || id, address: known.address.host, other: other.host })];
    }),
  };
}
