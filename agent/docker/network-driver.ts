/** Docker's network driver calls on the controller: one instance per driver. */
import { weftError } from '../../base/errors.ts';
import { contains4, parseIp4, parsePrefix4, withoutLength } from '../../base/ip.ts';
import type { Logger } from '../../base/log.ts';
import type { Controller } from '../../cnm/controller.ts';
import type { Endpoint, Network, PortMapping, Workload } from '../../cnm/model.ts';
import type { CreateNetworkRequest, NetworkDriverHandlers, PortBinding } from '../../plugin-spec/types.ts';
import type { Copies } from './copies.ts';
import { ADDRESS_SPACE } from './ipam-driver.ts';
import type { NetworkLifecycle } from '../lifecycle.ts';
import { scopeOf } from '../network-scope.ts';
import type { NetworkMap } from './network-map.ts';

export interface NetworkDriverOptions {
  driver: string;
  node: string;
  controller: Controller;
  lifecycle: NetworkLifecycle;
  map: NetworkMap;
  copies: Copies;
  endpoint(id: string): Endpoint | undefined;
  /** Name and labels of who joined; undefined when Docker does not say. Never inspects. */
  early(endpointId: string, dockerNetworkId: string): Promise<Workload | undefined>;
  /** Whose backend it is, by whatever can be known without waiting for Docker. */
  serviceOf(endpoint: Endpoint, dockerNetworkId: string): Promise<string>;
  publish(endpoint: Endpoint, service: string): Promise<void>;
  revoke(endpointId: string): Promise<void>;
  /** Docker forgot a network of the cluster: remove it everywhere, or put it back. */
  onDeleted(network: Network): void;
  log: Logger;
}

export function createNetworkDriver(options: NetworkDriverOptions): NetworkDriverHandlers {
  const { controller, lifecycle, map, copies, log } = options;

  const weftId = (dockerId: string): string => {
    const id = map.weftId(dockerId);
    if (id === undefined) throw weftError('WEFT-NETWORK-UNKNOWN', { network: dockerId.slice(0, 12) });
    return id;
  };

  function networkOf(request: CreateNetworkRequest): Network {
    if (request.ipv6.length > 0 || request.enableIpv6) throw weftError('WEFT-FEATURE-MISSING', { feature: 'IPv6 in Weft networks', hint: 'create the network without --ipv6' });
    const subnets = request.ipv4.map(({ pool, gateway, auxAddresses }) => {
      const aux = Object.fromEntries(Object.entries(auxAddresses).map(([name, address]) => [name, withoutLength(address)]));
      return { subnet: pool, ...(gateway !== undefined && { gateway: withoutLength(gateway) }), ...(Object.keys(aux).length > 0 && { aux }) };
    });
    for (const { subnet, gateway } of subnets) {
      const prefix = parsePrefix4(subnet);
      if (prefix?.length === 0) throw weftError('WEFT-FEATURE-MISSING', { feature: 'a network without addresses', hint: 'create it with --ipam-driver weft, or without that option' });
      if (!prefix) throw weftError('WEFT-SUBNET-MALFORMED', { subnet });
      if (gateway !== undefined && !contains4(prefix, parseIp4(gateway) ?? -1)) throw weftError('WEFT-GATEWAY-OUTSIDE', { gateway, subnet });
    }
    if (subnets.length === 0) throw weftError('WEFT-SUBNET-NONE', { network: request.networkId.slice(0, 12) });
    return {
      id: request.networkId,
      // Docker tells neither name nor labels here: the replicator fills them in when Docker lists the network.
      name: '',
      driver: options.driver,
      scope: scopeOf(options.driver, request.options) ?? 'node',
      node: options.node,
      subnets,
      ipam: request.ipv4[0]?.addressSpace === ADDRESS_SPACE ? 'weft' : 'docker',
      internal: request.internal,
      options: request.options,
      labels: {},
      attachable: false,
      createdAt: new Date().toISOString(),
    };
  }

  return {
    capabilities: () => ({ scope: 'local', connectivityScope: options.driver === 'bridge' ? 'local' : 'global', gwAllocChecker: false }),

    createNetwork: async (request) => {
      const poolHeld = request.ipv4[0]?.addressSpace === ADDRESS_SPACE;
      const pools = request.ipv4.map(({ pool }) => pool);
      const original = poolHeld ? copies.original(options.driver, pools) : undefined;
      // Docker may repeat a call.
      if (original && original.id !== request.networkId) {
        // Of a creation that was given up on, or of a network that is just being removed elsewhere.
        if (!pools.every(copies.isBeingMade)) throw weftError('WEFT-NETWORK-EXISTS', { network: original.name || original.id.slice(0, 12) });
        await lifecycle.adopt(original.id);
        map.bind(request.networkId, original.id);
        return;
      }
      const network = await lifecycle.create(networkOf(request), { poolHeld });
      map.bind(request.networkId, network.id);
    },

    deleteNetwork: async ({ networkId }) => {
      const id = map.weftId(networkId);
      if (id === undefined) return;
      map.unbind(networkId);
      const network = lifecycle.get(id);
      if (!network) return;
      if (network.scope === 'node') await lifecycle.remove(id);
      else options.onDeleted(network);
    },

    createEndpoint: async (request) => {
      const id = weftId(request.networkId);
      const network = lifecycle.get(id);
      if (request.addressIpv6) throw weftError('WEFT-FEATURE-MISSING', { feature: 'IPv6 in Weft networks', hint: 'leave out --ip6' });
      const endpoint = await controller.createEndpoint({
        networkId: id,
        id: request.endpointId,
        ...(request.address !== undefined && { address: request.address }),
        addressHeld: !(network?.ipam === 'docker' && network.node === options.node),
        ...(request.macAddress !== undefined && { mac: request.macAddress }),
        ports: ports(request.portMap),
        options: request.driverOptions,
      });
      return { ...(request.macAddress === undefined && { macAddress: endpoint.mac }), ...(request.address === undefined && endpoint.address !== undefined && { address: endpoint.address }) };
    },

    deleteEndpoint: async ({ endpointId }) => {
      await options.revoke(endpointId);
      await controller.deleteEndpoint(endpointId);
    },

    endpointOperInfo: async () => ({}),

    join: async ({ endpointId, networkId, sandboxKey }) => {
      const answer = await controller.join(endpointId, sandboxKey);
      // Not awaited: names matter once the container has an interface, which is later than this answer.
      options.early(endpointId, networkId).catch((error: unknown) => log.debug({ err: error }, 'Docker did not say who joined'));
      return {
        interfaceName: { srcName: answer.sourceName, dstPrefix: answer.prefix },
        ...(answer.gateway !== undefined && { gateway: answer.gateway }),
        staticRoutes: answer.routes,
        disableGatewayService: answer.gateway === undefined,
      };
    },

    leave: async ({ endpointId }) => {
      await options.revoke(endpointId);
      await controller.leave(endpointId);
    },

    programExternalConnectivity: async ({ endpointId, networkId, portMap }) => {
      const known = options.endpoint(endpointId);
      if (!known) throw weftError('WEFT-ENDPOINT-UNKNOWN', { endpoint: endpointId.slice(0, 12) });
      const wanted = ports(portMap);
      if (wanted.length === 0) return;
      const endpoint = { ...known, ports: wanted };
      await options.publish(endpoint, await options.serviceOf(endpoint, networkId));
    },

    revokeExternalConnectivity: ({ endpointId }) => options.revoke(endpointId),
  };
}

function ports(bindings: readonly PortBinding[]): PortMapping[] {
  return bindings.map(({ protocol, containerPort, hostPort, hostIp }) => {
    if (protocol === 'sctp') throw weftError('WEFT-FEATURE-MISSING', { feature: `publishing an SCTP port (${containerPort})`, hint: 'publish TCP or UDP ports' });
    return { protocol, containerPort, hostPort, hostIp };
  });
}
