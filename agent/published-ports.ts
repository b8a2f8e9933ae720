/**
 * The ports of an endpoint, published as its network's driver has it: an overlay's by every node, a bridge's by this one, which alone
 * knows them and keeps them on its disk.
 */
import type { Logger } from '../base/log.ts';
import type { Endpoints } from '../cnm/controller.ts';
import type { Endpoint, PortMapping } from '../cnm/model.ts';
import { addressesOf, targetsOf } from '../cnm/ports.ts';
import type { BridgeDriver } from '../drivers/bridge/bridge.ts';
import type { Ingress, PublishedPort } from '../ingress/ingress.ts';
import type { LocalStore } from '../store/store.ts';
import { isOnLan } from './network-scope.ts';
import type { NetworkRegistry } from './networks.ts';
import type { Publisher } from './publisher.ts';

const PREFIX = 'bridge-ports/';

/** As it publishes them: by endpoint, with the ports that were chosen. */
export const knownBridgePorts = (local: LocalStore): Map<string, PortMapping[]> =>
  new Map(local.list(PREFIX).map(({ key, value }) => [key.slice(PREFIX.length), JSON.parse(value) as PortMapping[]]));

export interface PublishedPorts {
  /** Idempotent. Throws WEFT-PORT-*, and WEFT-FEATURE-MISSING for a host address of a family that the endpoint does not have. */
  publish(endpoint: Endpoint, service: string): Promise<void>;
  /** Idempotent. */
  revoke(endpointId: string): Promise<void>;
  /** For `weft ps`: the cluster's, and this node's own. */
  list(): PublishedPort[];
}

export interface PublishedPortsOptions {
  local: LocalStore;
  registry: NetworkRegistry;
  endpoints: Endpoints;
  publisher: Publisher;
  bridge: Pick<BridgeDriver, 'publish' | 'unpublish'>;
  mesh: Ingress;
  /** This node's name. */
  node: string;
  log: Logger;
}

export function createPublishedPorts({ local, registry, endpoints, publisher, bridge, mesh, node, log }: PublishedPortsOptions): PublishedPorts {
  const onBridges = (): PublishedPort[] => [...knownBridgePorts(local)].flatMap(([endpointId, ports]) => {
    const endpoint = endpoints.get(endpointId);
    if (endpoint === undefined) return [];
    const service = publisher.workloadOf(endpointId)?.service ?? endpointId.slice(0, 12);
    return ports.map((mapping): PublishedPort => {
      const { protocol, hostIp, hostPort: port, containerPort } = mapping;
      const [ip, ip6] = targetsOf(mapping, addressesOf(endpoint));
      return { protocol, hostIp, port, service, mode: 'host', backends: [{ endpointId, node, ip: ip!, ...(ip6 !== undefined && { ip6 }), port: containerPort }], skippedOn: [] };
    });
  });

  return {
    publish: async (endpoint, service) => {
      const network = registry.get(endpoint.networkId);
      if (network?.driver === 'bridge') {
        const ports = await bridge.publish(endpoint);
        local.put(PREFIX + endpoint.id, JSON.stringify(ports));
      } else if (network && isOnLan(network)) {
        log.warn({ network: network.name, endpoint: endpoint.id.slice(0, 12) }, `ports of a container on a network of ${network.driver} are not published: the LAN reaches it at its own address`);
      } else if (network) {
        await mesh.publish(network, endpoint, service);
      }
    },
    revoke: async (endpointId) => {
      if (local.get(PREFIX + endpointId) !== undefined) local.delete(PREFIX + endpointId);
      bridge.unpublish(endpointId);
      await mesh.revoke(endpointId);
    },
    list: () => [...mesh.list(), ...onBridges()],
  };
}
