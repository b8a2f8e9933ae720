import { withoutLength } from '../base/ip.ts';
import type { AddressClaims } from '../cnm/controller.ts';
import type { Network } from '../cnm/model.ts';
import type { AddressManager } from '../ipam/ipam.ts';

/**
 * The claim on an endpoint's address, where Docker has not made it through the IPAM driver before. Addresses that
 * Docker's own IPAM chose are claimed here, before the endpoint exists. Networks of one node with Docker's IPAM need no
 * claim: Docker alone hands those out.
 */
export function createAddressClaims(addresses: AddressManager, nodeId: string): AddressClaims {
  const byDocker = (network: Network): boolean => network.ipam === 'docker' && network.node === nodeId;
  const pool = (network: Network): string | undefined =>
    network.scope === 'node' && byDocker(network) ? undefined : network.subnets[0]?.subnet;

  return {
    claim: async (network, endpointId, wanted) => {
      const subnet = pool(network);
      if (subnet === undefined) return wanted;
      const range = network.subnets[0]?.range;
      return addresses.requestAddress({
        subnet, network: network.name, holder: endpointId, chooser: byDocker(network) && wanted !== undefined ? 'docker' : 'weft',
        ...(wanted !== undefined && { address: withoutLength(wanted) }), ...(range !== undefined && { range }),
      });
    },
    release: async (network, endpoint) => {
      const subnet = pool(network);
      if (subnet !== undefined && endpoint.address !== undefined) await addresses.releaseAddress(subnet, withoutLength(endpoint.address));
    },
  };
}
