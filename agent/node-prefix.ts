/** The prefix of the nodes' own addresses, against what hosts use besides and against the other nodes' configuration. */
import { overlaps4, parsePrefix4 } from '../base/ip.ts';
import type { Occupied } from '../ipam/subnets.ts';

/** Who uses the prefix, among what a node says that it uses. */
export const NODES = 'the addresses of Weft\'s nodes';

/** In words. `occupied`: of all nodes. */
export function nodePrefixProblems(prefix: string, occupied: readonly Occupied[]): string[] {
  const own = parsePrefix4(prefix)!;
  return occupied.flatMap(({ prefix: other, by }) => {
    if (by.startsWith(NODES)) return other === prefix ? [] : [`nodePrefix is ${prefix} here and ${other} elsewhere (${by}): hosts do not reach containers there; make it the same in every configuration`];
    const parsed = parsePrefix4(other);
    return parsed && overlaps4(own, parsed) ? [`the nodes' own addresses (nodePrefix ${prefix}) overlap ${other} (${by}): containers do not reach those of its addresses that nodes have; give all nodes another nodePrefix`] : [];
  });
}
