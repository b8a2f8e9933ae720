/**
 * The overlay driver: a bridge and a VXLAN device in the fabric for each network that has endpoints here, forwarding entries from soft state. Nothing
 * floods: an address that no record names is not reached, and no ARP crosses the underlay.
 */
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { Clock } from '../../base/clock.ts';
import { errorText } from '../../base/errors.ts';
import type { Logger } from '../../base/log.ts';
import { familyOf, parsePrefix } from '../../base/prefix.ts';
import type { Random } from '../../base/random.ts';
import { mend, type Driver, type Repair } from '../../cnm/driver.ts';
import { nameOf, type Endpoint, type Network } from '../../cnm/model.ts';
import type { NodeInfo, SoftState } from '../../cluster/state.ts';
import { writeSysctl } from '../../linux/sysctl.ts';
import type { RouteAnswer } from '../../linux/types.ts';
import { ensureAddress, ensureLink, forward, linkMaker, removeStrangers, removeUnless } from '../ensure.ts';
import { disableIpv6, enableIpv6, hasIpv6, isIpv6On, requireIpv6 } from '../ipv6.ts';
import { gatewayMac, overlayBridge, overlayTunnel } from '../names.ts';
import { ANTISPOOF_OPTION, ENCRYPTION_OPTIONS, MTU_OPTIONS, PREFIX_OPTION, RATE_OPTIONS, VNI_OPTION, allowsAnySource, checkOptions, interfacePrefix, isEncrypted, wantedRates, wantedVni } from '../options.ts';
import { OPEN_PORT, createPairs, ensurePorts, joinAnswer, linksOf, type PortOptions } from '../veth.ts';
import type { WayOut } from '../shortcuts.ts';
import { sealedAddress } from './addressing.ts';
import type { Fabric, FabricState } from './fabric.ts';
import { createFastPath } from './fast-path.ts';
import { createForwarding } from './forwarding.ts';
import { createMtus } from './mtu.ts';
import { MtuFollower } from './mtu-follower.ts';
import { createPathProbes, openPathLink, type PathMemory } from './path-probes.ts';
import { createPeers } from './peers.ts';
import { apartProblem, encryptionProblems, pathProblems } from './problems.ts';
import { refuseSealedPrefix, requireEncryption } from './requirements.ts';
import { networkNumber } from './vxlan-packet.ts';

const OPTIONS = [...MTU_OPTIONS, PREFIX_OPTION, VNI_OPTION, ANTISPOOF_OPTION, ...ENCRYPTION_OPTIONS, ...RATE_OPTIONS];
const OURS = /^(wb|wv|we|wl)-/;
const BRIDGE = { multicastSnooping: false };

export interface OverlayOptions {
  fabric: Fabric;
  state: SoftState;
  self(): NodeInfo;
  networks(): readonly Network[];
  /** Whether the cluster lists a node. */
  belongs(node: string): boolean;
  vxlanPort: number;
  /** Whether programs may spare packets between nodes the kernel's own path. */
  fastPath: boolean;
  /** Tells the others what gets through to them from here. */
  tellPathMtu(pathMtu: number | undefined): void;
  /** The MTU of networks is another: a repair brings it to their links. */
  onMtu(): void;
  pathMemory: PathMemory;
  random: Random;
  clock: Clock;
  log: Logger;
}

export interface OverlayDriver extends Driver {
  /** What is amiss with the ways to other nodes, in words. */
  problems(): string[];
  /** Published backends of this node: what weft-in lets in. */
  setBackends(backends: FabricState['backends']): void;
  /** The cluster lists a node no more. */
  nodeRemoved(): void;
  /** Fabric and all; for start and for the changes of peers. */
  ensureFabric(): Promise<Repair[]>;
  close(): void;
}

export function createOverlayDriver(options: OverlayOptions): OverlayDriver {
  const { fabric, state, clock, log } = options;
  const { rtnl, hostRtnl } = fabric;
  const host = hostRtnl.netns;
  const pairs = createPairs(hostRtnl);
  const fastPath = createFastPath(fabric, pairs.places);
  /** Network → its bridge, while it is made. */
  const building = new Map<string, Promise<number>>();
  /** Networks whose making failed: that there is a bridge, which comes first, says nothing. */
  const halfBuilt = new Set<string>();
  const routes = new Map<string, RouteAnswer | undefined>();
  let backends: FabricState['backends'] = [];
  let ensuring: Promise<unknown> = Promise.resolve();
  let waiting: Promise<Repair[]> | undefined;
  let refreshing = false;
  let closed = false;

  const overlays = (): Network[] => options.networks().filter((network) => network.driver === 'overlay');
  const peers = createPeers(state, options.belongs, (id) => {
    // The first peers are told while this is being made.
    queueMicrotask(() => forwarding.nodeChanged(id));
    refreshFabric();
  });
  /** Between IPv4 and IPv6 there is no tunnel. */
  const isReached = ({ vtep }: NodeInfo): boolean => familyOf(vtep) === familyOf(options.self().vtep);
  const reached = (): NodeInfo[] => peers.list().filter(isReached);
  const reachedNode = (id: string): NodeInfo | undefined => {
    const node = peers.get(id);
    return node && isReached(node) ? node : undefined;
  };
  const forwarding = createForwarding({
    nodePrefix: fabric.nodePrefix, rtnl, state, clock, log, networks: overlays, node: reachedNode, nodes: reached,
    uplinkTunnel: (encrypted) => (encrypted ? fabric.sealedTunnel() : fabric.tunnel()), ipv6: () => fabric.ipv6(),
    remotes: (network) => (isFast(network) ? fastPath.remotes(network.vni!) : undefined),
  });

  const mtus = createMtus({ self: options.self, peers: reached, routeMtu: (ip) => routeTo(ip)?.mtu, found: () => paths.found().values(), tell: options.tellPathMtu });
  const paths = createPathProbes({ state, self: options.self, peers: reached, said: mtus.tunnel, open: () => openPathLink(fabric), memory: options.pathMemory, onChange: refreshFabric, clock, random: options.random });
  const follower = new MtuFollower(rtnl, pairs, mtus, log);
  const portOf = (network: Network, endpoint: Endpoint): PortOptions => ({
    anySource: allowsAnySource(network), rates: wantedRates(network, endpoint), network: numberOf(network),
    ways: { out: wayOut(network), tunnel: rtnl.glance(overlayTunnel(network.id))?.index, encapsulation: isFast(network) ? fastPath.encapsulation(network.vni!, mtus.of(network)) : undefined },
  });
  const numberOf = (network: Network): number => networkNumber(network.vni!, isEncrypted(network));
  /** Between IPv4 addresses of nodes, in the clear. */
  const isFast = (network: Network): boolean => !isEncrypted(network) && familyOf(options.self().vtep) === 4;
  /** What is for the network itself or for a node is the fabric's to route; what is for other networks, the host's to drop. */
  function wayOut({ id, internal, subnets }: Network): WayOut | undefined {
    const uplink = fabric.uplink();
    if (internal || uplink === undefined) return undefined;
    return { gatewayMac: gatewayMac(id), uplink, inside: [fabric.nodePrefix, ...subnets.map(({ subnet }) => subnet).filter((subnet) => familyOf(subnet) === 4)] };
  }

  const fabricState = (): FabricState => ({
    self: options.self(), peers: reached(), backends, mtu: mtus.uplink(), tunnelMtu: mtus.tunnel(), vxlanPort: options.vxlanPort,
    networks: overlays().flatMap((network) => network.subnets.map(({ subnet }) => ({ subnet, internal: network.internal, encrypted: isEncrypted(network), bridge: overlayBridge(network.id) }))),
  });

  async function makeFabric(): Promise<Repair[]> {
    routes.clear();
    if (mtus.look()) options.onMtu();
    const found = await fabric.ensure(fabricState());
    if (closed) return found;
    try {
      found.push(...fastPath.ensure({
        self: options.self(), peers: reached(), linkTo: (vtep) => routeTo(vtep)?.dev, vxlanPort: options.vxlanPort, wanted: options.fastPath && !overlays().every(isEncrypted),
      }));
    } catch (error) {
      log.warn({ detail: errorText(error) }, 'packets between nodes take the longer way; tried again at the next repair');
    }
    return found;
  }

  /** As of the last look at the fabric. */
  function routeTo(ip: string): RouteAnswer | undefined {
    if (!routes.has(ip)) routes.set(ip, hostRtnl.routeTo(ip));
    return routes.get(ip);
  }

  /** Calls made while one runs share the next: what it finds was not right when they were made. */
  function ensureFabric(): Promise<Repair[]> {
    waiting ??= ensuring.then(() => {
      waiting = undefined;
      const run = makeFabric();
      ensuring = run.catch(() => {});
      return run;
    });
    return waiting;
  }

  /** Peers come in bunches: one run for all those of a turn. */
  function refreshFabric(): void {
    if (refreshing) return;
    refreshing = true;
    setImmediate(() => {
      refreshing = false;
      if (closed) return;
      ensureFabric().catch((error: unknown) => closed || log.error({ detail: errorText(error) }, 'the fabric could not be brought up to date; tried again at the next repair'));
    });
  }

  /** Returns the index of the network's bridge. */
  async function ensureNetwork(network: Network, found: Repair[]): Promise<number> {
    try {
      const bridge = await ensureLinks(network, found);
      halfBuilt.delete(network.id);
      return bridge;
    } catch (error) {
      halfBuilt.add(network.id);
      throw error;
    }
  }

  async function ensureLinks(network: Network, found: Repair[]): Promise<number> {
    const mtu = mtus.of(network);
    const bridge = overlayBridge(network.id);
    const tunnel = overlayTunnel(network.id);
    // An encrypted one has its socket in the fabric, where there is no way out but the WireGuard link.
    const [socket, local] = isEncrypted(network) ? [rtnl, sealedAddress(options.self().number)] : [hostRtnl, options.self().vtep];
    const mac = gatewayMac(network.id);
    await removeUnless(rtnl, tunnel, ({ vxlan }) => vxlan?.vni === network.vni && vxlan?.local === local && vxlan?.port === options.vxlanPort);
    const [isNew, isWithout] = [bridge, tunnel].map((link) => rtnl.glance(link) === undefined);
    const br = ensureLink(rtnl, bridge, { mac, up: true }, linkMaker(rtnl, { kind: 'bridge', name: bridge, mac, ...BRIDGE }), found);
    const dev = ensureLink(rtnl, tunnel, { mtu, master: br, up: true }, () => {
      socket.addLink({ kind: 'vxlan', name: tunnel, vni: network.vni!, local, port: options.vxlanPort, proxy: true, mtu, netns: fabric.netns, master: br });
    }, found);
    // Frames that come in would teach the bridge that an endpoint which moved here is still there.
    rtnl.setBridgePort(dev, OPEN_PORT);
    pairs.ensureTrunk(rtnl, { index: dev, name: tunnel }, numberOf(network), { mac }, isWithout ? [] : found);
    // Nobody is behind it yet.
    if (isNew) pairs.complete(numberOf(network));
    rtnl.setBridge(br, BRIDGE);
    // After its first port: a bridge takes the MTU of its ports when one is added.
    ensureLink(rtnl, bridge, { mtu, up: true }, () => {}, found);
    forward(fabric.netns, bridge);
    // A container that sends under a foreign address gets no further than its bridge.
    writeSysctl(fabric.netns, `net/ipv4/conf/${bridge}/rp_filter`, '1');
    const withIpv6 = hasIpv6(network) && isIpv6On(host);
    if (withIpv6) {
      enableIpv6(fabric.netns, bridge);
      // For its neighbours' sake: it answers solicitations from among them.
      enableIpv6(fabric.netns, tunnel, { quiet: true });
    } else {
      for (const link of [bridge, tunnel]) disableIpv6(fabric.netns, link);
    }
    for (const { subnet, gateway } of network.subnets) {
      const { family, length } = parsePrefix(subnet)!;
      if (gateway !== undefined && (family === 4 || withIpv6)) ensureAddress(rtnl, br, `${gateway}/${length}`, found);
    }
    await forwarding.ensure(network, found);
    return br;
  }

  /** The index of the network's bridge, made by the first who asks: the others wait with them until what is on other nodes is reached. */
  async function bridgeOf(network: Network): Promise<number> {
    const underWay = building.get(network.id);
    if (underWay) return underWay;
    const present = rtnl.glance(overlayBridge(network.id))?.index;
    if (present !== undefined && !halfBuilt.has(network.id)) return present;
    const made = ensureNetwork(network, []).finally(() => building.delete(network.id));
    building.set(network.id, made);
    return made;
  }

  const isBuilt = (network: Network): boolean => rtnl.glance(overlayBridge(network.id)) !== undefined;

  return {
    name: 'overlay',
    scope: 'cluster',
    validate: (network) => {
      checkOptions(network, OPTIONS);
      wantedVni(network);
      if (isEncrypted(network)) fabric.encryption.lookAgain();
      requireEncryption(network, fabric.encryption);
      refuseSealedPrefix(network);
      mtus.check(network);
      interfacePrefix(network);
      allowsAnySource(network);
      wantedRates(network);
      requireIpv6(host, network);
    },
    // Its bridge and tunnel come with its first endpoint here: until then this node's part of it is the host's way there.
    createNetwork: async (network) => {
      await ensureFabric();
      if (isBuilt(network)) await ensureNetwork(network, []);
      else await forwarding.ensure(network, []);
      await forwarding.ensureRoutes([]);
    },
    deleteNetwork: async (network) => {
      halfBuilt.delete(network.id);
      follower.forget(network.id);
      forwarding.forget(network.id);
      pairs.forgetTrunk(overlayTunnel(network.id));
      await rtnl.deleteLink(overlayTunnel(network.id));
      await rtnl.deleteLink(overlayBridge(network.id));
      refreshFabric();
    },
    createEndpoint: async (network, endpoint) => {
      requireIpv6(host, network);
      requireEncryption(network, fabric.encryption);
      const bridge = await bridgeOf(network);
      pairs.makeSoon(rtnl, endpoint, bridge, mtus.of(network), portOf(network, endpoint));
    },
    deleteEndpoint: (_, endpoint) => pairs.remove(rtnl, endpoint),
    join: async (network, endpoint) => {
      const bridge = await bridgeOf(network);
      pairs.make(rtnl, endpoint, bridge, mtus.of(network), portOf(network, endpoint));
      return joinAnswer(network, endpoint);
    },
    leave: async () => {},
    repair: async (networks, endpoints) => {
      const found: Repair[] = [];
      // Before anything else: networks and endpoints come while this waits for the kernel.
      await removeStrangers(rtnl, OURS, [...networks.flatMap(({ id }) => [overlayBridge(id), overlayTunnel(id)]), ...endpoints.flatMap(linksOf)], found);
      peers.prune();
      found.push(...await ensureFabric());
      for (const network of networks) {
        // It may have gone meanwhile.
        if (!overlays().some(({ id }) => id === network.id)) continue;
        const here = endpoints.filter(({ networkId }) => networkId === network.id);
        await mend(`network ${nameOf(network)}`, found, async () => {
          if (here.length > 0 || isBuilt(network)) {
            await follower.follow(network, here);
            const bridge = await ensureNetwork(network, found);
            if (!pairs.isComplete(numberOf(network))) {
              await ensurePorts(rtnl, here, (endpoint) => pairs.enter(rtnl, endpoint, bridge, portOf(network, endpoint)));
              pairs.complete(numberOf(network));
            }
            await ensurePorts(rtnl, here, (endpoint) => pairs.ensure(rtnl, endpoint, bridge, mtus.of(network), found, portOf(network, endpoint)));
          } else {
            await forwarding.ensure(network, found);
          }
        });
        await nextTurn();
      }
      await forwarding.ensureRoutes(found);
      return found;
    },
    ensureFabric,
    nodeRemoved: peers.prune,
    problems: () => [
      ...peers.list().filter((node) => !isReached(node)).map((node) => apartProblem(node, options.self())), ...pathProblems(paths.found(), options.self(), peers.list(), mtus),
      ...encryptionProblems(overlays(), fabric.encryption, peers, state),
    ],
    setBackends: (next) => {
      if (JSON.stringify(next) === JSON.stringify(backends)) return;
      backends = next;
      pairs.stay(backends.map(({ ip }) => ip));
      fabric.setRules(fabricState());
    },
    close: () => {
      closed = true;
      peers.close();
      paths.close();
      forwarding.close();
      pairs.close();
      fastPath.close();
    },
  };
}
