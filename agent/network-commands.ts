/** `weft network`: what is asked for by name, for containers of Docker's and sandboxes of ours alike. */
import { randomBytes } from 'node:crypto';
import { weftError } from '../base/errors.ts';
import { familyOf, firstHost, parsePrefix, type Family } from '../base/prefix.ts';
import { withUndo } from '../base/undo.ts';
import type { Endpoints } from '../cnm/controller.ts';
import type { Network } from '../cnm/model.ts';
import type { NodeInfo, SoftState } from '../cluster/state.ts';
import type { AddressManager } from '../ipam/ipam.ts';
import type { ConnectRequest, CreateNetworkRequest, NetworkAnswer, PruneAnswer } from './api.ts';
import { dockerStatus, type DockerClient } from './docker/client.ts';
import type { NetworkMap } from './docker/network-map.ts';
import type { Replicator } from './docker/replicator.ts';
import type { NetworkLifecycle } from './lifecycle.ts';
import { DRIVERS, scopeOf, sharesSubnet } from './network-scope.ts';
import type { NetworkRegistry } from './networks.ts';
import { addressesIn, type Publisher } from './publisher.ts';
import type { SandboxCommands } from './sandbox-commands.ts';
import { requestedSubnets } from './subnet-requests.ts';

export interface NetworkCommandsOptions {
  self(): NodeInfo;
  state: SoftState;
  registry: NetworkRegistry;
  endpoints: Endpoints;
  addresses: AddressManager;
  publisher: Publisher;
  lifecycle: NetworkLifecycle;
  docker: DockerClient;
  map: NetworkMap;
  replicator: Replicator;
  sandboxes: SandboxCommands;
  nodeName(id: string): string;
  /** Why a network without endpoints cannot be removed from the whole cluster now; undefined: it can. */
  inUse(network: Network): string | undefined;
  /** Until networks that Docker deleted a moment ago are removed, or are to be put back. */
  decided(): Promise<void>;
}

export interface NetworkCommands {
  list(): NetworkAnswer[];
  /** Throws WEFT-NETWORK-UNKNOWN, as all that take a reference do. */
  inspect(reference: string): NetworkAnswer;
  create(request: CreateNetworkRequest): Promise<NetworkAnswer>;
  remove(reference: string): Promise<void>;
  /** Throws WEFT-CONTAINER-UNKNOWN, WEFT-NETWORK-ABSENT. */
  connect(reference: string, request: ConnectRequest): Promise<void>;
  disconnect(reference: string, name: string): Promise<void>;
  /** Networks on which no node has endpoints; with `remove` they are removed. */
  prune(remove: boolean): Promise<PruneAnswer>;
}

export function createNetworkCommands(options: NetworkCommandsOptions): NetworkCommands {
  const { self, state, registry, endpoints, addresses, lifecycle, docker, map, replicator, sandboxes } = options;

  const find = (reference: string): Network => {
    const network = registry.find(reference);
    if (!network) throw weftError('WEFT-NETWORK-UNKNOWN', { network: reference });
    return network;
  };

  function describe(network: Network): NetworkAnswer {
    const names = new Map(state.list('name').map(({ key, value }) => [key, value.name]));
    const records = state.list('endpoint').filter(({ value }) => value.networkId === network.id);
    const published = new Set(records.map(({ key }) => key));
    const nameOf = (id: string): string | undefined => names.get(id) ?? options.publisher.workloadOf(id)?.name;
    const named = (id: string): { name?: string } => {
      const name = nameOf(id);
      return name === undefined ? {} : { name };
    };
    // Those of networks of this node alone, and those that have not joined yet, are not published.
    const own = endpoints.list().filter((endpoint) => endpoint.networkId === network.id && !published.has(endpoint.id));
    const owners = new Set(records.map(({ owner }) => owner));
    const dockerId = map.dockerId(network.id);
    return {
      id: network.id, name: network.name, driver: network.driver, scope: network.scope, ipam: network.ipam, internal: network.internal,
      attachable: network.attachable, created: network.createdAt, createdOn: options.nodeName(network.node),
      subnets: network.subnets, ...(network.vni !== undefined && { vni: network.vni }), options: network.options, labels: network.labels,
      ...(dockerId !== undefined && { dockerId }),
      peers: state.list('node').filter(({ owner }) => owners.has(owner)).map(({ value }) => ({ node: value.name, address: value.vtep })),
      endpoints: [
        ...records.map(({ key, owner, value }) => ({ id: key, node: options.nodeName(owner), ip: value.ip, ...(value.ip6 !== undefined && { ip6: value.ip6 }), mac: value.mac, ...named(key) })),
        ...own.map((endpoint) => ({ id: endpoint.id, node: self().name, ip: '', ...addressesIn(endpoint), mac: endpoint.mac, ...named(endpoint.id) })),
      ],
    };
  }

  async function create(request: CreateNetworkRequest): Promise<NetworkAnswer> {
    const scope = scopeOf(request.driver, request.options ?? {});
    if (!scope) throw weftError('WEFT-DRIVER-UNKNOWN', { driver: request.driver, known: DRIVERS.join(', ') });
    await options.decided();
    if (registry.find(request.name)?.name === request.name) throw weftError('WEFT-NETWORK-EXISTS', { network: request.name });
    const given = request.subnets ?? [];
    for (const subnet of given) if (!parsePrefix(subnet)?.length) throw weftError('WEFT-SUBNET-MALFORMED', { subnet });
    // What fits nowhere is refused before anything is claimed.
    const wanted = given.length > 0 ? requestedSubnets(request, given) : [];
    const families: Family[] = [...(request.ipv4 === false ? [] : [4 as const]), ...(request.ipv6 ? [6 as const] : [])];
    const open = families.filter((family) => !given.some((subnet) => familyOf(subnet) === family));
    if (wanted.length + open.length === 0) throw weftError('WEFT-SUBNET-NONE', { network: request.name });
    const created = await withUndo(async (undo) => {
      const chosen: string[] = [];
      for (const each of [...wanted, ...open.map((family) => ({ family, range: given.length > 0 ? undefined : request.ranges?.[0] }))]) {
        const { subnet, id } = await addresses.requestPool({
          ...('subnet' in each ? { subnet: each.subnet } : { family: each.family }), ...(each.range !== undefined && { range: each.range }), shared: sharesSubnet({ driver: request.driver, scope }),
        });
        undo.push(() => addresses.releasePool(subnet, id));
        chosen.push(subnet);
      }
      return lifecycle.create({
        id: randomBytes(32).toString('hex'), name: request.name, driver: request.driver, scope, node: self().id, ipam: 'weft', internal: request.internal ?? false,
        options: request.options ?? {}, labels: request.labels ?? {}, attachable: true, createdAt: new Date().toISOString(),
        subnets: requestedSubnets(request, chosen).map((each) => ({ gateway: firstHost(parsePrefix(each.subnet)!), ...each })),
      }, { poolHeld: true });
    });
    return describe(created);
  }

  async function remove(network: Network): Promise<void> {
    await lifecycle.remove(network.id);
    // One of this host alone that was made through Docker is still in its list.
    await replicator.reconcile('it was removed');
  }

  /** Docker's id of a network on this host. */
  async function inDocker(network: Network): Promise<string> {
    const known = map.dockerId(network.id);
    if (known !== undefined) return known;
    if (network.scope === 'cluster') await replicator.reconcile('it is asked for');
    const made = map.dockerId(network.id);
    if (made !== undefined) return made;
    const [detail, hint] = replicator.conflicts().includes(network.name)
      ? ['it has another one of that name', `rename or remove that one: docker network rm ${network.name}`]
      : network.scope === 'node'
        ? ['it was made by weft, for sandboxes', 'make one for containers with docker network create -d weft-bridge']
        : ['it does not answer, or refused to make it', 'see `weft status`'];
    throw weftError('WEFT-NETWORK-ABSENT', { network: network.name, detail, hint });
  }

  /** A call of Docker's about a container that may not exist. */
  async function ofContainer(name: string, call: () => Promise<void>): Promise<void> {
    try {
      await call();
    } catch (error) {
      if (dockerStatus(error) === 404) throw weftError('WEFT-CONTAINER-UNKNOWN', { name }, { cause: error });
      throw error;
    }
  }

  return {
    list: () => registry.list().map(describe),
    inspect: (reference) => describe(find(reference)),
    create,
    remove: (reference) => remove(find(reference)),

    connect: async (reference, { name, address, addressIpv6, aliases }) => {
      const network = find(reference);
      if (sandboxes.has(name)) {
        await sandboxes.add({ name, network: network.id, ...(address !== undefined && { address }), ...(addressIpv6 !== undefined && { addressIpv6 }), ...(aliases && { aliases }) });
        return;
      }
      const id = await inDocker(network);
      const wanted = { ...(address !== undefined && { IPv4Address: address }), ...(addressIpv6 !== undefined && { IPv6Address: addressIpv6 }) };
      await ofContainer(name, () => docker.connect(id, name, { ...(Object.keys(wanted).length > 0 && { IPAMConfig: wanted }), ...(aliases && { Aliases: aliases }) }));
    },

    disconnect: async (reference, name) => {
      const network = find(reference);
      if (sandboxes.has(name)) return sandboxes.disconnect(name, network);
      const id = await inDocker(network);
      await ofContainer(name, () => docker.disconnect(id, name));
    },

    prune: async (doIt) => {
      // A nameless one was made through Docker a moment ago, and may be about to be used.
      const idle = registry.list().filter((network) => network.name !== '' && (network.scope === 'cluster' || network.node === self().id) && describe(network).endpoints.length === 0);
      const kept = idle.flatMap((network) => {
        const why = options.inUse(network);
        return why === undefined ? [] : [{ name: network.name, why }];
      });
      const unused = idle.filter((network) => !kept.some(({ name }) => name === network.name));
      if (doIt) for (const network of unused) await remove(network);
      return { unused: unused.map(({ id, name, subnets }) => ({ id, name, subnets: subnets.map(({ subnet }) => subnet) })), kept };
    },
  };
}
