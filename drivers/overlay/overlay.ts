/**
 * The overlay driver: a bridge and a VXLAN device per network in the fabric, forwarding entries from soft state. Nothing
 * floods: an address that no record names is not reached, and no ARP crosses the underlay.
 */
import type { Clock } from '../../base/clock.ts';
import { errorText } from '../../base/errors.ts';
import type { Logger } from '../../base/log.ts';
import { parsePrefix4 } from '../../base/ip.ts';
import type { Driver, Repair } from '../../cnm/driver.ts';
import type { Endpoint, Network } from '../../cnm/model.ts';
import type { EndpointRecord, NodeInfo, SoftState, StateRecord } from '../../cluster/state.ts';
import { ensureAddress, ensureForwarding, ensureLink, ensureRoutes, linkMaker, removeUnless } from '../ensure.ts';
import { bridgeEnd, hostEnd, overlayBridge, overlayTunnel } from '../names.ts';
import { MTU_OPTIONS, PREFIX_OPTION, checkOptions, interfacePrefix, wantedMtu } from '../options.ts';
import { VXLAN_OVERHEAD, gatewayMac, nodeAddress } from './addressing.ts';
import { REMOTE_TABLE, type Fabric, type FabricState } from './fabric.ts';

const OPTIONS = [...MTU_OPTIONS, PREFIX_OPTION, 'weft.vni'];
/** The entries of a node that failed stay this long: its containers may well be running on. */
const FAILED_NODE_GRACE_MS = 10_000;

export interface OverlayOptions {
  fabric: Fabric;
  state: SoftState;
  self(): NodeInfo;
  networks(): readonly Network[];
  vxlanPort: number;
  clock: Clock;
  log: Logger;
}

export interface OverlayDriver extends Driver {
  /** Published backends of this node: what weft-in lets in. */
  setBackends(backends: FabricState['backends']): void;
  /** Fabric and all; for start and for the changes of peers. */
  ensureFabric(): Promise<Repair[]>;
  close(): void;
}

export function createOverlayDriver(options: OverlayOptions): OverlayDriver {
  const { fabric, state, clock, log } = options;
  const { rtnl, hostRtnl } = fabric;
  let backends: FabricState['backends'] = [];
  let ensuring: Promise<Repair[]> | undefined;
  let again = false;
  /** Forwarding entries that outlive their record, by endpoint: those of failed nodes. */
  const lingering = new Map<string, { record: StateRecord<'endpoint'>; timer: unknown }>();

  const overlays = (): Network[] => options.networks().filter((network) => network.driver === 'overlay');
  /** Failed nodes stay among them until they leave: their containers may well be running on. */
  const nodes = new Map<string, NodeInfo>();
  const peers = (): NodeInfo[] => [...nodes.values()];
  const nodeOf = (owner: string): NodeInfo | undefined => nodes.get(owner);

  /** What every route to a peer carries, less the encapsulation. */
  function overlayMtu(): number {
    const routes = peers().map((peer) => hostRtnl.routeTo(peer.vtep)?.mtu ?? Infinity);
    return Math.min(...[options.self(), ...peers()].map(({ underlayMtu }) => underlayMtu), ...routes) - VXLAN_OVERHEAD;
  }
  const mtuOf = (network: Network): number => wantedMtu(network, Infinity, 0) ?? overlayMtu();

  function remoteRecords(networkId: string): StateRecord<'endpoint'>[] {
    const present = state.list('endpoint').filter((record) => record.owner !== state.self && record.value.networkId === networkId);
    const known = new Set(present.map(({ key }) => key));
    return [...present, ...[...lingering.values()].map(({ record }) => record).filter(({ key, value }) => value.networkId === networkId && !known.has(key))];
  }

  function fabricState(): FabricState {
    return {
      self: options.self(), peers: peers(), backends, mtu: overlayMtu(), vxlanPort: options.vxlanPort,
      networks: overlays().flatMap((network) => network.subnets.map(({ subnet }) => ({ subnet, internal: network.internal, bridge: overlayBridge(network.id) }))),
    };
  }

  /** Calls made while one runs are folded into one more run after it. */
  async function ensureFabric(): Promise<Repair[]> {
    if (ensuring) {
      again = true;
      return ensuring;
    }
    const run = async (): Promise<Repair[]> => {
      const found: Repair[] = [];
      do {
        again = false;
        found.push(...await fabric.ensure(fabricState()));
      } while (again);
      return found;
    };
    ensuring = run().finally(() => (ensuring = undefined));
    return ensuring;
  }

  function refreshFabric(): void {
    ensureFabric().catch((error: unknown) => log.error({ detail: errorText(error) }, 'the fabric could not be brought up to date; tried again at the next repair'));
  }

  async function ensureNetwork(network: Network, found: Repair[]): Promise<void> {
    const mtu = mtuOf(network);
    const bridge = overlayBridge(network.id);
    const tunnel = overlayTunnel(network.id);
    const local = options.self().vtep;
    const br = ensureLink(rtnl, bridge, { mac: gatewayMac(network.id), up: true }, linkMaker(rtnl, { kind: 'bridge', name: bridge, mac: gatewayMac(network.id) }), found);
    await removeUnless(rtnl, tunnel, ({ vxlan }) => vxlan?.vni === network.vni && vxlan?.local === local && vxlan?.port === options.vxlanPort);
    const dev = ensureLink(rtnl, tunnel, { mtu, master: br, up: true }, () => {
      hostRtnl.addLink({ kind: 'vxlan', name: tunnel, vni: network.vni!, local, port: options.vxlanPort, proxy: true, mtu, netns: fabric.netns, master: br, up: true });
      rtnl.setBridgePort(rtnl.link(tunnel)!.index, { learning: false });
    }, found);
    // After its first port: a bridge takes the MTU of its ports when one is added.
    ensureLink(rtnl, bridge, { mtu, up: true }, () => {}, found);
    for (const { subnet, gateway } of network.subnets) {
      if (gateway !== undefined) ensureAddress(rtnl, br, `${gateway}/${parsePrefix4(subnet)!.length}`, found);
    }
    const records = remoteRecords(network.id).flatMap((record) => {
      const node = nodeOf(record.owner);
      return node ? [{ ...record.value, node }] : [];
    });
    ensureForwarding(
      rtnl, dev,
      records.map(({ mac, node }) => ({ dev, mac, vtep: node.vtep, master: true })),
      records.map(({ ip, mac }) => ({ dev, ip, mac })),
      found,
    );
  }

  /** Routes of all networks share one table: they are compared together. */
  function ensureRemoteRoutes(found: Repair[]): void {
    const dev = fabric.tunnel();
    if (dev === undefined) return;
    const wanted = overlays().filter(({ internal }) => !internal).flatMap((network) => remoteRecords(network.id)).flatMap((record) => {
      const node = nodeOf(record.owner);
      return node ? [remoteRoute(record.value, node, dev)] : [];
    });
    ensureRoutes(rtnl, wanted, rtnl.routes({ table: REMOTE_TABLE }), found);
  }

  const remoteRoute = ({ ip }: EndpointRecord, node: NodeInfo, dev: number) => ({ dst: `${ip}/32`, via: nodeAddress(node.number), dev, onlink: true, table: REMOTE_TABLE });

  /** The fast way for one record, when it comes: three messages, no dump. */
  function program({ owner, value }: StateRecord<'endpoint'>): void {
    const network = overlays().find(({ id }) => id === value.networkId);
    const dev = network && rtnl.link(overlayTunnel(network.id))?.index;
    const node = nodeOf(owner);
    const tunnel = fabric.tunnel();
    // What is missing now is caught up with when the network or the node arrives.
    if (!network || dev === undefined || !node) return;
    rtnl.replaceFdb([{ dev, mac: value.mac, vtep: node.vtep, master: true }]);
    rtnl.replaceNeighbours([{ dev, ip: value.ip, mac: value.mac }]);
    if (!network.internal && tunnel !== undefined) rtnl.replaceRoutes([remoteRoute(value, node, tunnel)]);
  }

  function forget({ owner, value }: StateRecord<'endpoint'>): void {
    const dev = rtnl.link(overlayTunnel(value.networkId))?.index;
    // The address may have moved: what its new place has programmed stays.
    const successor = state.list('endpoint').find((record) => record.value.networkId === value.networkId && record.value.ip === value.ip && record.key !== value.endpointId);
    if (dev === undefined) return;
    if (successor) {
      if (successor.value.mac !== value.mac) rtnl.deleteFdb([{ dev, mac: value.mac, vtep: nodeOf(owner)?.vtep ?? '0.0.0.0', master: true }]);
      if (successor.owner !== state.self) program(successor);
      return;
    }
    rtnl.deleteFdb([{ dev, mac: value.mac, vtep: nodeOf(owner)?.vtep ?? '0.0.0.0', master: true }]);
    rtnl.deleteNeighbours([{ dev, ip: value.ip, mac: value.mac }]);
    const tunnel = fabric.tunnel();
    const node = nodeOf(owner);
    if (tunnel !== undefined && node) rtnl.deleteRoutes([remoteRoute(value, node, tunnel)]);
  }

  function stopLingering(key: string): void {
    const entry = lingering.get(key);
    if (entry) clock.clearTimeout(entry.timer as never);
    lingering.delete(key);
  }

  const guarded = (what: string, run: () => void): void => {
    try {
      run();
    } catch (error) {
      log.warn({ detail: errorText(error) }, `${what}; mended at the next repair`);
    }
  };

  const stopEndpoints = state.watch('endpoint', (change) => {
    if (change.local) return;
    const { record } = change;
    stopLingering(record.key);
    if (change.type === 'put') {
      guarded('a forwarding entry could not be made', () => {
        const { previous } = change;
        if (previous && (previous.ip !== record.value.ip || previous.mac !== record.value.mac)) forget({ ...record, value: previous });
        program(record);
      });
    } else if (state.members().some(({ id, state: condition }) => id === record.owner && condition === 'dead')) {
      lingering.set(record.key, { record, timer: clock.setTimeout(() => {
        lingering.delete(record.key);
        guarded('a forwarding entry could not be removed', () => forget(record));
      }, FAILED_NODE_GRACE_MS) });
    } else {
      guarded('a forwarding entry could not be removed', () => forget(record));
    }
  });

  const stopNodes = state.watch('node', (change) => {
    if (change.local) return;
    const { owner, value } = change.record;
    if (change.type === 'put') {
      const before = nodes.get(owner);
      nodes.set(owner, value);
      if (before && before.vtep === value.vtep && before.number === value.number && before.underlayMtu === value.underlayMtu) return;
      refreshFabric();
      for (const record of state.list('endpoint')) if (record.owner === owner) guarded('a forwarding entry could not be made', () => program(record));
    } else if (!state.members().some(({ id, state: condition }) => id === owner && condition === 'dead')) {
      nodes.delete(owner);
      refreshFabric();
    }
  });

  return {
    name: 'overlay',
    scope: 'cluster',
    validate: (network) => {
      checkOptions(network, OPTIONS);
      wantedMtu(network, overlayMtu() + VXLAN_OVERHEAD, VXLAN_OVERHEAD);
      interfacePrefix(network);
    },
    createNetwork: async (network) => {
      await ensureNetwork(network, []);
      await ensureFabric();
      ensureRemoteRoutes([]);
    },
    deleteNetwork: async (network) => {
      await rtnl.deleteLink(overlayTunnel(network.id));
      await rtnl.deleteLink(overlayBridge(network.id));
      refreshFabric();
    },
    createEndpoint: async (network, endpoint) => {
      if (!rtnl.link(overlayBridge(network.id))) await ensureNetwork(network, []);
      const mtu = mtuOf(network);
      if (rtnl.link(bridgeEnd(endpoint.id))) return;
      hostRtnl.addLink({
        kind: 'veth', name: hostEnd(endpoint.id), mtu, mac: endpoint.mac,
        peer: { name: bridgeEnd(endpoint.id), mtu, netns: fabric.netns, master: rtnl.link(overlayBridge(network.id))!.index, up: true },
      });
    },
    // By the fabric's end: wherever Docker left the other one, it goes with it.
    deleteEndpoint: (_, endpoint) => rtnl.deleteLink(bridgeEnd(endpoint.id)),
    join: async (network, endpoint) => ({
      sourceName: hostEnd(endpoint.id),
      prefix: interfacePrefix(network),
      ...(!network.internal && network.subnets[0]?.gateway !== undefined && { gateway: network.subnets[0].gateway }),
      routes: [],
    }),
    leave: async () => {},
    repair: async (networks, endpoints) => {
      const found = await ensureFabric();
      for (const network of networks) await ensureNetwork(network, found);
      ensureRemoteRoutes(found);
      for (const endpoint of endpoints) ensurePort(networks, endpoint, found);
      await removeStrangers(networks, endpoints, found);
      return found;
    },
    ensureFabric,
    setBackends: (next) => {
      if (JSON.stringify(next) === JSON.stringify(backends)) return;
      backends = next;
      refreshFabric();
    },
    close: () => {
      stopEndpoints();
      stopNodes();
      for (const key of lingering.keys()) stopLingering(key);
    },
  };

  function ensurePort(networks: readonly Network[], endpoint: Endpoint, found: Repair[]): void {
    const network = networks.find(({ id }) => id === endpoint.networkId);
    const link = rtnl.link(bridgeEnd(endpoint.id));
    // Without its pair the container has lost its interface: only its restart can bring one.
    if (!network || !link) return;
    ensureLink(rtnl, link.name, { master: rtnl.link(overlayBridge(network.id))!.index, up: true }, () => {}, found);
  }

  /** What a crash left behind: bridges, tunnels and ports of networks and endpoints that are no more. */
  async function removeStrangers(networks: readonly Network[], endpoints: readonly Endpoint[], found: Repair[]): Promise<void> {
    const known = new Set([
      ...networks.flatMap(({ id }) => [overlayBridge(id), overlayTunnel(id)]), ...endpoints.map(({ id }) => bridgeEnd(id)),
    ]);
    for (const { name } of rtnl.links()) {
      if (!/^(wb|wv|we)-/.test(name) || known.has(name)) continue;
      await rtnl.deleteLink(name);
      found.push({ what: `link ${name} belonged to nothing` });
    }
  }
}
