/** How well this node keeps up (Lifeguard §IV.A): 0 is well; the worse it is, the slower it is to accuse others. */
export interface Awareness { readonly score: number; change(by: number): void }

/** The score stays below `limit`. */
export function createAwareness(limit: number): Awareness {
  let score = 0;
  return {
    get score() { return score; },
    change: (by) => (score = Math.min(limit - 1, Math.max(0, score + by))),
  };
}
