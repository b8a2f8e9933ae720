import { WeftError } from '../base/errors.ts';
import { withoutLength } from '../base/ip.ts';
import { contains, familyOf, parsePrefix, type Family } from '../base/prefix.ts';
import type { AddressClaims } from '../cnm/controller.ts';
import type { Network, Subnet } from '../cnm/model.ts';
import type { AddressManager } from '../ipam/ipam.ts';

/**
 * The claims on an endpoint's addresses, where Docker has not made it through the IPAM driver before. Addresses that
 * Docker's own IPAM chose are claimed here, before the endpoint exists. Networks of one node with Docker's IPAM need no
 * claim: Docker alone hands those out. Of several subnets the first that has room is taken.
 */
export function createAddressClaims(addresses: AddressManager, nodeId: string): AddressClaims {
  const byDocker = (network: Network): boolean => network.ipam === 'docker' && network.node === nodeId;
  const pools = (network: Network, family: Family): Subnet[] =>
    (network.scope === 'node' && byDocker(network) ? [] : network.subnets.filter(({ subnet }) => familyOf(subnet) === family));

  async function releaseOne(network: Network, text: string, holder: string): Promise<void> {
    const address = withoutLength(text);
    const pool = pools(network, familyOf(address)).find(({ subnet }) => isIn(subnet, address));
    if (pool && addresses.holderOf(pool.subnet, address) === holder) await addresses.releaseAddress(pool.subnet, address);
  }

  return {
    claim: async (network, endpointId, family, wanted) => {
      const all = pools(network, family);
      const address = wanted === undefined ? undefined : withoutLength(wanted);
      // One that is in none of them is refused by the first.
      const candidates = address === undefined ? all : [all.find(({ subnet }) => isIn(subnet, address)) ?? all[0]].filter((each) => each !== undefined);
      if (candidates.length === 0) return wanted;
      return fromFirst(candidates, ({ subnet, range }) => addresses.requestAddress({
        subnet, network: network.name, holder: endpointId, chooser: byDocker(network) && address !== undefined ? 'docker' : 'weft',
        ...(address !== undefined && { address }), ...(range !== undefined && { range }),
      }));
    },
    holderOf: (network, text) => {
      const address = withoutLength(text);
      const pool = network.subnets.find(({ subnet }) => isIn(subnet, address));
      return pool && addresses.holderOf(pool.subnet, address);
    },
    release: async (network, { id, address, heldAs = id, addressIpv6, heldAsIpv6 = id }) => {
      if (address !== undefined) await releaseOne(network, address, heldAs);
      if (addressIpv6 !== undefined) await releaseOne(network, addressIpv6, heldAsIpv6);
    },
  };
}

/** What the first pool that has room gives; throws what the last one says. */
export async function fromFirst<P, T>(pools: readonly P[], request: (pool: P) => Promise<T>): Promise<T> {
  for (const pool of pools.slice(0, -1)) {
    try {
      return await request(pool);
    } catch (error) {
      if (!(error instanceof WeftError) || error.code !== 'WEFT-POOL-EXHAUSTED') throw error;
    }
  }
  return request(pools.at(-1)!);
}

const isIn = (subnet: string, address: string): boolean => contains(parsePrefix(subnet)!, address);
