/** Which subnets are free. */
import { weftError } from '../base/errors.ts';
import { covers, type Family, formatPrefix, lastOf, overlaps, parsePrefix, type Prefix, sizeOf } from '../base/prefix.ts';

/** A prefix that somebody has, and who, for messages. */
export interface Taken { prefix: Prefix; by: string }

/** A prefix in use outside the pools, as text. */
export interface Occupied { prefix: string; by: string }

const CHOSEN_LENGTH = { 4: 24, 6: 64 } as const;
/** A larger subnet has more blocks than one node should list, or than can be counted exactly. */
const SHORTEST_LENGTH = { 4: 8, 6: 64 } as const;

/** The lowest free /24 (IPv6: /64) of the pools of a family, tried in their order. */
export function firstFree(pools: readonly string[], taken: readonly Taken[], family: Family = 4): Prefix | undefined {
  const sorted = taken.map(({ prefix }) => prefix).filter((each) => each.family === family).toSorted((a, b) => (a.base < b.base ? -1 : 1));
  for (const text of pools) {
    const pool = parsePrefix(text);
    if (!pool) throw new RangeError(`default pool ${text} is malformed`);
    if (pool.family !== family) continue;
    let candidate: Prefix = { ...pool, length: Math.max(CHOSEN_LENGTH[family], pool.length) };
    const size = sizeOf(candidate);
    for (const each of sorted) {
      if (lastOf(candidate) > lastOf(pool)) break;
      if (!overlaps(each, candidate)) continue;
      candidate = { ...candidate, base: (lastOf(each) / size + 1n) * size };
    }
    if (lastOf(candidate) <= lastOf(pool)) return candidate;
  }
  return undefined;
}

export const asTaken = (occupied: readonly Occupied[]): Taken[] => occupied.flatMap(({ prefix: text, by }) => {
  const prefix = parsePrefix(text);
  return prefix ? [{ prefix, by }] : [];
});

/**
 * The subnet for a new pool: the wanted one, or else a free one of a family. `stored` are the pools that exist,
 * `occupied` what nodes use otherwise. Throws WEFT-SUBNET-OVERLAP, WEFT-POOLS-EXHAUSTED.
 */
export function chooseSubnet(
  wanted: Prefix | Family, stored: readonly Taken[], occupied: readonly Occupied[], defaultPools: readonly string[],
): Prefix {
  const taken = [...stored, ...asTaken(occupied)];
  if (typeof wanted === 'number') {
    const free = firstFree(defaultPools, taken, wanted);
    if (!free) throw weftError('WEFT-POOLS-EXHAUSTED', { pools: defaultPools.join(', ') });
    return free;
  }
  refuseOverlap(wanted, taken, defaultPools);
  return wanted;
}

/** Throws WEFT-SUBNET-OVERLAP, with a subnet of the default pools that is free. */
export function refuseOverlap(wanted: Prefix, taken: readonly Taken[], defaultPools: readonly string[]): void {
  const other = taken.find(({ prefix }) => overlaps(prefix, wanted));
  if (!other) return;
  const free = firstFree(defaultPools, taken, wanted.family);
  throw weftError('WEFT-SUBNET-OVERLAP', {
    subnet: formatPrefix(wanted), other: `${formatPrefix(other.prefix)} (${other.by})`, suggestion: free ? formatPrefix(free) : 'of an unused prefix',
  });
}

/** Throws WEFT-SUBNET-MALFORMED. */
export function checkedSubnet(text: string): Prefix {
  const prefix = parsePrefix(text);
  if (!prefix) throw weftError('WEFT-SUBNET-MALFORMED', { subnet: text });
  const shortest = SHORTEST_LENGTH[prefix.family];
  if (prefix.length < shortest) throw weftError('WEFT-SUBNET-MALFORMED', { subnet: `${text}, larger than a /${shortest},` });
  return prefix;
}

/** `name`: of the subnet, for messages. Throws WEFT-RANGE-OUTSIDE. */
export function checkedRange(range: string, subnet: Prefix, name: string): Prefix {
  const prefix = parsePrefix(range);
  if (!prefix || !covers(subnet, prefix)) throw weftError('WEFT-RANGE-OUTSIDE', { range, subnet: name });
  return prefix;
}
