/**
 * How near the nodes are to this one, in steps: what lies within one step is equally near. Estimates of round trips are never the same twice, and
 * an order by the estimates themselves would give all questions of a data centre to one of its nodes.
 */
import type { Clock } from '../base/clock.ts';

/** Up to that nodes are in one place: over a loopback device estimates are 1 to 3.5 ms, which is what weftd itself takes. Each further step is twice as long. */
const ONE_PLACE_MS = 5;
const REFRESH_MS = 5_000;

export interface NearnessOptions {
  /** Estimated, in milliseconds; undefined while it is not known. */
  roundTrip(node: string): number | undefined;
  clock: Clock;
  /** Some nodes are on another step than before. */
  onChange(): void;
}

export interface Nearness {
  /** The step of a node, by id; 0 for this one, which is undefined. Those of which nothing is known are the farthest. */
  stepOf(node: string | undefined): number;
  /** Looks at the estimates again from now on. Returns the way to stop. */
  follow(): () => void;
}

export function createNearness({ roundTrip, clock, onChange }: NearnessOptions): Nearness {
  /** Those that were asked for since the last change. */
  const steps = new Map<string, number>();

  function refresh(): void {
    if ([...steps].every(([node, step]) => step === stepAt(roundTrip(node)))) return;
    steps.clear();
    onChange();
  }

  return {
    stepOf: (node) => {
      if (node === undefined) return 0;
      let step = steps.get(node);
      if (step === undefined) steps.set(node, step = stepAt(roundTrip(node)));
      return step;
    },
    follow: () => {
      let timer = clock.setTimeout(look, REFRESH_MS);
      function look(): void {
        refresh();
        timer = clock.setTimeout(look, REFRESH_MS);
      }
      return () => clock.clearTimeout(timer);
    },
  };
}

const stepAt = (ms: number | undefined): number => (ms === undefined ? Infinity : 1 + Math.max(0, Math.ceil(Math.log2(ms / ONE_PLACE_MS))));
