/** Builds weftd's parts and wires them. Everything is served from this node's own disk; store, peers and Docker join in when they answer. */
import { hostname } from 'node:os';
import { join } from 'node:path';
import { systemClock, sleep } from '../base/clock.ts';
import { errorText, weftError, type WeftError } from '../base/errors.ts';
import { parsePrefix4, withoutLength } from '../base/ip.ts';
import type { Logger } from '../base/log.ts';
import { contains, parsePrefix } from '../base/prefix.ts';
import { systemRandom } from '../base/random.ts';
import { runAll } from '../base/undo.ts';
import { announce } from '../cnm/announce.ts';
import { createController } from '../cnm/controller.ts';
import type { Endpoint, Network, PortMapping } from '../cnm/model.ts';
import { startCluster } from '../cluster/cluster.ts';
import { identityDirectory } from '../cluster/identity/files.ts';
import { addressesOf, type NodeInfo } from '../cluster/state.ts';
import { createResolver } from '../dns/resolver.ts';
import { createNameTable } from '../dns/zone.ts';
import { createBridgeDriver } from '../drivers/bridge/bridge.ts';
import { watchCarrier } from '../drivers/carrier.ts';
import { watchDisturbances, watchLinks } from '../drivers/disturbances.ts';
import { createMacvlanDriver } from '../drivers/macvlan/macvlan.ts';
import { lastNodeNumber } from '../drivers/overlay/addressing.ts';
import { openFabric } from '../drivers/overlay/fabric.ts';
import { createOverlayDriver } from '../drivers/overlay/overlay.ts';
import { openTransport } from '../gossip/net-transport.ts';
import { createPortClaims } from '../ingress/claims.ts';
import { createMesh } from '../ingress/mesh.ts';
import { HOST_HOLDER } from '../ipam/ipam.ts';
import { createAddressManager } from '../ipam/manager.ts';
import type { Occupied } from '../ipam/subnets.ts';
import { deleteFlowsTo } from '../linux/conntrack.ts';
import { hostNetns, openNetns } from '../linux/netns.ts';
import { openNft } from '../linux/nft.ts';
import { openRtnl } from '../linux/rtnl.ts';
import { endConnections } from '../linux/tcp-connections.ts';
import { servePlugin } from '../plugin-spec/server.ts';
import type { LocalStore } from '../store/store.ts';
import { createAddressClaims } from './address-claims.ts';
import type { AgentApi } from './api.ts';
import { createAgentApi } from './agent-api.ts';
import type { Config } from './config.ts';
import { createDockerClient, type DockerNetwork } from './docker/client.ts';
import { createCopies } from './docker/copies.ts';
import { createIpamDriver } from './docker/ipam-driver.ts';
import { createStaleRemoval, removeReleasedEndpoints } from './docker/stale.ts';
import { startDockerLink, type DockerLink } from './docker/link.ts';
import { createNetworkDriver } from './docker/network-driver.ts';
import { createNetworkMap } from './docker/network-map.ts';
import { createReplicator, PLUGINS, PLUGIN_PREFIX } from './docker/replicator.ts';
import { createWorkloads } from './docker/workloads.ts';
import { createEndpoints } from './endpoints.ts';
import { followGossipKeys, gossipKeys } from './gossip-keys.ts';
import { claimNumber, knownNumber, nodeId } from './identity.ts';
import { startJoining } from './joining.ts';
import { createIpamApi } from './ipam-api.ts';
import { createLifecycle } from './lifecycle.ts';
import { createNetworkCommands } from './network-commands.ts';
import { DRIVERS } from './network-scope.ts';
import { createNetworkRegistry } from './networks.ts';
import { createNodeCommands } from './node-commands.ts';
import { clientUrlOf, peerUrlOf, type NodeStore } from './node-store.ts';
import { nodePrefixProblems } from './node-prefix.ts';
import { createNodeDirectory } from './nodes.ts';
import { occupiedPrefixes } from './occupied.ts';
import { settleOnHost } from './one-host.ts';
import { addressesIn, createPublisher } from './publisher.ts';
import type { Reachability } from './reachability.ts';
import { REACHABILITY_PATH } from './reachability-ports.ts';
import { createRepairLoop } from './repair.ts';
import { createSandboxes } from './sandboxes.ts';
import { keepStoreMembers } from './store-members.ts';
import { createSandboxCommands } from './sandbox-commands.ts';

export const FABRIC_PATH = '/run/netns/weft';
export const BRIDGES_PATH = '/run/netns/weft-bridge';
const RETRY_MS = 1_000;
const OCCUPIED_INTERVAL_MS = 15_000;
const STALE_AFTER_MS = 30_000;
/** A start that weftd's own restart interrupted takes no longer to go on. */
const STALE_AT_START_MS = 5_000;
/** What a container's start waits for Docker's word on who it is; in its own boot Docker answers nobody. */
const SERVICE_TIMEOUT_MS = 2_000;
/** After an interface came up; neighbours that remember a former holder of its address are few. */
const ANNOUNCE_AFTER_MS = 50;

export interface AgentOptions {
  config: Config;
  nodeStore: NodeStore;
  local: LocalStore;
  log: Logger;
  /** Listening sockets from the service manager, by path. */
  inherited: ReadonlyMap<string, number>;
  /** This node must not go on: called once, with the reason. */
  fence(error: WeftError): void;
}

export interface Agent {
  readonly api: AgentApi;
  /** Traffic goes on. */
  stop(): Promise<void>;
}

/** Asks until it is answered: only a node's very first start has to wait for the store. */
async function insist<T>(what: string, log: Logger, ask: () => Promise<T>): Promise<T> {
  for (;;) {
    try {
      return await ask();
    } catch (error) {
      log.warn({ detail: errorText(error) }, `${what}: tried again`);
      await sleep(systemClock, RETRY_MS);
    }
  }
}

export async function startAgent({ config, nodeStore, local, log, inherited, fence }: AgentOptions): Promise<Agent> {
  const { store } = nodeStore;
  const clock = systemClock;
  const random = systemRandom;
  const id = nodeId(local);
  const name = config.name ?? hostname();
  const number = knownNumber(local) ?? await insist('the store has to give this node its number', log, () => claimNumber(store, local, id, lastNodeNumber(config.nodePrefix)));
  const keys = await insist('the store has to give this node the gossip keys', log, () => gossipKeys(store, local, clock.wallNow()));

  // Hard and soft state -----------------------------------------------------------------------------------------------
  const registry = createNetworkRegistry({ store, local, log });
  const endpoints = createEndpoints(local);
  const directory = createNodeDirectory(store, local, id);
  const seeds = async () => [...await directory.seeds(), ...config.discovery.seeds];
  const oneHost = await settleOnHost({ config, nodeStore, local, node: { id, name }, keys, seeds, clock, random, log, onCloned: fence });
  const at = (host: string) => ({ host, port: config.gossipPort });
  const transport = await openTransport({ bind: at('0.0.0.0'), advertise: at(config.advertise), onTls: (socket) => joining.accept(socket) });
  const cluster = startCluster({ node: { id, name }, transport, keys, seeds, discovery: config.discovery, clock, random, log: log.child({ part: 'gossip' }), local });
  const { state } = cluster;
  /** A first member is not listed before it has been asked. */
  const storePlace = () => {
    if (config.etcd) return { endpoints: config.etcd.endpoints, own: false };
    const known = storeMembers.endpoints();
    return { endpoints: known.length > 0 ? known : [clientUrlOf(config)], own: true };
  };
  const joining = startJoining({
    store, directory: identityDirectory(config.dataDir), node: { id, address: config.advertise }, clock, random, log: log.child({ part: 'identity' }),
    settings: () => ({ store: storePlace(), gossipPort: config.gossipPort, vxlanPort: config.vxlanPort, nodePrefix: config.nodePrefix, defaultPools: config.defaultPools }),
    found: async () => {
      await nodeStore.startCluster();
      oneHost.claim();
    },
    memberCalls: { [REACHABILITY_PATH]: async (body, caller) => (await reachability()).answer(body, caller) },
    admissible: (request) => {
      if (directory.list().some((each) => each.id !== request.id && each.name === request.name)) throw weftError('WEFT-NODE-EXISTS', { node: request.name });
    },
    // etcd looks at the list when a connection begins; those that are there already would go on.
    onRevoked: (addresses) => addresses.forEach((address) => endConnections(hostNetns, address, [config.storePort, config.storePeerPort])),
    onRemoved: fence,
  });

  // This node, as the others see it -----------------------------------------------------------------------------------
  const hostRtnl = openRtnl(hostNetns);
  const hostNft = openNft(hostNetns);
  const underlayMtu = (): number => {
    const device = hostRtnl.addresses().find((address) => withoutLength(address.address) === config.advertise)?.index;
    return (device === undefined ? undefined : hostRtnl.link(device)?.mtu) ?? 1500;
  };
  let foreignNetworks: DockerNetwork[] = [];
  const here = (): Occupied[] => occupiedPrefixes(hostRtnl, { nodePrefix: config.nodePrefix, docker: foreignNetworks, own: registry.list() });
  let self: NodeInfo = { id, name, number, vtep: config.advertise, underlayMtu: underlayMtu(), occupied: here(), skippedPorts: [] };
  const publishSelf = (change: Partial<NodeInfo>): void => {
    self = { ...self, ...change };
    state.publish('node', 'self', self);
  };
  const journal = (sysctl: string, before: string): void => {
    if (local.get(`sysctl/${sysctl}`) === undefined) local.put(`sysctl/${sysctl}`, before);
  };
  const nodeName = (node: string): string => state.list('node').find(({ owner }) => owner === node)?.value.name ?? node;

  const occupied = (): Occupied[] => state.list('node').flatMap(({ owner, value }) => value.occupied.map(({ prefix, by }) => ({ prefix, by: owner === id ? by : `${by} of node ${value.name}` })));
  const addresses = createAddressManager({
    store, local, node: { id, name }, clock, log: log.child({ part: 'ipam' }), defaultPools: config.defaultPools,
    holderName: (address, holder) => {
      const endpoint = endpoints.list().find((each) => Object.values(addressesIn(each) ?? {}).includes(address));
      return (endpoint && publisher.workloadOf(endpoint.id)?.name) ?? (holder.startsWith('docker-') ? 'a container of Docker\'s' : holder);
    },
    occupied,
    usedElsewhere: () => state.list('endpoint').filter(({ owner }) => owner !== id).flatMap(({ owner, value }) => addressesOf(value).map((address) => ({ address, node: { id: owner, name: nodeName(owner) } }))),
  });

  // Drivers -----------------------------------------------------------------------------------------------------------
  const fabric = openFabric({ host: hostNetns, path: FABRIC_PATH, nodePrefix: config.nodePrefix, journal });
  const overlay = createOverlayDriver({ fabric, state, self: () => self, networks: () => registry.list(), vxlanPort: config.vxlanPort, clock, log: log.child({ part: 'overlay' }) });
  const bridge = createBridgeDriver({
    host: hostNetns, path: BRIDGES_PATH, networks: () => registry.list(), journal, log: log.child({ part: 'bridge' }),
    published: new Map(local.list('bridge-ports/').map(({ key: at, value }) => [at.slice('bridge-ports/'.length), JSON.parse(value) as PortMapping[]])),
  });
  const macvlan = createMacvlanDriver({
    host: hostNetns, self: () => self, networks: () => registry.list(), clock, log: log.child({ part: 'macvlan' }),
    hostAddresses: async (network) => Promise.all(network.subnets.filter(({ subnet }) => parsePrefix4(subnet)).map(async ({ subnet, range }) =>
      withoutLength(await addresses.requestAddress({ subnet, holder: HOST_HOLDER, chooser: 'weft', network: network.name, ...(range !== undefined && { range }) })))),
    releaseHostAddresses: async (network, own) => {
      for (const address of own) {
        const pool = network.subnets.find(({ subnet }) => contains(parsePrefix(subnet)!, address));
        if (pool) await addresses.releaseAddress(pool.subnet, address);
      }
    },
    onCarrier: (endpointId, up) => publisher.carrier(endpointId, up),
  });

  // Names -------------------------------------------------------------------------------------------------------------
  const names = createNameTable();
  const publisher = createPublisher({ state, names, local });
  const resolver = createResolver({ names, log: log.child({ part: 'dns' }), clock, random });
  const sandboxes = createSandboxes({ resolver, log });
  state.watch('name', (change) => {
    if (change.type === 'put') names.put(change.record.value);
    else names.remove(change.record.value.networkId, change.record.value.endpointId);
  });

  const controller = createController({
    drivers: [overlay, bridge, macvlan],
    networks: registry,
    endpoints,
    addresses: createAddressClaims(addresses, id),
    events: {
      joined: (network, endpoint) => {
        publisher.joined(network, endpoint);
        if (endpoint.sandbox !== undefined) sandboxes.joined(endpoint.sandbox, network);
      },
      left: (network, endpoint) => {
        publisher.left(endpoint);
        if (endpoint.sandbox !== undefined) sandboxes.left(endpoint.sandbox, network);
      },
    },
    log,
  });

  // Published ports ---------------------------------------------------------------------------------------------------
  const claims = createPortClaims({ store, local, node: id });
  const mesh = createMesh({
    host: hostNetns, nft: hostNft, state, claims, local, random, log: log.child({ part: 'ingress' }), nodeName,
    onLocalBackends: (backends) => overlay.setBackends(backends),
    onSkipped: (ports) => publishSelf({ skippedPorts: ports }),
    // The translation is remembered on both sides of the uplink.
    forgetFlows: ({ ip, port }) => [hostNetns, fabric.netns].forEach((netns) => deleteFlowsTo(netns, 'udp', ip, port)),
  });
  const publish = async (endpoint: Endpoint, service: string): Promise<void> => {
    const network = registry.get(endpoint.networkId);
    if (endpoint.address === undefined) throw weftError('WEFT-FEATURE-MISSING', { feature: 'publishing ports of a container without an IPv4 address', hint: 'put it on a network with both' });
    if (network?.driver === 'bridge') {
      const ports = await bridge.publish(endpoint);
      local.put(`bridge-ports/${endpoint.id}`, JSON.stringify(ports));
    } else if (network?.driver === 'macvlan') {
      log.warn({ network: network.name, endpoint: endpoint.id.slice(0, 12) }, 'ports of a container on a macvlan network are not published: the LAN reaches it at its own address');
    } else if (network) {
      await mesh.publish(network, endpoint, service);
    }
  };
  const revoke = async (endpointId: string): Promise<void> => {
    if (local.get(`bridge-ports/${endpointId}`) !== undefined) local.delete(`bridge-ports/${endpointId}`);
    bridge.unpublish(endpointId);
    await mesh.revoke(endpointId);
  };

  // Networks ----------------------------------------------------------------------------------------------------------
  const endpointsOn = (networkId: string): string[] => [
    ...state.list('endpoint').filter(({ owner, value }) => owner !== id && value.networkId === networkId).map(({ key: endpoint, owner }) => `${endpoint.slice(0, 12)} on ${nodeName(owner)}`),
    ...endpoints.list().filter((endpoint) => endpoint.networkId === networkId).map((endpoint) => `${endpoint.id.slice(0, 12)} on ${name}`),
  ];
  const inUse = (network: Network): string | undefined => {
    const used = endpointsOn(network.id);
    if (used.length > 0) return `it has endpoints: ${used.join(', ')}`;
    const away = network.scope === 'cluster' ? state.members().find((member) => member.state === 'dead') : undefined;
    return away && `node ${away.name} does not answer and may have endpoints on it`;
  };
  const lifecycle = createLifecycle({ registry, controller, addresses, occupiedHere: here, defaultPools: config.defaultPools, endpointsOn, log });

  const docker = createDockerClient({ socketPath: config.dockerSocket, log });
  const map = createNetworkMap(local);
  const copies = createCopies(registry);
  const replicator = createReplicator({ docker, registry, lifecycle, clock, map, copies, log, undecided: (weftId) => link?.undecided(weftId) ?? false });
  const workloads = createWorkloads({ docker, onWorkload: publisher.workload, log });
  const early = async (endpointId: string, dockerNetworkId: string) => {
    const workload = await workloads.early(endpointId, dockerNetworkId);
    if (workload && endpoints.get(endpointId)) publisher.workload(workload);
    return workload;
  };
  const commands = createSandboxCommands({
    local, registry, controller, endpoints, publisher, publish, revoke, kernel: { host: hostRtnl, openNetns, openRtnl },
  });
  const networks = createNetworkCommands({
    self: () => self, state, registry, endpoints, addresses, publisher, lifecycle, docker, map, replicator, sandboxes: commands, nodeName, inUse,
  });
  let link: DockerLink | undefined;

  registry.onChange(({ type, network }) => {
    if (network.scope !== 'cluster') {
      publishSelf({ occupied: here() });
      return;
    }
    const run = type === 'put' ? controller.createNetwork(network) : controller.deleteNetwork(network);
    run.catch((error: unknown) => log.warn({ network: network.name, detail: errorText(error) }, 'a network could not be made equal to the cluster\'s here; tried again at the next repair'));
    void replicator.reconcile(type === 'put' ? 'the cluster has it' : 'the cluster has it no more');
  });

  const stale = { endpoints, controller, isNative: commands.isNative, revoke, clock, log };
  const removeStale = createStaleRemoval(stale);
  const serviceOf = async (endpoint: Endpoint, dockerNetworkId: string): Promise<string> => {
    const workload = link?.up ? await Promise.race([early(endpoint.id, dockerNetworkId).catch(() => undefined), sleep(clock, SERVICE_TIMEOUT_MS)]) : undefined;
    const held = endpoint.ports.map(({ protocol, hostPort }) => claims.held(protocol, hostPort)).find((service) => service !== undefined);
    return workload?.service ?? held ?? endpoint.id.slice(0, 12);
  };

  // Repair ------------------------------------------------------------------------------------------------------------
  const repairs = createRepairLoop({ clock, log, passes: [
    () => controller.repair(),
    () => mesh.repair(),
    async () => {
      await sandboxes.repair();
      await removeStale(STALE_AFTER_MS);
      return [];
    },
  ] });

  // From here on: what was there before this start --------------------------------------------------------------------
  publishSelf({});
  // After a boot nothing is half way through a start: without this, a container that was just started is a dead backend for a while.
  await removeStale(fabric.fresh ? 0 : STALE_AT_START_MS);
  for (const endpoint of endpoints.list()) {
    const network = registry.get(endpoint.networkId);
    if (!network || endpoint.sandbox === undefined) continue;
    publisher.joined(network, endpoint);
    sandboxes.joined(endpoint.sandbox, network);
  }
  const byDigits = (digits: string): string | undefined => endpoints.list().find((endpoint) => endpoint.id.startsWith(digits))?.id;
  const onCarrier = (digits: string, up: boolean, isNew: boolean): void => {
    const endpointId = byDigits(digits);
    if (endpointId === undefined) return;
    publisher.carrier(endpointId, up);
    // Not at once: Docker is about to ask for the endpoint, and the container's start waits for the answer.
    if (isNew) clock.setTimeout(() => announceQuietly(endpointId), ANNOUNCE_AFTER_MS);
  };
  const announceQuietly = (endpointId: string): void => {
    const endpoint = endpoints.get(endpointId);
    if (!endpoint) return;
    try {
      announce(endpoint);
    } catch (error) {
      log.debug({ detail: errorText(error) }, 'an endpoint could not be announced: neighbours ask again by themselves');
    }
  };
  const stops = [watchCarrier(fabric.rtnl, onCarrier), watchCarrier(bridge.inside, onCarrier), watchCarrier(hostRtnl, onCarrier)];
  state.ready();
  // What is made for the first time since the host was switched on was not broken.
  if (fabric.fresh) await overlay.ensureFabric();
  await repairs.run();
  stops.push(watchDisturbances(fabric.rtnl, fabric.netns, repairs.disturbed), watchLinks(bridge.inside, repairs.disturbed), watchDisturbances(hostRtnl, hostNetns, repairs.disturbed));

  // Serving -----------------------------------------------------------------------------------------------------------
  const driverOptions = { node: id, controller, lifecycle, map, copies, endpoint: (endpointId: string) => endpoints.get(endpointId), early, serviceOf, publish, revoke, log, onDeleted: (network: Network) => link?.deleted(network) };
  const plugins = [
    ...DRIVERS.map((driver) => servePlugin({ name: `${PLUGIN_PREFIX}${driver}`, network: createNetworkDriver({ driver, ...driverOptions }), log, clock })),
    servePlugin({ name: 'weft', ipam: createIpamDriver({ addresses, registry, map, copies, forget: (networkId, address) => removeReleasedEndpoints(stale, networkId, address) }), log, clock }),
  ];
  for (const [i, plugin] of PLUGINS.entries()) {
    const path = join(config.pluginDir, `${plugin}.sock`);
    const fd = inherited.get(path);
    await plugins[i]!.listen(fd === undefined ? { path } : { fd });
  }

  // Store, peers and Docker join in -----------------------------------------------------------------------------------
  const gossipKeyring = followGossipKeys({ store, local, keyring: cluster.keyring, state, belongs: directory.has, onInstalled: (version) => publishSelf({ gossipKeys: version }), clock, random, log: log.child({ part: 'identity' }) });
  const nodes = createNodeCommands({
    self: id, store, state, directory, keys: gossipKeyring, clock,
    holdsStoreAlone: async (node) => {
      const voters = (await nodeStore.cluster?.members.list())?.filter(({ isLearner }) => !isLearner) ?? [];
      return voters.length === 1 && voters[0]!.name === node;
    },
  });
  const storeMembers = keepStoreMembers({
    nodeStore, self: { id, peerUrl: peerUrlOf(config) }, clock, log: log.child({ part: 'store' }),
    peers: () => {
      // A node says by gossip where it is: the store cannot, where it is the store that has moved.
      const places = new Map(state.list('node').map(({ owner, value }) => [owner, value.vtep]));
      return nodes.list().map((node) => ({
        id: node.id, name: node.name, number: node.number, isAlive: node.self || node.state === 'alive' || node.state === 'suspect',
        clientUrl: clientUrlOf({ advertise: places.get(node.id) ?? node.address, storePort: config.storePort }),
      }));
    },
  });
  stops.push(registry.follow(), directory.follow(), () => gossipKeyring.close(), () => storeMembers.close());
  const background = (what: string, ask: () => Promise<unknown>): void => void insist(what, log, ask);
  background('this node could not be entered in the store', async () => {
    await claimNumber(store, local, id, lastNodeNumber(config.nodePrefix));
    await directory.announce({ id, name, number, address: config.advertise, gossipPort: config.gossipPort });
  });
  background('addresses could not be compared with the store', () => addresses.start());
  link = startDockerLink({
    docker, replicator, workloads, removeStale: () => removeStale(STALE_AFTER_MS), onUp: () => ipam.dockerAnswers(), inUse, clock, log,
    remove: (network) => lifecycle.remove(network.id),
    onForeignNetworks: (networks) => {
      foreignNetworks = networks;
      publishSelf({ occupied: here() });
    },
  });
  const occupiedTimer = setInterval(() => publishSelf({ occupied: here(), underlayMtu: underlayMtu() }), OCCUPIED_INTERVAL_MS).unref();
  log.info({ node: id, name, number, vtep: config.advertise }, 'weftd runs');

  const ipam = createIpamApi({
    node: { id, name }, store, state, registry, endpoints, addresses, defaultPools: config.defaultPools, occupied, nodeName, clock, log: log.child({ part: 'ipam' }),
    foreignNetworks: () => (link?.up ? foreignNetworks : undefined), nameOf: (endpointId) => publisher.workloadOf(endpointId)?.name,
  });
  let probing: Promise<Reachability> | undefined;
  const reachability = (): Promise<Reachability> => (probing ??= import('./reachability.ts').then(({ createReachability }) => createReachability({
    self: () => self, state, nodes: () => nodes.list(), identity: joining.identity, keyring: cluster.keyring, fabric, hostNft, clock, random,
    ports: { gossip: config.gossipPort, tunnel: config.vxlanPort, store: config.storePort, storePeers: config.storePeerPort },
    storeHolders: () => (nodeStore.kind === 'cluster' ? storeMembers.endpoints().map((url) => new URL(url).hostname) : undefined),
    mayHoldStore: () => storeMembers.mayHold(),
  })));
  const api = createAgentApi({
    self: () => self, store, local, state, registry, endpoints, addresses, publisher, mesh, resolver, repairs, networks, commands, link, replicator, joining, reachability, keys: gossipKeyring, nodes, storeMembers, ipam,
    otherProblems: () => [...nodePrefixProblems(config.nodePrefix, occupied()), ...cluster.problems().map(({ message }) => message)],
  });

  return {
    api,
    stop: async () => {
      clearInterval(occupiedTimer);
      repairs.close();
      link?.close();
      const { errors } = await runAll([
        ...plugins.map((plugin) => () => plugin.close()),
        ...stops,
        () => sandboxes.close(),
        () => mesh.close(),
        () => overlay.close(),
        () => joining.close(),
        () => oneHost.close(),
        () => cluster.close(),
        () => ipam.close(),
        () => addresses.close(),
        () => resolver.close(),
        () => docker.close(),
        () => bridge.close(),
        () => macvlan.close(),
        () => fabric.close(),
        () => hostNft.close(),
        () => hostRtnl.close(),
      ]);
      for (const error of errors) log.warn({ detail: errorText(error) }, 'stopping was not clean');
    },
  };
}
