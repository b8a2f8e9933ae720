/** Networks from creation to removal, for both front ends: pool, registry and kernel objects, undone together. */
import { errorText, weftError } from '../base/errors.ts';
import { contains4, last4, overlaps4, parseIp4, parsePrefix4, type Prefix4 } from '../base/ip.ts';
import type { Logger } from '../base/log.ts';
import { withUndo } from '../base/undo.ts';
import type { Controller } from '../cnm/controller.ts';
import { wantedVni } from '../drivers/options.ts';
import type { Network } from '../cnm/model.ts';
import type { AddressManager } from '../ipam/ipam.ts';
import type { NetworkRegistry } from './networks.ts';
import type { Occupied } from '../ipam/subnets.ts';

/** Neither the network's own address nor the broadcast address; a /31 has neither (RFC 3021). */
const isHostAddress = (prefix: Prefix4, address: number): boolean =>
  contains4(prefix, address) && (prefix.length >= 31 || (address !== prefix.base && address !== last4(prefix)));

export interface NetworkLifecycle {
  get(id: string): Network | undefined;
  /** `poolHeld`: the first subnet was claimed before, through the IPAM driver. */
  create(network: Network, options: { poolHeld: boolean }): Promise<Network>;
  /** This node's part of a network that another node made. */
  adopt(id: string): Promise<Network>;
  /** Everywhere. Throws WEFT-NETWORK-BUSY while a node has endpoints on it. */
  remove(id: string): Promise<void>;
}

export interface LifecycleOptions {
  registry: NetworkRegistry;
  controller: Controller;
  addresses: AddressManager;
  /** What a network of this node alone must not overlap: this node's own prefixes. */
  occupiedHere(): readonly Occupied[];
  /** Endpoints on a network, on all nodes, as 'id (node)'. */
  endpointsOn(id: string): string[];
  log: Logger;
}

export function createLifecycle(options: LifecycleOptions): NetworkLifecycle {
  const { registry, controller, addresses, log } = options;

  function checkHere(network: Network): void {
    for (const { subnet } of network.subnets) {
      const prefix = parsePrefix4(subnet)!;
      const others = [
        ...registry.list().flatMap((each) => each.subnets.map((other) => ({ prefix: other.subnet, by: `network ${each.name || each.id.slice(0, 12)}` }))),
        ...options.occupiedHere(),
      ];
      const other = others.find((each) => overlaps4(parsePrefix4(each.prefix)!, prefix));
      if (other) throw weftError('WEFT-SUBNET-OVERLAP', { subnet, other: `${other.prefix} (${other.by})`, suggestion: '10.192.4.0/24' });
    }
  }

  function checkSubnets(network: Network): void {
    if (network.subnets.length > 1) throw weftError('WEFT-FEATURE-MISSING', { feature: 'more than one subnet in a network', hint: 'give one --subnet' });
    for (const { subnet, gateway, range } of network.subnets) {
      const prefix = parsePrefix4(subnet);
      if (!prefix) throw weftError('WEFT-SUBNET-MALFORMED', { subnet });
      if (gateway !== undefined && !isHostAddress(prefix, parseIp4(gateway) ?? -1)) throw weftError('WEFT-GATEWAY-OUTSIDE', { gateway, subnet });
      if (range !== undefined) {
        const part = parsePrefix4(range);
        if (!part || part.length < prefix.length || !contains4(prefix, part.base)) throw weftError('WEFT-RANGE-OUTSIDE', { range, subnet });
      }
    }
  }

  return {
    get: (id) => registry.get(id),

    create: (network, { poolHeld }) => withUndo(async (undo) => {
      const again = registry.get(network.id);
      if (again) return again;
      checkSubnets(network);
      controller.validate(network);
      const [first] = network.subnets;
      const claims = network.scope === 'cluster' || network.ipam === 'weft';
      if (first && claims) {
        if (!poolHeld) {
          await addresses.requestPool({ subnet: first.subnet, ...(first.range !== undefined && { range: first.range }) });
          undo.push(() => addresses.releasePool(first.subnet));
        }
        await addresses.reserve(first.subnet, { ...first.aux, ...(first.gateway !== undefined && { gateway: first.gateway }) });
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

    remove: async (id) => {
      const network = registry.get(id);
      if (!network) return;
      const busy = options.endpointsOn(id);
      if (busy.length > 0) throw weftError('WEFT-NETWORK-BUSY', { network: network.name || id.slice(0, 12), endpoints: busy.join(', ') });
      await controller.deleteNetwork(network);
      await registry.remove(id);
      for (const { subnet } of network.scope === 'cluster' || network.ipam === 'weft' ? network.subnets : []) {
        await addresses.releasePool(subnet).catch((error: unknown) => log.warn({ subnet, detail: errorText(error) }, 'a pool stays claimed until the store answers'));
      }
    },
  };
}
