/** What the control socket answers. */
import type { Endpoints } from '../cnm/controller.ts';
import type { NodeInfo, SoftState } from '../cluster/state.ts';
import type { Resolver } from '../dns/dns.ts';
import type { AddressManager } from '../ipam/ipam.ts';
import { isEncrypted } from '../drivers/options.ts';
import { COPY_MARK } from '../store/copy.ts';
import type { LocalStore, Store } from '../store/store.ts';
import type { AgentApi, DnsCalls } from './api.ts';
import { describeDegraded } from './degraded.ts';
import type { DockerLink } from './docker/link.ts';
import type { Replicator } from './docker/replicator.ts';
import type { GossipKeys } from './gossip-keys.ts';
import type { Joining } from './joining.ts';
import type { IpamApi } from './ipam-api.ts';
import type { NetworkCommands } from './network-commands.ts';
import type { NetworkRegistry } from './networks.ts';
import type { NodeCommands } from './node-commands.ts';
import type { PublishedPorts } from './published-ports.ts';
import type { Publisher } from './publisher.ts';
import type { Reachability, ReachabilityReport } from './reachability.ts';
import type { RepairLoop } from './repair.ts';
import type { SandboxCommands } from './sandbox-commands.ts';
import type { StoreMembers } from './store-members.ts';
import { VERSION } from './version.ts';

export interface AgentApiOptions {
  self(): NodeInfo;
  store: Store;
  local: LocalStore;
  state: SoftState;
  registry: NetworkRegistry;
  endpoints: Endpoints;
  addresses: AddressManager;
  publisher: Publisher;
  ports: PublishedPorts;
  resolver: Resolver;
  repairs: RepairLoop;
  networks: NetworkCommands;
  commands: SandboxCommands;
  link: DockerLink;
  replicator: Replicator;
  joining: Joining;
  nodes: NodeCommands;
  storeMembers: StoreMembers;
  keys: GossipKeys;
  /** Loaded when it is asked for: few nodes ever are. */
  reachability(): Promise<Reachability>;
  /** In words, besides those of the parts here. */
  otherProblems(): string[];
  ipam: IpamApi;
  dns: DnsCalls;
}

export function createAgentApi(options: AgentApiOptions): AgentApi {
  const { self, store, state, registry, endpoints, addresses, publisher, resolver, repairs, networks, commands, link } = options;

  let lastProbe: ReachabilityReport | undefined;

  function problems(): string[] {
    const { problem } = options.local;
    return [
      ...(problem === undefined ? [] : [`this node could not write its own state: ${problem}; nothing new starts here until there is room`]),
      ...options.replicator.conflicts().map((name) => `this host has a Docker network ${name} of its own, so the cluster's cannot be used here: \`docker network rm ${name}\` makes room for it`),
      ...options.ipam.problems(),
      ...[resolver.problem()].filter((each) => each !== undefined),
      ...options.otherProblems(),
      ...self().skippedPorts.map((port) => (port.includes('/[::]:')
        ? `port ${port} is in use by a program of this host: by IPv6 it is published on the other nodes only`
        : port.includes(':') ? `port ${port} is published by nobody: a program of this host has it, or the address is gone`
        : `port ${port} is in use by a program of this host: it is published on the other nodes only`)),
      ...state.members().filter((member) => member.state === 'dead').map((member) => `node ${member.name} (${member.address}) does not answer`),
      ...(lastProbe?.closed ?? []).map((closed) => `${closed} (as of ${lastProbe!.at}; \`weft node probe\` tries again)`),
    ];
  }

  return {
    status: async () => {
      const quorum = options.storeMembers.quorum();
      const copy = await options.storeMembers.problem();
      return {
        node: { id: self().id, name: self().name, number: self().number, vtep: self().vtep, version: VERSION },
        store: { description: store.description, healthy: store.healthy, ...(!store.healthy && { degraded: describeDegraded(addresses.usage()) }), ...(quorum !== undefined && { quorum }) },
        docker: { up: link.up, ...(link.version !== undefined && { version: link.version }) },
        members: state.members(),
        // VXLAN protects nothing (RFC 7348 §7).
        cleartext: registry.list().filter((network) => network.driver === 'overlay' && !isEncrypted(network)).map(({ id, name }) => name || id.slice(0, 12)).sort(),
        counts: { networks: registry.list().length, endpoints: endpoints.list().length, sandboxesWithNames: resolver.attached().length },
        pools: addresses.usage(),
        dns: resolver.stats(),
        dnsLatency: resolver.latencies(),
        repairs: [...repairs.recent],
        problems: [...problems(), ...(copy === undefined ? [] : [`this node's copy of the store: ${copy}`])],
      };
    },
    backup: async () => {
      const { entries, revision } = await store.range('');
      return { node: self().name, store: store.description, revision, entries: entries.filter(({ key }) => key !== COPY_MARK).map(({ key, value }) => ({ key, value })) };
    },
    ps: async () => ({
      endpoints: endpoints.list().map((endpoint) => {
        const workload = publisher.workloadOf(endpoint.id);
        return { id: endpoint.id, network: registry.get(endpoint.networkId)?.name ?? '', address: endpoint.address, addressIpv6: endpoint.addressIpv6, name: workload?.name, service: workload?.service, joined: endpoint.sandbox !== undefined };
      }),
      ports: options.ports.list(),
    }),
    networks: async () => networks.list(),
    network: async (reference) => networks.inspect(reference),
    createNetwork: networks.create,
    removeNetwork: networks.remove,
    connect: networks.connect,
    disconnect: networks.disconnect,
    pruneNetworks: networks.prune,
    addSandbox: commands.add,
    removeSandbox: commands.remove,
    nodes: async () => options.nodes.list(),
    promoteNode: options.storeMembers.promote,
    removeNode: options.nodes.remove,
    probe: async (reference) => (lastProbe = await (await options.reachability()).probe(reference)),
    token: options.joining.token,
    rotateKey: () => options.keys.rotate(false),
    ...options.ipam.calls,
    ...options.dns,
  };
}
