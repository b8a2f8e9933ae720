/** Docker's network driver calls on the controller: one instance per driver. */
import { weftError } from '../../base/errors.ts';
import { withoutLength } from '../../base/ip.ts';
import type { Logger } from '../../base/log.ts';
import { isHostAddress, parsePrefix } from '../../base/prefix.ts';
import type { Controller } from '../../cnm/controller.ts';
import type { Endpoint, Network, PortMapping } from '../../cnm/model.ts';
import type { AddressPool, CreateNetworkRequest, NetworkDriverHandlers, PortBinding } from '../../plugin-spec/types.ts';
import type { Copies } from './copies.ts';
import type { ForgottenEndpoints } from './forgotten-endpoints.ts';
import { ADDRESS_SPACE, NO_ADDRESS, NO_IPV4 } from './ipam-driver.ts';
import type { NetworkLifecycle } from '../lifecycle.ts';
import { scopeOf } from '../network-scope.ts';
import type { PublishedPorts } from '../published-ports.ts';
import type { NetworkMap } from './network-map.ts';
import type { Starting } from './starting.ts';

export interface NetworkDriverOptions {
  driver: string;
  node: string;
  controller: Controller;
  lifecycle: NetworkLifecycle;
  map: NetworkMap;
  copies: Copies;
  endpoint(id: string): Endpoint | undefined;
  forgotten: Pick<ForgottenEndpoints, 'removeOn' | 'withAddresses'>;
  starting: Starting;
  ports: Pick<PublishedPorts, 'publish' | 'revoke'>;
  /** Docker forgot a network of the cluster: remove it everywhere, or put it back. */
  onDeleted(network: Network): void;
  /** Until what Docker forgot a moment ago is removed, or is to be put back. */
  decided(): Promise<void>;
  log: Logger;
}

/**
 * All of IPv6 as two prefixes. Engines before 28 make an endpoint the gateway of its container only for its IPv4, and fail
 * the start where a default route is there already, another network's: these stand beside it.
 */
const HALVES = ['::/1', '8000::/1'];

export function createNetworkDriver(options: NetworkDriverOptions): NetworkDriverHandlers {
  const { controller, lifecycle, map, copies, forgotten, log } = options;

  /** Endpoints without IPv4 on an engine that does not know such. Lost with weftd, which matters only between the two calls of one start. */
  const withoutElection = new Set<string>();

  const weftId = (dockerId: string): string => {
    const id = map.weftId(dockerId);
    if (id === undefined) throw weftError('WEFT-NETWORK-UNKNOWN', { network: dockerId.slice(0, 12) });
    return id;
  };

  function networkOf(request: CreateNetworkRequest): Network {
    const pools = poolsOf(request);
    const subnets = pools.filter(({ pool }) => pool !== NO_IPV4 || request.ipv6.length === 0).map(({ pool, gateway, auxAddresses }) => {
      const aux = Object.fromEntries(Object.entries(auxAddresses).map(([name, address]) => [name, withoutLength(address)]));
      return { subnet: pool, ...(gateway !== undefined && { gateway: withoutLength(gateway) }), ...(Object.keys(aux).length > 0 && { aux }) };
    });
    for (const { subnet, gateway } of subnets) {
      const prefix = parsePrefix(subnet);
      if (prefix?.length === 0) throw weftError('WEFT-FEATURE-MISSING', { feature: 'a network without addresses', hint: 'create it with --ipam-driver weft, or without that option' });
      if (!prefix) throw weftError('WEFT-SUBNET-MALFORMED', { subnet });
      if (gateway !== undefined && !isHostAddress(prefix, gateway)) throw weftError('WEFT-GATEWAY-OUTSIDE', { gateway, subnet });
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
      ipam: pools[0]?.addressSpace === ADDRESS_SPACE ? 'weft' : 'docker',
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
      const poolHeld = poolsOf(request)[0]?.addressSpace === ADDRESS_SPACE;
      const pools = poolsOf(request).map(({ pool }) => pool).filter((pool) => pool !== NO_IPV4);
      if (!pools.every(copies.isBeingMade)) await options.decided();
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
      const network = lifecycle.get(id);
      if (network) await forgotten.removeOn(id);
      // One that something of ours is still on keeps its tie, by which it goes later.
      if (network?.scope === 'node') await lifecycle.remove(id);
      map.unbind(networkId);
      if (network?.scope === 'cluster') options.onDeleted(network);
    },

    createEndpoint: async (request) => {
      const id = weftId(request.networkId);
      const network = lifecycle.get(id);
      const hasIpv4 = request.address !== NO_ADDRESS;
      if (!hasIpv4) withoutElection.add(request.endpointId);
      const addresses = [request.address, request.addressIpv6].filter((each) => each !== undefined);
      const endpoint = await forgotten.withAddresses(id, addresses, () => controller.createEndpoint({
        networkId: id,
        id: request.endpointId,
        ...(request.address !== undefined && hasIpv4 && { address: request.address }),
        ...(request.addressIpv6 !== undefined && { addressIpv6: request.addressIpv6 }),
        addressHeld: !(network?.ipam === 'docker' && network.node === options.node),
        ...(request.macAddress !== undefined && { mac: request.macAddress }),
        ports: ports(request.portMap),
        options: request.driverOptions,
      }));
      return {
        // Docker would set it.
        ...(controller.driver(options.driver).sharedMac === undefined && { macAddress: endpoint.mac }),
        ...(endpoint.address !== undefined && { address: endpoint.address }), ...(endpoint.addressIpv6 !== undefined && { addressIpv6: endpoint.addressIpv6 }),
      };
    },

    deleteEndpoint: async ({ endpointId }) => {
      withoutElection.delete(endpointId);
      await options.ports.revoke(endpointId);
      await controller.deleteEndpoint(endpointId);
    },

    endpointOperInfo: async () => ({}),

    join: async ({ endpointId, networkId, sandboxKey }) => {
      const isElected = !withoutElection.has(endpointId);
      const endpoint = options.endpoint(endpointId);
      // Nobody asks for them later.
      if (!isElected && endpoint && endpoint.ports.length > 0) await options.ports.publish(endpoint, await options.starting.service(endpoint, networkId));
      const answer = await controller.join(endpointId, sandboxKey);
      const { gateway, gatewayIpv6 } = answer;
      // Not awaited: names matter once the container has an interface, which is later than this answer.
      options.starting.introduce(endpointId, networkId).catch((error: unknown) => log.debug({ err: error }, 'Docker did not say who joined'));
      return {
        interfaceName: { srcName: answer.sourceName, dstPrefix: answer.prefix },
        ...(gateway !== undefined && { gateway }),
        ...(gatewayIpv6 !== undefined && isElected && { gatewayIpv6 }),
        staticRoutes: [...answer.routes, ...(gatewayIpv6 === undefined || isElected ? [] : HALVES.map((destination) => ({ destination, nextHop: gatewayIpv6 })))],
        disableGatewayService: gateway === undefined,
      };
    },

    leave: async ({ endpointId }) => {
      await options.ports.revoke(endpointId);
      await controller.leave(endpointId);
    },

    programExternalConnectivity: async ({ endpointId, networkId, portMap }) => {
      const known = options.endpoint(endpointId);
      if (!known) throw weftError('WEFT-ENDPOINT-UNKNOWN', { endpoint: endpointId.slice(0, 12) });
      const wanted = ports(portMap);
      if (wanted.length === 0) return;
      const endpoint = { ...known, ports: wanted };
      await options.ports.publish(endpoint, await options.starting.service(endpoint, networkId));
    },

    revokeExternalConnectivity: ({ endpointId }) => options.ports.revoke(endpointId),
  };
}

const poolsOf = ({ ipv4, ipv6 }: CreateNetworkRequest): AddressPool[] => [...ipv4, ...ipv6];

function ports(bindings: readonly PortBinding[]): PortMapping[] {
  return bindings.map(({ protocol, containerPort, hostPort, hostPortEnd, hostIp }) =>
    ({ protocol, containerPort, hostPort, ...(hostPortEnd > hostPort && { hostPortEnd }), hostIp }));
}
