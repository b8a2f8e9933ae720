/** How well this node keeps up (Lifeguard §IV.A): 0 is well; the worse it is, the slower it is to accuse others. */
export interface Awareness { readonly score: number; change(by: number): void }

const WORST = 7;

export function createAwareness(): Awareness {
  let score = 0;
  return {
    get score() { return score; },
    change: (by) => (score = Math.min(WORST, Math.max(0, score + by))),
  };
}
