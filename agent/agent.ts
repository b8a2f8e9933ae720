/** Builds weftd's parts and wires them. Everything is served from this node's own disk; store, peers and Docker join in when they answer. */
import { hostname } from 'node:os';
import { sleep, systemClock } from '../base/clock.ts';
import { errorText, weftError, type WeftError } from '../base/errors.ts';
import { everyAddress, hostOfUrl } from '../base/ip.ts';
import type { Logger } from '../base/log.ts';
import { systemRandom } from '../base/random.ts';
import { runAll } from '../base/undo.ts';
import { createController } from '../cnm/controller.ts';
import { createSerializer } from '../cnm/serialize.ts';
import { startCluster } from '../cluster/cluster.ts';
import { identityDirectory } from '../cluster/identity/files.ts';
import { addressesOf } from '../cluster/state.ts';
import { watchDisturbances, watchLinks } from '../drivers/disturbances.ts';
import { lastNodeNumber, nodeAddress } from '../drivers/overlay/addressing.ts';
import { openTransport } from '../gossip/net-transport.ts';
import { createPortClaims } from '../ingress/claims.ts';
import { createMesh } from '../ingress/mesh.ts';
import { createAddressManager } from '../ipam/manager.ts';
import type { Occupied } from '../ipam/subnets.ts';
import { deleteFlowsTo } from '../linux/conntrack.ts';
import { hostNetns, openNetns } from '../linux/netns.ts';
import { openNft } from '../linux/nft.ts';
import { openRtnl } from '../linux/rtnl.ts';
import { endConnections } from '../linux/tcp-connections.ts';
import type { LocalStore } from '../store/store.ts';
import { createAddressClaims } from './address-claims.ts';
import type { AgentApi } from './api.ts';
import { createAgentApi } from './agent-api.ts';
import { followCarriers } from './carriers.ts';
import type { Config } from './config.ts';
import { createDocker } from './docker/docker.ts';
import { openDrivers } from './drivers.ts';
import { createEndpoints } from './endpoints.ts';
import { followGossipKeys, gossipKeys } from './gossip-keys.ts';
import { claimNumber, knownNumber, nodeId } from './identity.ts';
import { insist } from './insist.ts';
import { startJoining } from './joining.ts';
import { createIpamApi } from './ipam-api.ts';
import { createLifecycle } from './lifecycle.ts';
import { createNames } from './names.ts';
import { createNetworkCommands } from './network-commands.ts';
import { createNetworkUse } from './network-use.ts';
import { createNetworkRegistry } from './networks.ts';
import { CUT_AFTER_MS, createNodeCommands } from './node-commands.ts';
import { clientUrlOf, peerUrlOf, type NodeStore } from './node-store.ts';
import { nodePrefixProblems } from './node-prefix.ts';
import { createNodeDirectory } from './nodes.ts';
import { settleOnHost } from './one-host.ts';
import { createOwnRecord } from './own-record.ts';
import { createPublishedPorts } from './published-ports.ts';
import { addressesIn } from './publisher.ts';
import type { Reachability } from './reachability.ts';
import { REACHABILITY_PATH } from './reachability-ports.ts';
import { createRepairLoop } from './repair.ts';
import { keepStoreMembers } from './store-members.ts';
import { createSandboxCommands } from './sandbox-commands.ts';
import { createVerifiedStore } from './verified-store.ts';

/** A start that weftd's own restart interrupted takes no longer to go on. */
const FORGOTTEN_AT_START_MS = 5_000;

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

export async function startAgent({ config, nodeStore, local, log, inherited, fence }: AgentOptions): Promise<Agent> {
  const clock = systemClock;
  const random = systemRandom;
  const store = createVerifiedStore({ store: nodeStore.store, directory: identityDirectory(config.dataDir), clock, log: log.child({ part: 'store' }) });
  const id = nodeId(local);
  const name = config.name ?? hostname();
  const number = knownNumber(local) ?? await insist('the store has to give this node its number', log, () => claimNumber(store, local, id, lastNodeNumber(config.nodePrefix)));
  const keys = await insist('the store has to give this node the gossip keys', log, () => gossipKeys(store, local, clock.wallNow()));

  // Hard and soft state -----------------------------------------------------------------------------------------------
  const registry = createNetworkRegistry({ store, local, log });
  const endpoints = createEndpoints(local);
  const directory = createNodeDirectory(store, local, id);
  const seeds = async () => [...await directory.seeds(), ...config.discovery.seeds];
  const oneHost = await settleOnHost({ config, store, isAlone: nodeStore.kind === 'embedded', local, node: { id, name }, keys, seeds, clock, random, log, onCloned: fence });
  const transport = await openTransport({ bind: { host: everyAddress(config.advertise), port: config.gossipPort }, advertise: { host: config.advertise, port: config.gossipPort }, onTls: (socket) => joining.accept(socket) });
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
    onRevoked: (addresses) => void sleep(clock, CUT_AFTER_MS)
      .then(() => addresses.forEach((address) => endConnections(hostNetns, address, [config.storePort, config.storePeerPort])))
      .catch((error: unknown) => log.error({ detail: errorText(error) }, 'connections of a node that was taken out go on')),
    onRemoved: fence,
  });

  // This node, as the others see it -----------------------------------------------------------------------------------
  const hostRtnl = openRtnl(hostNetns);
  const hostNft = openNft(hostNetns);
  const own = createOwnRecord({ node: { id, name, number }, config, rtnl: hostRtnl, registry, state });
  const nodeName = (node: string): string => state.list('node').find(({ owner }) => owner === node)?.value.name ?? node;

  const occupied = (): Occupied[] => state.list('node').flatMap(({ owner, value }) => value.occupied.map(({ prefix, by }) => ({ prefix, by: owner === id ? by : `${by} of node ${value.name}` })));
  const addresses = createAddressManager({
    store, local, node: { id, name }, clock, log: log.child({ part: 'ipam' }), defaultPools: config.defaultPools,
    holderName: (address, holder) => {
      const endpoint = endpoints.list().find((each) => Object.values(addressesIn(each) ?? {}).includes(address));
      return (endpoint && nameOf(endpoint.id)) ?? (holder.startsWith('docker-') ? 'a container of Docker\'s' : holder);
    },
    occupied,
    usedElsewhere: () => state.list('endpoint').filter(({ owner }) => owner !== id).flatMap(({ owner, value }) => addressesOf(value).map((address) => ({ address, node: { id: owner, name: nodeName(owner) } }))),
  });

  // Drivers -----------------------------------------------------------------------------------------------------------
  const { fabric, overlay, bridge, macvlan, ipvlan, renewPair } = openDrivers({
    config, self: own.info, publish: own.publish, state, belongs: directory.has, registry, addresses, local, onCarrier: (endpointId, up) => publisher.carrier(endpointId, up), onMtu: () => repairs.disturbed(), clock, random, log,
  });

  // Names -------------------------------------------------------------------------------------------------------------
  const names = createNames({ config, store, local, state, registry, endpoints, isNative: (endpointId) => commands.isNative(endpointId), address: nodeAddress(config.nodePrefix, number), roundTrip: cluster.gossip.roundTrip, clock, random, log: log.child({ part: 'dns' }) });
  const { publisher, resolver, sandboxes, joined, left } = names;
  const controller = createController({
    drivers: [overlay, bridge, macvlan, ipvlan], networks: registry, endpoints, addresses: createAddressClaims(addresses, id), events: { joined, left }, log,
  });

  // Published ports ---------------------------------------------------------------------------------------------------
  const claims = createPortClaims({ store, local, node: id });
  const mesh = createMesh({
    host: hostNetns, nft: hostNft, state, claims, local, clock, random, log: log.child({ part: 'ingress' }), nodeName,
    onLocalBackends: (backends) => overlay.setBackends(backends),
    onSkipped: (skippedPorts) => own.publish({ skippedPorts }),
    // The translation is remembered on both sides of the uplink.
    forgetFlows: ({ ip, port }) => [hostNetns, fabric.netns].forEach((netns) => deleteFlowsTo(netns, 'udp', ip, port)),
  });
  const ports = createPublishedPorts({ local, registry, endpoints, publisher, bridge, mesh, node: name, log });
  const nameOf = (endpointId: string): string | undefined => publisher.workloadOf(endpointId)?.name;

  // Networks ----------------------------------------------------------------------------------------------------------
  const { endpointsOn, inUse } = createNetworkUse({ node: { id, name }, state, endpoints, nodeName, nameOf });
  const serialize = createSerializer();
  const betweenRepairs = <T>(work: () => Promise<T>): Promise<T> => serialize('kernel', work);
  const lifecycle = createLifecycle({ registry, controller, addresses, occupiedHere: own.occupied, defaultPools: config.defaultPools, endpointsOn, betweenRepairs, log });

  const commands = createSandboxCommands({
    local, registry, controller, endpoints, publisher, publish: ports.publish, revoke: ports.revoke, nameServer: names.nameServer, kernel: { host: hostRtnl, openNetns, openRtnl },
  });
  const docker = createDocker({
    config, node: id, local, registry, lifecycle, inUse, controller, endpoints, isNative: commands.isNative, addresses, publisher, ports, claims, own, onElsewhere: sandboxes.elsewhere, clock, log,
  });
  const networks = createNetworkCommands({
    self: own.info, state, registry, endpoints, addresses, publisher, lifecycle, docker: docker.client, map: docker.map, replicator: docker.replicator, sandboxes: commands, nodeName, inUse, decided: docker.decided,
  });

  registry.onChange((change) => {
    if (change.network.scope !== 'cluster') return own.publishOccupied();
    void lifecycle.follow(change);
    void docker.replicator.reconcile(change.type === 'put' ? 'the cluster has it' : 'the cluster has it no more');
  });

  // Repair ------------------------------------------------------------------------------------------------------------
  const repairs = createRepairLoop({ clock, log, passes: [
    () => betweenRepairs(() => controller.repair()),
    () => mesh.repair(),
    async () => {
      await sandboxes.repair();
      await docker.removeForgotten();
      return [];
    },
  ] });

  // From here on: what was there before this start --------------------------------------------------------------------
  own.publish({});
  // After a boot nothing is half way through a start: without this, a container that was just started is a dead backend for a while.
  await docker.removeForgotten(fabric.fresh ? 0 : FORGOTTEN_AT_START_MS);
  for (const endpoint of endpoints.list()) {
    const network = registry.get(endpoint.networkId);
    if (network && endpoint.sandbox !== undefined) joined(network, endpoint);
  }
  const stops = [fabric.rtnl, bridge.inside, hostRtnl].map((rtnl) => followCarriers(rtnl, { endpoints, publisher, clock, log }));
  state.ready();
  // What is made for the first time since the host was switched on was not broken.
  if (fabric.fresh) await overlay.ensureFabric();
  await repairs.run();
  stops.push(
    watchDisturbances(fabric.rtnl, fabric.netns, clock, repairs.disturbed), watchDisturbances(hostRtnl, hostNetns, clock, repairs.disturbed),
    watchLinks(bridge.inside, clock, repairs.disturbed),
  );

  // Docker's calls are answered; store, peers and Docker's events join in ----------------------------------------------
  await docker.serve(inherited);
  const gossipKeyring = followGossipKeys({ store, local, keyring: cluster.keyring, state, belongs: directory.has, onInstalled: (gossipKeys) => own.publish({ gossipKeys }), onPairsAsked: renewPair, clock, random, log: log.child({ part: 'identity' }) });
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
  stops.push(registry.follow(), directory.follow(overlay.nodeRemoved), () => gossipKeyring.close(), () => storeMembers.close(), own.follow(repairs.disturbed), names.follow());
  const stopping = new AbortController();
  const background = (what: string, ask: () => Promise<unknown>): void => void insist(what, log, ask, stopping.signal).catch(() => {});
  background('this node could not be entered in the store', async () => {
    await claimNumber(store, local, id, lastNodeNumber(config.nodePrefix));
    await directory.announce({ id, name, number, address: config.advertise, gossipPort: config.gossipPort });
  });
  background('addresses could not be compared with the store', () => addresses.start());
  const link = docker.follow(() => ipam.dockerAnswers());
  log.info({ node: id, name, number, vtep: config.advertise }, 'weftd runs');

  const ipam = createIpamApi({
    node: { id, name }, store, state, registry, endpoints, addresses, defaultPools: config.defaultPools, occupied, nodeName, clock, log: log.child({ part: 'ipam' }),
    foreignNetworks: () => (docker.isUp() ? own.foreignNetworks() : undefined), nameOf,
  });
  let probing: Promise<Reachability> | undefined;
  const reachability = (): Promise<Reachability> => (probing ??= import('./reachability.ts').then(({ createReachability }) => createReachability({
    self: own.info, state, nodes: () => nodes.list(), identity: joining.identity, keyring: cluster.keyring, fabric, hostNft, clock, random,
    ports: { gossip: config.gossipPort, tunnel: config.vxlanPort, encryption: config.wireguardPort, store: config.storePort, storePeers: config.storePeerPort },
    storeHolders: () => (nodeStore.kind === 'cluster' ? storeMembers.endpoints().map(hostOfUrl) : undefined),
    mayHoldStore: () => storeMembers.mayHold(),
  })));
  const api = createAgentApi({
    self: own.info, store, local, state, registry, endpoints, addresses, publisher, ports, resolver, repairs, networks, commands, link, replicator: docker.replicator, joining, reachability, keys: gossipKeyring, nodes, storeMembers, ipam, dns: names.calls,
    otherProblems: () => [...overlay.problems(), ...(store.problem ? [store.problem.message] : []), ...nodePrefixProblems(config.nodePrefix, occupied()), ...cluster.problems().map(({ message }) => message)],
  });

  return {
    api,
    stop: async () => {
      stopping.abort();
      repairs.close();
      const { errors } = await runAll([
        () => docker.close(),
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
        () => bridge.close(),
        () => macvlan.close(),
        () => ipvlan.close(),
        () => fabric.close(),
        () => hostNft.close(),
        () => hostRtnl.close(),
      ]);
      for (const error of errors) log.warn({ detail: errorText(error) }, 'stopping was not clean');
    },
  };
}
