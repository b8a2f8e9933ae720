/**
 * Docker's IPAM calls on the address manager. A pool's id is its subnet, its range if it has one and the id of its making, between
 * them '|': what one host's Docker releases late is not the pool that another's has made of the same subnet meanwhile.
 */
import { randomUUID } from 'node:crypto';
import { weftError } from '../../base/errors.ts';
import { contains, familyOf, firstHost, isHostAddress, parsePrefix } from '../../base/prefix.ts';
import type { Network } from '../../cnm/model.ts';
import type { AddressManager } from '../../ipam/ipam.ts';
import type { IpamDriverHandlers } from '../../plugin-spec/types.ts';
import { fromFirst } from '../address-claims.ts';
import type { NetworkRegistry } from '../networks.ts';
import type { Copies } from './copies.ts';
import type { ForgottenEndpoints } from './forgotten-endpoints.ts';
import type { NetworkMap } from './network-map.ts';

/** Docker hands this back as the AddressSpace of a network's pools: the sign that they are ours. */
export const ADDRESS_SPACE = 'weft';

/** Docker's sign of a network without addresses. Engines before 28 have no network without IPv4: one that has none gets this pool. */
export const NO_IPV4 = '0.0.0.0/0';
/** What an endpoint gets from that pool: the kernel takes it for none, and Docker finds it in the way of no route. */
export const NO_ADDRESS = '0.0.0.0/32';
/** `--ipam-opt`, for engines whose `docker network create` has no `--ipv4=false`. */
export const WITHOUT_IPV4 = 'weft.ipv4';
/** A pool is made before its network, so that only the user can say here that the subnet is the LAN's. */
const SHARED_OPTION = 'weft.lan';

export interface IpamDriverOptions {
  addresses: AddressManager;
  registry: NetworkRegistry;
  map: NetworkMap;
  copies: Copies;
  /** Until networks that Docker deleted a moment ago are removed, or are to be put back. */
  decided(): Promise<void>;
  forgotten: Pick<ForgottenEndpoints, 'removeReleased' | 'withAddresses'>;
}

export function createIpamDriver({ addresses, registry, map, copies, forgotten, decided }: IpamDriverOptions): IpamDriverHandlers {
  const boundTo = (subnet: string): Network | undefined => registry.list().find((network) => network.subnets.some((each) => each.subnet === subnet));

  /** Gateway and reserved addresses of a network that exists are asked for again by each of its copies. */
  const isReserved = (network: Network | undefined, address: string): boolean =>
    network?.subnets.some(({ gateway, aux }) => gateway === address || Object.values(aux ?? {}).includes(address)) ?? false;

  async function gateway(subnet: string, range: string | undefined, wanted: string): Promise<string> {
    const prefix = parsePrefix(subnet)!;
    const address = wanted || boundTo(subnet)?.subnets.find((each) => each.subnet === subnet)?.gateway || firstHost(range === undefined ? prefix : parsePrefix(range)!);
    if (!isHostAddress(prefix, address)) throw weftError('WEFT-GATEWAY-OUTSIDE', { gateway: address, subnet });
    await addresses.reserve(subnet, { gateway: address });
    return address;
  }

  return {
    // No replay at Docker's boot: what it would tell is on this node's disk, and a request that is repeated could not be told
    // from another container's.
    capabilities: () => ({ requiresMacAddress: false, requiresRequestReplay: false }),
    defaultAddressSpaces: () => ({ local: ADDRESS_SPACE, global: ADDRESS_SPACE }),

    requestPool: async ({ pool, subPool, options, v6 }) => {
      if (pool === '' && !v6 && options[WITHOUT_IPV4] === 'false') return { poolId: NO_IPV4, pool: NO_IPV4 };
      const isCopy = copies.isBeingMade(pool);
      if (pool !== '' && !isCopy) await decided();
      const made = await addresses.requestPool({
        family: v6 ? 6 : 4, ...(pool !== '' && { subnet: pool }), ...(subPool !== '' && { range: subPool }), ...(isCopy && { existing: true }), shared: options[SHARED_OPTION] === 'true',
      });
      return { poolId: [made.subnet, subPool, made.id].join('|'), pool: made.subnet };
    },

    releasePool: async ({ poolId }) => {
      const { subnet, id } = parsePoolId(poolId);
      // A network that exists keeps its pool: whether it goes away is decided when Docker deletes it, not here.
      if (!boundTo(subnet)) await addresses.releasePool(subnet, id);
    },

    requestAddress: async ({ poolId, address, options }) => {
      const { subnet, range } = parsePoolId(poolId);
      const length = parsePrefix(subnet)?.length;
      if (length === undefined) throw weftError('WEFT-POOL-UNKNOWN', { pool: poolId });
      if (subnet === NO_IPV4) {
        if (address !== '') throw weftError('WEFT-ADDRESS-OUTSIDE', { address, pool: 'a network without IPv4' });
        return { address: NO_ADDRESS };
      }
      if (options['RequestAddressType'] === 'com.docker.network.gateway') return { address: `${await gateway(subnet, range, address)}/${length}` };
      const network = boundTo(subnet);
      // By a copy that is being made. Afterwards it is a container that asks, which does not get one.
      if (network && map.dockerId(network.id) === undefined && isReserved(network, address)) return { address: `${address}/${length}` };
      // Auxiliary addresses of a network that is being made look like a container's of another driver's network: claimed, so that nobody
      // else gets them, and reserved when the network is made.
      const holder = `docker-${randomUUID()}`;
      // Docker itself goes on to a network's next subnet only with an IPAM of its own.
      const pools = [{ subnet, range }, ...(address === '' && network ? network.subnets.filter((each) => each.subnet !== subnet && familyOf(each.subnet) === familyOf(subnet)) : [])];
      const request = (): Promise<string> => fromFirst(pools, (pool) => addresses.requestAddress({
        subnet: pool.subnet, holder, chooser: 'weft', ...(address !== '' && { address }), ...(pool.range !== undefined && { range: pool.range }),
      }));
      return { address: await (network && address !== '' ? forgotten.withAddresses(network.id, [address], request) : request()) };
    },

    releaseAddress: async ({ poolId, address }) => {
      const { subnet: asked } = parsePoolId(poolId);
      const network = boundTo(asked);
      if (isReserved(network, address)) return;
      if (network) await forgotten.removeReleased(network.id, address);
      const subnet = network?.subnets.find((each) => contains(parsePrefix(each.subnet)!, address))?.subnet ?? asked;
      await addresses.releaseAddress(subnet, address);
    },
  };
}

/** An earlier weftd's ids have no making. */
function parsePoolId(poolId: string): { subnet: string; range?: string; id?: string } {
  const [subnet = '', range = '', id = ''] = poolId.split('|');
  return { subnet, ...(range !== '' && { range }), ...(id !== '' && { id }) };
}
