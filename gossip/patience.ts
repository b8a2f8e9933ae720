/**
 * How long a ping's answer is waited for before others are asked: several of the round trips that were seen, so that a dead
 * member is found out in a fraction of the time that the slowest of networks would need (RFC 6298 does the same for TCP).
 */

/** Members stand still for a moment, with all round trips short. Milliseconds. */
const LEAST_MS = 100;
const ROUND_TRIPS = 5;
/** Of the slowest answer, with each one that comes: what was slow once is not slow for ever. */
const KEPT = 7 / 8;

export interface Patience {
  /** Milliseconds. */
  readonly ms: number;
  /** An answer took so long, by whichever way it came: longer than its round trip is on the safe side. */
  answered(afterMs: number): void;
}

/** Never more than `mostMs`, and all of that until something has answered. */
export function createPatience(mostMs: number): Patience {
  let slowest = Infinity;
  return {
    get ms() { return Math.min(mostMs, Math.max(LEAST_MS, ROUND_TRIPS * slowest)); },
    answered: (afterMs) => (slowest = slowest === Infinity ? afterMs : Math.max(afterMs, slowest * KEPT)),
  };
}
