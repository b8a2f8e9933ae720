/** Pools against what hosts route and Docker uses, which may have come after them: a VPN that was switched on, say. */
import { formatPrefix, overlaps, parsePrefix } from '../base/prefix.ts';
import { asTaken, firstFree, type Occupied, type Taken } from './subnets.ts';

/** In words, one for each pool that is affected. `networks`: subnet → name of who uses it. */
export function conflicts(networks: ReadonlyMap<string, string>, defaultPools: readonly string[], occupied: readonly Occupied[]): string[] {
  const taken = asTaken(occupied);
  const own: Taken[] = asTaken([...networks].map(([prefix, name]) => ({ prefix, by: name })));
  const list = (others: readonly Taken[]): string => [...new Set(others.map(({ prefix, by }) => `${formatPrefix(prefix)} (${by})`))].join(', ');
  const ofNetworks = own.flatMap(({ prefix, by }) => {
    const others = taken.filter((other) => overlaps(other.prefix, prefix));
    return others.length === 0 ? [] : [`network ${by} (${formatPrefix(prefix)}) overlaps ${list(others)}: one of them cannot be reached there; make the network anew with another subnet`];
  });
  const ofPools = defaultPools.flatMap((text) => {
    const pool = parsePrefix(text)!;
    const others = taken.filter((other) => overlaps(other.prefix, pool));
    if (others.length === 0) return [];
    return [firstFree([text], [...taken, ...own], pool.family)
      ? `default pool ${text} overlaps ${list(others)}: new networks keep out of that`
      : `default pool ${text} has no free subnet left, since it overlaps ${list(others)}: set defaultPools to a prefix that nobody uses`];
  });
  return [...ofNetworks, ...ofPools];
}
