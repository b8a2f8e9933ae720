/**
 * Which of Docker's networks are this host's copies of the cluster's. Docker's calls do not say it, and an option that did would
 * stay in sight: compose takes a network with an option that its file lacks for a changed one, and refuses to start. So a copy
 * is known by its subnets, which no two networks share.
 */
import type { Network } from '../../cnm/model.ts';
import type { NetworkRegistry } from '../networks.ts';

export interface Copies {
  /** Has Docker make one: until it is made, its subnets may be asked for although a network has them. */
  make(network: Network, create: () => Promise<string>): Promise<string>;
  isBeingMade(subnet: string): boolean;
  /** What a network with these subnets, all of them Weft's, is a copy of. */
  original(driver: string, subnets: readonly string[]): Network | undefined;
}

export function createCopies(registry: Pick<NetworkRegistry, 'list'>): Copies {
  const beingMade = new Set<string>();
  return {
    make: async ({ subnets }, create) => {
      for (const { subnet } of subnets) beingMade.add(subnet);
      try {
        return await create();
      } finally {
        for (const { subnet } of subnets) beingMade.delete(subnet);
      }
    },
    isBeingMade: (subnet) => beingMade.has(subnet),
    original: (driver, subnets) => registry.list().find((network) =>
      network.scope === 'cluster' && network.driver === driver && network.subnets.length === subnets.length && network.subnets.every(({ subnet }) => subnets.includes(subnet))),
  };
}
