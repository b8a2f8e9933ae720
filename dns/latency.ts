/** How long each source took, in buckets that hold what took that long or less. */
import type { Clock } from '../base/clock.ts';
import type { Histogram } from './dns.ts';
import type { Forwarder } from './forwarder.ts';
import { ORIGINS, type Origin } from './origin.ts';

/** Milliseconds. */
const BOUNDS = [0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1000, 2500];

export interface Latencies {
  add(origin: Origin, ms: number): void;
  histograms(): Record<Origin, Histogram>;
}

export function createLatencies(): Latencies {
  const counts = Object.fromEntries(ORIGINS.map((origin) => [origin, Array.from({ length: BOUNDS.length + 1 }, () => 0)])) as Record<Origin, number[]>;
  const sums = Object.fromEntries(ORIGINS.map((origin) => [origin, 0])) as Record<Origin, number>;

  function histogram(origin: Origin): Histogram {
    let count = 0;
    const buckets = BOUNDS.map((le, i) => ({ le, count: count += counts[origin][i]! }));
    return { count: count + counts[origin][BOUNDS.length]!, sum: sums[origin], buckets };
  }

  return {
    add: (origin, ms) => {
      let bucket = 0;
      while (bucket < BOUNDS.length && ms > BOUNDS[bucket]!) bucket++;
      counts[origin][bucket]!++;
      sums[origin] += ms;
    },
    histograms: () => Object.fromEntries(ORIGINS.map((origin) => [origin, histogram(origin)])) as Record<Origin, Histogram>,
  };
}

/** The same forwarder; each answer, or each time that none came, is added to its source's. That nobody is there to ask is no answer. */
export function timed<F extends Forwarder>(forwarder: F, origin: Origin, { add }: Pick<Latencies, 'add'>, clock: Pick<Clock, 'now'>): F {
  return {
    ...forwarder,
    ask: async (message, end, transport) => {
      const began = clock.now();
      const result = await forwarder.ask(message, end, transport);
      if (Buffer.isBuffer(result) || result === 'timeout') add(origin, clock.now() - began);
      return result;
    },
  };
}
