import { randomBytes } from 'node:crypto';

/** Randomness behind an interface, so that a failing simulation can be repeated from its seed. */
export interface Random {
  /** Uniform in [0, 1). */
  float(): number;
  /** Uniform integer in [0, limit). */
  int(limit: number): number;
  bytes(length: number): Uint8Array;
}

const POOL_BYTES = 1024;
let pool = Buffer.alloc(0);

/** From the kernel in portions: a call costs more than sealing a packet does. */
function pooledBytes(length: number): Uint8Array {
  if (length > POOL_BYTES) return randomBytes(length);
  if (length > pool.length) pool = randomBytes(POOL_BYTES);
  const bytes = pool.subarray(0, length);
  pool = pool.subarray(length);
  return bytes;
}

export const systemRandom: Random = {
  float: () => Math.random(),
  int: (limit) => Math.floor(Math.random() * limit),
  bytes: pooledBytes,
};

/** A small deterministic generator (mulberry32). For simulations only; never for secrets. */
export function seededRandom(seed: number): Random {
  let state = seed >>> 0;
  const float = (): number => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
  const int = (limit: number): number => Math.floor(float() * limit);
  return { float, int, bytes: (length) => Uint8Array.from({ length }, () => int(256)) };
}

/** Twice as many digits. */
export const hexOf = (random: Random, bytes: number): string => Buffer.from(random.bytes(bytes)).toString('hex');

/** Fisher-Yates, in place. */
export function shuffle<T>(items: T[], random: Random): T[] {
  for (let i = items.length - 1; i > 0; i--) {
    const j = random.int(i + 1);
    [items[i], items[j]] = [items[j]!, items[i]!];
  }
  return items;
}
