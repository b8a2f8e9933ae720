/**
 * The way to endpoints on other nodes: per address a forwarding entry and a neighbour on the network's tunnel, and a route
 * for packets that come from the host. Soft state's changes are programmed as they come, address by address and without
 * reading the kernel; what goes wrong, or comes before its network or its node, is caught up with by ensure().
 */
import type { Clock } from '../../base/clock.ts';
import { errorText } from '../../base/errors.ts';
import { withoutLength } from '../../base/ip.ts';
import type { Logger } from '../../base/log.ts';
import { contains, familyOf, parsePrefix } from '../../base/prefix.ts';
import type { NodeInfo, SoftState } from '../../cluster/state.ts';
import type { Repair } from '../../cnm/driver.ts';
import type { Network } from '../../cnm/model.ts';
import { createSerializer } from '../../cnm/serialize.ts';
import type { FdbEntry, Neighbour, Route, Rtnl } from '../../linux/types.ts';
import { overlayTunnel } from '../names.ts';
import { isEncrypted } from '../options.ts';
import { nodeAddress, nodeLinkLocal, sealedAddress } from './addressing.ts';
import { Comparisons, type Comparison } from './comparisons.ts';
import { Inheritance } from './inheritance.ts';
import { watchRemoteEndpoints, type Place } from './remote-endpoints.ts';
import { compareRoutes } from './remote-routes.ts';
import { REMOTE_TABLE } from './routed-tunnel.ts';
import { Ways, type RemoteAddresses, fdbOf, neighbourOf, routeOf, type Way } from './ways.ts';

/** Addresses that are programmed in one turn of the event loop: about a third of a millisecond when they go, less when they come. */
const PER_TURN = 16;

type InPieces = Comparison['inPieces'];

export interface ForwardingOptions {
  /** Of the nodes' own addresses. */
  nodePrefix: string;
  rtnl: Rtnl;
  state: SoftState;
  /** All overlays. */
  networks(): readonly Network[];
  node(id: string): NodeInfo | undefined;
  /** All others. */
  nodes(): readonly NodeInfo[];
  /** Index of weft-in, or of the one that encrypts. */
  uplinkTunnel(encrypted: boolean): number | undefined;
  /** Where the fast path is told of a network's addresses; undefined where it has none. */
  remotes(network: Network): RemoteAddresses | undefined;
  /** Whether there are ways to IPv6 addresses. */
  ipv6(): boolean;
  clock: Clock;
  log: Logger;
}

export interface Forwarding {
  /** A node came, went or has another tunnel end. */
  nodeChanged(id: string): void;
  /** One network's entries, exactly, on its tunnel if this node has one. Resolves when they are in the kernel. */
  ensure(network: Network, found: Repair[]): Promise<void>;
  /** The routes of all networks that have been ensured: they share a table. Stale ones go when no network is left that has not been. */
  ensureRoutes(found: Repair[]): Promise<void>;
  /** The network's tunnel is gone, and all that was on it. */
  forget(networkId: string): void;
  close(): void;
}

export function createForwarding(options: ForwardingOptions): Forwarding {
  const { rtnl, log } = options;
  /** Network → addresses that have to be programmed. */
  const touched = new Map<string, Set<string>>();
  const touchedNodes = new Set<string>();
  /**
   * Per network what is in the kernel, as far as we know. A network is here once the kernel's entries were read: until then
   * nothing is programmed, or what was missing at the start would be put back without a word.
   */
  const programmed = new Map<string, Ways>();
  const comparisons = new Comparisons();
  const serialize = createSerializer();
  const inheritance = new Inheritance(options.state, options.clock);
  /** Address → next hop, of the routes that were there at the start. */
  let routesAtStart: Promise<Map<string, string>> | undefined;
  let scheduled = false;
  let closed = false;
  const remotes = watchRemoteEndpoints(options.state, options.clock, touch);

  /** What its end of a network's tunnel is. */
  const vtepOf = (node: NodeInfo, network: Network): string => (isEncrypted(network) ? sealedAddress(node.number) : node.vtep);
  const uplinkFor = (network: Network): number | undefined => (network.internal ? undefined : options.uplinkTunnel(isEncrypted(network)));

  function wayTo({ networkId, ip }: Place, network: Network | undefined, dev: number | undefined): Way | undefined {
    const remote = network && remotes.at({ networkId, ip });
    const node = remote && options.node(remote.owner);
    if (!node || (isEncrypted(network) && !node.wireguard) || (familyOf(ip) === 6 && !options.ipv6())) return undefined;
    return { mac: remote.mac, vtep: vtepOf(node, network), number: node.number, dev, tunnel: uplinkFor(network) };
  }

  const routesOf = (ip: string, way: Way): Route[] => routeOf(options.nodePrefix, ip, way);
  /** At a glance: each endpoint of this node comes by here as well, in the middle of its container's start. */
  const deviceOf = (networkId: string): number | undefined => rtnl.glance(overlayTunnel(networkId))?.index;

  // Changes -----------------------------------------------------------------------------------------------------------

  function touch({ networkId, ip }: Place): void {
    const ips = touched.get(networkId) ?? new Set();
    touched.set(networkId, ips.add(ip));
    schedule();
  }

  function schedule(): void {
    if (scheduled) return;
    scheduled = true;
    // After the last change of this message, and long before the next packet.
    queueMicrotask(flush);
  }

  function takeSome(): Place[] {
    const places: Place[] = [];
    for (const [networkId, ips] of touched) {
      for (const ip of ips) {
        if (places.length === PER_TURN) return places;
        ips.delete(ip);
        places.push({ networkId, ip });
      }
      touched.delete(networkId);
    }
    return places;
  }

  function flush(): void {
    if (closed) return;
    if (touchedNodes.size > 0) {
      for (const place of remotes.ownedBy(touchedNodes)) touch(place);
      touchedNodes.clear();
    }
    const places = takeSome();
    scheduled = touched.size > 0;
    if (scheduled) setImmediate(flush);
    try {
      program(places);
    } catch (error) {
      log.warn({ detail: errorText(error) }, 'the way to an endpoint could not be programmed; mended at the next repair');
    }
  }

  function program(places: readonly Place[]): void {
    const devices = new Map<string, number | undefined>();
    for (const networkId of new Set(places.map((place) => place.networkId))) if (programmed.has(networkId)) devices.set(networkId, deviceOf(networkId));
    const networks = new Map(options.networks().map((network) => [network.id, network]));
    const wanted: [ip: string, Way][] = [];
    const surplus: [ip: string, Way][] = [];
    const stale: { fdb: FdbEntry; ways: Ways }[] = [];
    for (const place of places) {
      const { networkId, ip } = place;
      const ways = programmed.get(networkId);
      if (!ways) continue;
      const before = ways.get(ip);
      const after = wayTo(place, networks.get(networkId), devices.get(networkId));
      comparisons.changed(ip, before?.mac, after?.mac);
      inheritance.delete(networkId, ip);
      ways.delete(ip);
      if (after) {
        ways.set(ip, after);
        wanted.push([ip, after]);
      } else if (before) surplus.push([ip, before]);
      if (before && before.mac !== after?.mac) for (const fdb of fdbOf(before)) stale.push({ fdb, ways });
    }
    remove(surplus);
    // An endpoint may have lost one of two addresses, or have another one by now.
    const unused = stale.filter(({ fdb, ways }) => !ways.isUsed(fdb.mac)).map(({ fdb }) => fdb);
    if (unused.length > 0) rtnl.deleteFdb(unused);
    add(wanted);
  }

  function add(ways: readonly [ip: string, Way][]): void {
    if (ways.length === 0) return;
    rtnl.replaceFdb(ways.flatMap(([, way]) => fdbOf(way)));
    rtnl.replaceNeighbours(ways.flatMap(([ip, way]) => neighbourOf(ip, way)));
    rtnl.replaceRoutes(ways.flatMap(([ip, way]) => routesOf(ip, way)));
  }

  function remove(ways: readonly [ip: string, Way][]): void {
    if (ways.length === 0) return;
    rtnl.deleteNeighbours(ways.flatMap(([ip, way]) => neighbourOf(ip, way)));
    rtnl.deleteRoutes(ways.flatMap(([ip, way]) => routesOf(ip, way)));
  }

  // Comparison with the kernel ------------------------------------------------------------------------------------------

  async function compare(network: Network, comparison: Comparison): Promise<void> {
    if (comparison.over) return;
    const networkId = network.id;
    inheritance.listen();
    const dev = deviceOf(networkId);
    // Whoever made another tunnel meanwhile has it compared after this.
    const inPieces: InPieces = (things, work) => comparison.inPieces(things, (piece) => {
      if (deviceOf(networkId) === dev) work(piece);
    });
    const fdb = await comparison.index(dev === undefined ? [] : await rtnl.large.fdb(dev), ({ mac }) => mac);
    const neighbours = await comparison.index(dev === undefined ? [] : await rtnl.large.neighbours(dev), ({ ip }) => ip);
    if (comparison.over) return;
    const ways = programmed.get(networkId) ?? new Ways(options.remotes(network));
    if (programmed.has(networkId)) for (const ip of inheritance.settled(networkId, (id) => options.node(id) !== undefined)) touch({ networkId, ip });
    else await inherit(network, dev, ways, neighbours, fdb, inPieces);
    if (comparison.over) return;
    programmed.set(networkId, ways);
    await inPieces(remotes.addresses(networkId), (ips) => {
      const noFdb: FdbEntry[] = [];
      const noNeighbour: Neighbour[] = [];
      for (const ip of ips) {
        if (inheritance.has(networkId, ip)) continue;
        const way = wayTo({ networkId, ip }, network, dev);
        if (way) ways.set(ip, way);
        else ways.delete(ip);
        if (!way || dev === undefined) continue;
        const entry = fdb.get(way.mac);
        if (entry?.vtep !== way.vtep || !entry.master) {
          noFdb.push(...fdbOf(way));
          comparison.note('forwarding entries were missing or wrong', way.mac);
        }
        if (neighbours.get(ip)?.mac !== way.mac) {
          noNeighbour.push(...neighbourOf(ip, way));
          comparison.note('neighbours were missing or wrong', ip);
        }
      }
      if (noFdb.length > 0) rtnl.replaceFdb(noFdb);
      if (noNeighbour.length > 0) rtnl.replaceNeighbours(noNeighbour);
    });
    await inPieces(fdb.values(), (entries) => {
      const stale = entries.filter(({ mac }) => !ways.isUsed(mac));
      for (const { mac } of stale) comparison.note('forwarding entries were stale', mac);
      if (stale.length > 0) rtnl.deleteFdb(stale);
    });
    await inPieces(neighbours.values(), (entries) => {
      const stale = entries.filter(({ ip }) => ways.get(ip)?.dev === undefined);
      for (const { ip } of stale) comparison.note('neighbours were stale', ip);
      if (stale.length > 0) rtnl.deleteNeighbours(stale);
    });
  }

  /** Takes over what the kernel has and soft state does not explain. Before anything of the network is programmed. */
  async function inherit(network: Network, dev: number | undefined, ways: Ways, neighbours: ReadonlyMap<string, Neighbour>, fdb: ReadonlyMap<string, FdbEntry>, inPieces: InPieces): Promise<void> {
    const routes = await (routesAtStart ??= rtnl.large.routes({ table: REMOTE_TABLE }).then((all) => new Map(all.map(({ dst, via = '' }) => [withoutLength(dst), via]))));
    const networkId = network.id;
    const prefixes = network.subnets.map(({ subnet }) => parsePrefix(subnet)!);
    const nodes = options.nodes();
    const byVtep = new Map(nodes.map((node) => [vtepOf(node, network), node]));
    const byNextHop = new Map(nodes.flatMap((node) => [nodeAddress(options.nodePrefix, node.number), nodeLinkLocal(node.number)].map((via) => [via, node] as const)));
    const tunnel = uplinkFor(network);
    const take = (ip: string, node: NodeInfo | undefined, mac?: string): void => {
      if (!node || inheritance.isHeard(node.id) || remotes.isHere({ networkId, ip })) return;
      const known = remotes.at({ networkId, ip });
      if (known?.owner === node.id && (mac === undefined || known.mac === mac)) return;
      ways.set(ip, { mac: mac ?? '', vtep: vtepOf(node, network), number: node.number, dev: mac === undefined ? undefined : dev, tunnel });
      inheritance.add(networkId, ip, node.id);
    };
    await inPieces(neighbours.values(), (piece) => piece.forEach(({ ip, mac }) => take(ip, byVtep.get(fdb.get(mac)?.vtep ?? ''), mac)));
    await inPieces(routes, (piece) => {
      for (const [ip, via] of piece) if (!neighbours.has(ip) && prefixes.some((prefix) => contains(prefix, ip))) take(ip, byNextHop.get(via));
    });
  }

  async function ensureRoutes(found: Repair[]): Promise<void> {
    if (options.uplinkTunnel(false) === undefined) return;
    await comparisons.run(undefined, found, async (comparison) => {
      const isComplete = (): boolean => options.networks().every(({ id }) => programmed.has(id));
      // From there on, there are none that a network does not know of.
      if (await compareRoutes({ rtnl, programmed, routesOf, isComplete }, comparison)) routesAtStart = Promise.resolve(new Map());
    });
  }

  return {
    nodeChanged: (id) => {
      touchedNodes.add(id);
      schedule();
    },
    // One after another: each would take what the other has just written for stale.
    ensure: (network, found) => comparisons.run(network.id, found, (comparison) => serialize(network.id, () => compare(network, comparison))),
    ensureRoutes,
    forget: (networkId) => {
      // It fails when the fast path has been closed, and with it all that there was to take out.
      programmed.get(networkId)?.abandon((mac) => programmed.get(networkId)?.isUsed(mac) === true).catch(() => {});
      programmed.delete(networkId);
      touched.delete(networkId);
      inheritance.forget(networkId);
      comparisons.end(networkId);
    },
    close: () => {
      closed = true;
      comparisons.end();
      remotes.close();
    },
  };
}
