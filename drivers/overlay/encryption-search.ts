/** Looking for what a kernel may lack and may be given later: where there is none, it looks for a module each time that it is asked, and we wait for it. */
import type { Clock } from '../../base/clock.ts';

const AGAIN_MS = 30_000;

export interface Search<T> {
  /** As it was found; undefined: not looked for, or not there. */
  found(): T | undefined;
  /** Looks now, unless it was found. */
  look(): T | undefined;
  /** Looks if nobody ever has. */
  lookOnce(): T | undefined;
  /** Looks if nobody has for half a minute. */
  lookNowAndThen(): T | undefined;
}

export function createSearch<T>(open: () => T | undefined, clock: Clock): Search<T> {
  let found: T | undefined;
  let lookedAt = -Infinity;
  const look = (): T | undefined => {
    lookedAt = clock.now();
    return (found ??= open());
  };
  return {
    found: () => found,
    look,
    lookOnce: () => (lookedAt === -Infinity ? look() : found),
    lookNowAndThen: () => (found === undefined && clock.now() - lookedAt >= AGAIN_MS ? look() : found),
  };
}
