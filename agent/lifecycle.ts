/** Networks from creation to removal, for both front ends: pool, registry and kernel objects, undone together. */
import { errorText, weftError } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';
import { isHostAddress, parsePrefix } from '../base/prefix.ts';
import { withUndo } from '../base/undo.ts';
import type { Controller } from '../cnm/controller.ts';
import { wantedVni } from '../drivers/options.ts';
import type { Network } from '../cnm/model.ts';
import type { AddressManager } from '../ipam/ipam.ts';
import { asTaken, checkedRange, refuseOverlap, type Occupied } from '../ipam/subnets.ts';
import { bridgeNameOf, sharesSubnet } from './network-scope.ts';
import { upstreamsOf } from './network-upstreams.ts';
import type { NetworkChange, NetworkRegistry } from './networks.ts';
import { byRoute } from './occupied.ts';

export interface NetworkLifecycle {
  get(id: string): Network | undefined;
  /** `poolHeld`: the subnets were claimed before, through the IPAM driver. */
  create(network: Network, options: { poolHeld: boolean }): Promise<Network>;
  /** This node's part of a network that another node made. */
  adopt(id: string): Promise<Network>;
  /** What the cluster has, or has no more, here. */
  follow(change: NetworkChange): Promise<void>;
  /** Everywhere. Throws WEFT-NETWORK-BUSY while a node has endpoints on it. */
  remove(id: string): Promise<void>;
}

export interface LifecycleOptions {
  registry: NetworkRegistry;
  controller: Controller;
  addresses: AddressManager;
  /** What a network of this node alone must not overlap: this node's own prefixes. */
  occupiedHere(): readonly Occupied[];
  /** Where a subnet is suggested from. */
  defaultPools: readonly string[];
  /** Endpoints on a network, on all nodes, in words. */
  endpointsOn(id: string): string[];
  /** Does it while nothing is repaired: a repair that began before would make again what goes. */
  betweenRepairs<T>(work: () => Promise<T>): Promise<T>;
  log: Logger;
}

export function createLifecycle(options: LifecycleOptions): NetworkLifecycle {
  const { registry, controller, addresses, log } = options;

  function checkHere(network: Network): void {
    // A bridge of the user's is there before its network is.
    const bridge = bridgeNameOf(network);
    const others = asTaken([
      ...registry.list().flatMap((each) => each.subnets.map((other) => ({ prefix: other.subnet, by: `network ${each.name || each.id.slice(0, 12)}` }))),
      ...options.occupiedHere().filter(({ by }) => bridge === undefined || by !== byRoute(bridge)),
    ]);
    for (const { subnet } of network.subnets) refuseOverlap(parsePrefix(subnet)!, others, options.defaultPools);
  }

  function checkSubnets(network: Network): void {
    for (const { subnet, gateway, range } of network.subnets) {
      const prefix = parsePrefix(subnet);
      if (!prefix) throw weftError('WEFT-SUBNET-MALFORMED', { subnet });
      if (gateway !== undefined && !isHostAddress(prefix, gateway)) throw weftError('WEFT-GATEWAY-OUTSIDE', { gateway, subnet });
      if (range !== undefined) checkedRange(range, prefix, subnet);
    }
  }

  return {
    get: (id) => registry.get(id),

    create: (network, { poolHeld }) => withUndo(async (undo) => {
      const again = registry.get(network.id);
      if (again) return again;
      checkSubnets(network);
      controller.validate(network);
      upstreamsOf(network);
      if (network.scope === 'cluster' || network.ipam === 'weft') {
        for (const { subnet, range, gateway, aux } of network.subnets) {
          if (poolHeld) {
            // Claimed through the IPAM driver as well, which is not told what they are for.
            for (const address of Object.values(aux ?? {})) await addresses.releaseAddress(subnet, address);
          } else {
            const { id } = await addresses.requestPool({ subnet, ...(range !== undefined && { range }), shared: sharesSubnet(network) });
            undo.push(() => addresses.releasePool(subnet, id));
          }
          await addresses.reserve(subnet, { ...aux, ...(gateway !== undefined && { gateway }) });
        }
      } else {
        checkHere(network);
      }
      const vni = network.scope === 'cluster' ? wantedVni(network) : undefined;
      const stored = await registry.create({ ...network, ...(vni !== undefined && { vni }) });
      undo.push(() => registry.remove(stored.id));
      undo.push(() => controller.deleteNetwork(stored));
      await controller.createNetwork(stored);
      return stored;
    }),

    adopt: async (id) => {
      const network = registry.get(id);
      if (!network) throw weftError('WEFT-NETWORK-UNKNOWN', { network: id.slice(0, 12) });
      await controller.createNetwork(network);
      return network;
    },

    follow: ({ type, network }) => (type === 'put' ? controller.createNetwork(network) : options.betweenRepairs(() => controller.deleteNetwork(network)))
      .catch((error: unknown) => log.warn({ network: network.name, detail: errorText(error) }, 'a network could not be made equal to the cluster\'s here; tried again at the next repair')),

    remove: async (id) => {
      const network = registry.get(id);
      if (!network) return;
      const busy = options.endpointsOn(id);
      if (busy.length > 0) throw weftError('WEFT-NETWORK-BUSY', { network: network.name || id.slice(0, 12), endpoints: busy.join(', ') });
      // Known before: once another node has removed the network as well, the next one may have its subnet.
      const pools = (network.scope === 'cluster' || network.ipam === 'weft' ? network.subnets : []).map(({ subnet }) => ({ subnet, poolId: addresses.poolId(subnet) }));
      await options.betweenRepairs(async () => {
        await controller.deleteNetwork(network);
        await registry.remove(id);
      });
      for (const { subnet, poolId } of pools) {
        await addresses.releasePool(subnet, poolId).catch((error: unknown) => log.warn({ subnet, detail: errorText(error) }, 'a pool stays claimed until the store answers'));
      }
    },
  };
}
