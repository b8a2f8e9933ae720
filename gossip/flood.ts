/** A limit for each source: a token bucket that holds one second's worth. Bounded, however many sources there are. */
const MAX_SOURCES = 4_096;

export interface FloodGuard {
  /** Whether one more from this source is taken in now. */
  admits(source: string): boolean;
}

export function createFloodGuard(perSecond: number, now: () => number): FloodGuard {
  const buckets = new Map<string, { tokens: number; at: number }>();
  return {
    admits: (source) => {
      const at = now();
      let bucket = buckets.get(source);
      if (!bucket) {
        // The one that came first goes: with forged sources it starts anew with a full bucket, as all of them do.
        if (buckets.size === MAX_SOURCES) buckets.delete(buckets.keys().next().value!);
        buckets.set(source, bucket = { tokens: perSecond, at });
      }
      bucket.tokens = Math.min(perSecond, bucket.tokens + ((at - bucket.at) / 1000) * perSecond);
      bucket.at = at;
      if (bucket.tokens < 1) return false;
      bucket.tokens--;
      return true;
    },
  };
}
