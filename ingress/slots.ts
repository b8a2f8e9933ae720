/** How many slots a published port has: divisible by 2, 3, 4, 5 and 6, so that small services share evenly. */
export const SLOTS = 60;

/**
 * Spreads backends over slots evenly (counts differ by one at most) while moving as few slots as possible, so that a
 * backend that comes or goes disturbs nobody else's share. Returns the new slots; empty when there are no backends.
 */
export function assignSlots(current: readonly string[], backends: readonly string[]): string[] {
  if (backends.length === 0) return [];
  const wanted = new Set(backends);
  const counts = new Map(backends.map((backend) => [backend, 0]));
  const most = Math.ceil(SLOTS / backends.length);
  let roomAtMost = SLOTS % backends.length || backends.length;

  // Keep what fits: every backend up to the lower share, and as many as needed one more.
  const slots: (string | undefined)[] = Array.from({ length: SLOTS }, (_, i) => {
    const backend = current[i];
    if (backend === undefined || !wanted.has(backend)) return undefined;
    const count = counts.get(backend)!;
    if (count + 1 > most || (count + 1 === most && roomAtMost === 0)) return undefined;
    if (count + 1 === most) roomAtMost--;
    counts.set(backend, count + 1);
    return backend;
  });
  return slots.map((slot) => {
    if (slot !== undefined) return slot;
    const least = backends.reduce((a, b) => (counts.get(b)! < counts.get(a)! ? b : a));
    counts.set(least, counts.get(least)! + 1);
    return least;
  });
}
