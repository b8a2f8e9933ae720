/** What the control socket answers. */
import { randomBytes } from 'node:crypto';
import { weftError } from '../base/errors.ts';
import { formatIp4, parsePrefix4, withoutLength } from '../base/ip.ts';
import { withUndo } from '../base/undo.ts';
import type { Endpoints } from '../cnm/controller.ts';
import type { Network } from '../cnm/model.ts';
import type { NodeInfo, SoftState } from '../cluster/state.ts';
import type { Resolver } from '../dns/dns.ts';
import type { Ingress } from '../ingress/ingress.ts';
import type { AddressManager } from '../ipam/ipam.ts';
import { COPY_MARK } from '../store/copy.ts';
import type { Store } from '../store/store.ts';
import type { AgentApi, CreateNetworkRequest, NetworkAnswer } from './api.ts';
import type { DockerLink } from './docker/link.ts';
import type { Replicator } from './docker/replicator.ts';
import type { GossipKeys } from './gossip-keys.ts';
import type { Joining } from './joining.ts';
import type { IpamApi } from './ipam-api.ts';
import type { NetworkLifecycle } from './lifecycle.ts';
import type { NetworkRegistry } from './networks.ts';
import type { NodeCommands } from './node-commands.ts';
import type { Publisher } from './publisher.ts';
import type { RepairLoop } from './repair.ts';
import type { SandboxCommands } from './sandbox-commands.ts';
import type { StoreMembers } from './store-members.ts';
import { VERSION } from './version.ts';

export interface AgentApiOptions {
  self(): NodeInfo;
  store: Store;
  state: SoftState;
  registry: NetworkRegistry;
  endpoints: Endpoints;
  addresses: AddressManager;
  publisher: Publisher;
  mesh: Ingress;
  resolver: Resolver;
  repairs: RepairLoop;
  lifecycle: NetworkLifecycle;
  commands: SandboxCommands;
  link: DockerLink;
  replicator: Replicator;
  joining: Joining;
  nodes: NodeCommands;
  storeMembers: StoreMembers;
  keys: GossipKeys;
  nodeName(id: string): string;
  ipam: IpamApi;
}

const SCOPES: Record<string, Network['scope']> = { overlay: 'cluster', bridge: 'node' };

export function createAgentApi(options: AgentApiOptions): AgentApi {
  const { self, store, state, registry, endpoints, addresses, publisher, mesh, resolver, repairs, lifecycle, commands, link } = options;

  const find = (reference: string): Network => {
    const network = registry.find(reference);
    if (!network) throw weftError('WEFT-NETWORK-UNKNOWN', { network: reference });
    return network;
  };

  function describe(network: Network): NetworkAnswer {
    const names = new Map(state.list('name').map(({ key, value }) => [key, value.name]));
    const remote = state.list('endpoint').filter(({ value }) => value.networkId === network.id);
    const local = network.scope === 'node' ? endpoints.list().filter((endpoint) => endpoint.networkId === network.id) : [];
    return {
      id: network.id, name: network.name, driver: network.driver, scope: network.scope, ipam: network.ipam, internal: network.internal,
      subnets: network.subnets.map(({ subnet, gateway, range }) => ({ subnet, ...(gateway !== undefined && { gateway }), ...(range !== undefined && { range }) })),
      ...(network.vni !== undefined && { vni: network.vni }), options: network.options, labels: network.labels,
      endpoints: [
        ...remote.map(({ key, owner, value }) => ({ id: key, node: options.nodeName(owner), ip: value.ip, ...(names.has(key) && { name: names.get(key)! }) })),
        ...local.map((endpoint) => {
          const name = publisher.workloadOf(endpoint.id)?.name;
          return { id: endpoint.id, node: self().name, ip: withoutLength(endpoint.address ?? ''), ...(name !== undefined && { name }) };
        }),
      ],
    };
  }

  function problems(): string[] {
    return [
      ...options.replicator.conflicts().map((name) => `this host has a Docker network ${name} of its own, so the cluster's cannot be used here: rename or remove it`),
      ...options.ipam.problems(),
      ...self().skippedPorts.map((port) => `port ${port} is in use by a program of this host: it is published on the other nodes only`),
      ...state.members().filter((member) => member.state === 'dead').map((member) => `node ${member.name} (${member.address}) does not answer`),
    ];
  }

  async function createNetwork(request: CreateNetworkRequest): Promise<NetworkAnswer> {
    const scope = SCOPES[request.driver];
    if (!scope) throw weftError('WEFT-DRIVER-UNKNOWN', { driver: request.driver, known: Object.keys(SCOPES).join(', ') });
    if (registry.find(request.name)?.name === request.name) throw weftError('WEFT-NETWORK-EXISTS', { network: request.name });
    if (request.subnet !== undefined && !parsePrefix4(request.subnet)?.length) throw weftError('WEFT-SUBNET-MALFORMED', { subnet: request.subnet });
    const created = await withUndo(async (undo) => {
      const { subnet } = await addresses.requestPool({ ...(request.subnet !== undefined && { subnet: request.subnet }), ...(request.range !== undefined && { range: request.range }) });
      undo.push(() => addresses.releasePool(subnet));
      const prefix = parsePrefix4(subnet)!;
      return lifecycle.create({
        id: randomBytes(32).toString('hex'), name: request.name, driver: request.driver, scope, node: self().id, ipam: 'weft', internal: request.internal ?? false,
        options: request.options ?? {}, labels: request.labels ?? {}, attachable: true, createdAt: new Date().toISOString(),
        subnets: [{
          subnet, gateway: request.gateway ?? formatIp4(prefix.base + (prefix.length < 31 ? 1 : 0)),
          ...(request.range !== undefined && { range: request.range }), ...(request.aux !== undefined && { aux: request.aux }),
        }],
      }, { poolHeld: true });
    });
    return describe(created);
  }

  return {
    status: async () => {
      const quorum = options.storeMembers.quorum();
      return {
        node: { id: self().id, name: self().name, number: self().number, vtep: self().vtep, version: VERSION },
        store: { description: store.description, healthy: store.healthy, ...(quorum !== undefined && { quorum }) },
        docker: { up: link.up, ...(link.version !== undefined && { version: link.version }) },
        members: state.members(),
        counts: { networks: registry.list().length, endpoints: endpoints.list().length, sandboxesWithNames: resolver.attached().length },
        pools: addresses.usage(),
        dns: resolver.stats(),
        repairs: [...repairs.recent],
        problems: problems(),
      };
    },
    backup: async () => {
      const { entries, revision } = await store.range('');
      return { node: self().name, store: store.description, revision, entries: entries.filter(({ key }) => key !== COPY_MARK).map(({ key, value }) => ({ key, value })) };
    },
    ps: async () => ({
      endpoints: endpoints.list().map((endpoint) => {
        const workload = publisher.workloadOf(endpoint.id);
        return { id: endpoint.id, network: registry.get(endpoint.networkId)?.name ?? '', address: endpoint.address, name: workload?.name, service: workload?.service, joined: endpoint.sandbox !== undefined };
      }),
      ports: mesh.list(),
    }),
    networks: async () => registry.list().map(describe),
    network: async (reference) => describe(find(reference)),
    createNetwork,
    removeNetwork: async (reference) => {
      await lifecycle.remove(find(reference).id);
      // One of this host alone that was made through Docker is still in its list.
      await options.replicator.reconcile('it was removed');
    },
    addSandbox: commands.add,
    removeSandbox: commands.remove,
    nodes: async () => options.nodes.list(),
    removeNode: options.nodes.remove,
    token: options.joining.token,
    rotateKey: () => options.keys.rotate(false),
    ...options.ipam.calls,
  };
}
