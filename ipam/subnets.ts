/** Which subnets are free. */
import { weftError } from '../base/errors.ts';
import { formatPrefix4, last4, overlaps4, parsePrefix4, type Prefix4, size4 } from '../base/ip.ts';

/** A prefix that somebody has, and who, for messages. */
export interface Taken { prefix: Prefix4; by: string }

const CHOSEN_LENGTH = 24;

/** The lowest free /24 of the pools, tried in their order. */
export function firstFree(pools: readonly string[], taken: readonly Taken[]): Prefix4 | undefined {
  const sorted = taken.map(({ prefix }) => prefix).toSorted((a, b) => a.base - b.base);
  for (const text of pools) {
    const pool = parsePrefix4(text);
    if (!pool) throw new RangeError(`default pool ${text} is malformed`);
    let candidate: Prefix4 = { base: pool.base, length: Math.max(CHOSEN_LENGTH, pool.length) };
    const size = size4(candidate);
    for (const each of sorted) {
      if (last4(candidate) > last4(pool)) break;
      if (!overlaps4(each, candidate)) continue;
      candidate = { ...candidate, base: Math.floor(last4(each) / size) * size + size };
    }
    if (last4(candidate) <= last4(pool)) return candidate;
  }
  return undefined;
}

/**
 * The subnet for a new pool: the wanted one, or else a free one. `stored` are the pools that exist, `occupied` what
 * nodes use otherwise. Throws WEFT-SUBNET-OVERLAP, WEFT-POOLS-EXHAUSTED.
 */
export function chooseSubnet(
  wanted: Prefix4 | undefined, stored: readonly Taken[], occupied: readonly { prefix: string; by: string }[], defaultPools: readonly string[],
): Prefix4 {
  const taken = [...stored, ...occupied.flatMap(({ prefix: text, by }) => {
    const prefix = parsePrefix4(text);
    return prefix ? [{ prefix, by }] : [];
  })];
  const free = firstFree(defaultPools, taken);
  const other = wanted && taken.find(({ prefix }) => overlaps4(prefix, wanted));
  if (other) {
    throw weftError('WEFT-SUBNET-OVERLAP', {
      subnet: formatPrefix4(wanted), other: `${formatPrefix4(other.prefix)} (${other.by})`, suggestion: free ? formatPrefix4(free) : 'of an unused prefix',
    });
  }
  const chosen = wanted ?? free;
  if (!chosen) throw weftError('WEFT-POOLS-EXHAUSTED', { pools: defaultPools.join(', ') });
  return chosen;
}
