/** What does not work while the store is away, in words for `weft status`. */

export interface PoolInHand { subnet: string; resting: number; free: number }

const plural = (count: number): string => `${count} ${count === 1 ? 'address' : 'addresses'}`;

/** `pools`: in which this node holds blocks. */
export function describeDegraded(pools: readonly PoolInHand[]): string {
  const total = pools.reduce((sum, { free }) => sum + free, 0);
  const resting = pools.reduce((sum, { resting: each }) => sum + each, 0);
  const each = pools.length > 0 ? ` (${pools.map(({ subnet, free }) => `${free} in ${subnet}`).join(', ')}${resting > 0 ? `; ${resting} more when they have rested` : ''})` : '';
  return `containers and their traffic go on; new ones start here as long as addresses are in hand: ${plural(total)} left${each}. `
    + 'Waiting for the store: creating and removing networks, further blocks of addresses, ports that were not published before, hosts that join or are removed, new keys';
}
