/**
 * Lifeguard's suspicion (Dadgar, Phillips, Currey 2017, §IV.B): starts long, and each independent confirmation
 * shortens it, so that one slow observer cannot have a healthy member declared dead.
 */
import type { Timers } from './timers.ts';
import type { Tuning } from './tuning.ts';

export interface SuspicionLimits { /** Confirmations that count. */ expected: number; /** Milliseconds. */ min: number; max: number }

/** For a cluster of so many live members. */
export function suspicionLimits(tuning: Tuning, members: number): SuspicionLimits {
  const scale = Math.max(1, Math.floor(Math.log10(Math.max(1, members)) * 1000) / 1000);
  const min = tuning.suspicionMult * scale * tuning.probeInterval;
  const expected = tuning.suspicionMult - 2;
  // With too few members to confirm anything there is nothing to wait for.
  return { expected: members - 2 < expected ? 0 : Math.max(0, expected), min, max: min * tuning.suspicionMaxTimeoutMult };
}

export function suspicionTimeout({ expected, min, max }: SuspicionLimits, confirmations: number): number {
  if (expected < 1) return min;
  return Math.max(min, Math.floor(max - (Math.log(confirmations + 1) / Math.log(expected + 1)) * (max - min)));
}

export interface Suspicion {
  /** True when this accuser is a new one and its word counts, thus is worth passing on. */
  confirm(from: string): boolean;
  end(): void;
}

export function startSuspicion(limits: SuspicionLimits, accuser: string, now: () => number, timers: Timers, onTimeout: () => void): Suspicion {
  const accusers = new Set([accuser]);
  const start = now();
  // Who stood still itself gives the suspect the least time anew: its answer may have been missed.
  let end = timers.judge(suspicionTimeout(limits, 0), limits.min, onTimeout);
  return {
    confirm: (from) => {
      if (accusers.has(from) || accusers.size > limits.expected) return false;
      accusers.add(from);
      end();
      end = timers.judge(Math.max(0, suspicionTimeout(limits, accusers.size - 1) - (now() - start)), limits.min, onTimeout);
      return true;
    },
    end: () => end(),
  };
}
