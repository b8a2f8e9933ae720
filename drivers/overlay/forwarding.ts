/**
 * The way to endpoints on other nodes: per address a forwarding entry and a neighbour on the network's tunnel, and a route
 * for packets that come from the host. Soft state's changes are programmed as they come, address by address and without
 * reading the kernel; what goes wrong, or comes before its network or its node, is caught up with by ensure().
 */
import type { Clock } from '../../base/clock.ts';
import { errorText } from '../../base/errors.ts';
import type { Logger } from '../../base/log.ts';
import { familyOf } from '../../base/prefix.ts';
import type { NodeInfo, SoftState } from '../../cluster/state.ts';
import type { Repair } from '../../cnm/driver.ts';
import type { Network } from '../../cnm/model.ts';
import type { FdbEntry, Route, Rtnl } from '../../linux/types.ts';
import { ensureForwarding, ensureRoutes } from '../ensure.ts';
import { overlayTunnel } from '../names.ts';
import { IPV6_METRIC } from '../ipv6.ts';
import { isEncrypted } from '../options.ts';
import { nodeAddress, nodeLinkLocal, sealedAddress } from './addressing.ts';
import { REMOTE_TABLE } from './routed-tunnel.ts';
import { watchRemoteEndpoints, type EndpointState, type Place } from './remote-endpoints.ts';
import { Ways, type Way } from './ways.ts';

/** Addresses that are programmed in one turn of the event loop: about a third of a millisecond when they go, less when they come. */
const PER_TURN = 16;

export interface ForwardingOptions {
  /** Of the nodes' own addresses. */
  nodePrefix: string;
  rtnl: Rtnl;
  state: SoftState;
  network(id: string): Network | undefined;
  node(id: string): NodeInfo | undefined;
  /** Index of weft-in, or of the one that encrypts. */
  uplinkTunnel(encrypted: boolean): number | undefined;
  /** Whether there are ways to IPv6 addresses. */
  ipv6(): boolean;
  clock: Clock;
  log: Logger;
}

export interface Forwarding {
  /** A node came, went or has another tunnel end. */
  nodeChanged(id: string): void;
  /** One network's entries, exactly. `dev` is its tunnel; undefined while this node has none. */
  ensure(network: Network, dev: number | undefined, found: Repair[]): void;
  /** The routes of all networks: they share a table. */
  ensureRoutes(networks: readonly Network[], found: Repair[]): void;
  /** The network's tunnel is gone, and all that was on it. */
  forget(networkId: string): void;
  close(): void;
}

const keyOf = ({ networkId, ip }: Place): string => `${networkId} ${ip}`;

export function createForwarding(options: ForwardingOptions): Forwarding {
  const { rtnl, log } = options;
  const touched = new Map<string, Place>();
  /**
   * Per network what is in the kernel, as far as we know. A network is here once its entries were compared with the kernel:
   * until then nothing is programmed, or what was missing at the start would be put back without a word.
   */
  const programmed = new Map<string, Ways>();
  let scheduled = false;
  const remotes = watchRemoteEndpoints(options.state, options.clock, touch);

  function routeTo(ip: string, { number }: NodeInfo, dev: number): Route {
    return familyOf(ip) === 4
      ? { dst: `${ip}/32`, via: nodeAddress(options.nodePrefix, number), dev, onlink: true, table: REMOTE_TABLE }
      : { dst: `${ip}/128`, via: nodeLinkLocal(number), dev, metric: IPV6_METRIC, table: REMOTE_TABLE };
  }

  function wayTo(ip: string, { owner, value: { mac } }: EndpointState, network: Network, dev: number | undefined): Way | undefined {
    const node = options.node(owner);
    const encrypted = isEncrypted(network);
    const tunnel = options.uplinkTunnel(encrypted);
    if (!node || (encrypted && !node.wireguard) || (familyOf(ip) === 6 && !options.ipv6())) return undefined;
    return {
      ...(dev !== undefined && { fdb: { dev, mac, vtep: encrypted ? sealedAddress(node.number) : node.vtep, master: true }, neighbour: { dev, ip, mac } }),
      ...(!network.internal && tunnel !== undefined && { route: routeTo(ip, node, tunnel) }),
    };
  }

  function touch(place: Place): void {
    touched.set(keyOf(place), place);
    if (scheduled) return;
    scheduled = true;
    // After the last change of this message, and long before the next packet.
    queueMicrotask(flush);
  }

  function flush(): void {
    const places = [...touched.values()].slice(0, PER_TURN);
    for (const place of places) touched.delete(keyOf(place));
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
    const deviceOf = (networkId: string): number | undefined => {
      if (!devices.has(networkId)) devices.set(networkId, rtnl.link(overlayTunnel(networkId))?.index);
      return devices.get(networkId);
    };
    const wanted: Way[] = [];
    const surplus: Way[] = [];
    const stale: { fdb: FdbEntry; ways: Ways }[] = [];
    for (const place of places) {
      const ways = programmed.get(place.networkId);
      if (!ways) continue;
      const before = ways.get(place.ip);
      const record = remotes.at(place);
      const network = record && options.network(place.networkId);
      const after = network && wayTo(place.ip, record, network, deviceOf(place.networkId));
      ways.delete(place.ip);
      if (after) wanted.push(after);
      if (before && !after) surplus.push(before);
      if (before?.fdb && before.fdb.mac !== after?.fdb?.mac) stale.push({ fdb: before.fdb, ways });
      if (after) ways.set(place.ip, after);
    }
    remove(surplus);
    // An endpoint may have lost one of two addresses, or have another one by now.
    const unused = stale.filter(({ fdb, ways }) => !ways.isUsed(fdb.mac)).map(({ fdb }) => fdb);
    if (unused.length > 0) rtnl.deleteFdb(unused);
    add(wanted);
  }

  function add(ways: readonly Way[]): void {
    if (ways.length === 0) return;
    rtnl.replaceFdb(ways.flatMap(({ fdb }) => fdb ?? []));
    rtnl.replaceNeighbours(ways.flatMap(({ neighbour }) => neighbour ?? []));
    rtnl.replaceRoutes(ways.flatMap(({ route }) => route ?? []));
  }

  function remove(ways: readonly Way[]): void {
    if (ways.length === 0) return;
    rtnl.deleteNeighbours(ways.flatMap(({ neighbour }) => neighbour ?? []));
    rtnl.deleteRoutes(ways.flatMap(({ route }) => route ?? []));
  }

  return {
    nodeChanged: (id) => remotes.ownedBy(id).forEach(touch),
    ensure: (network, dev, found) => {
      const ways = new Ways();
      for (const [ip, record] of remotes.on(network.id)) {
        const way = wayTo(ip, record, network, dev);
        if (way) ways.set(ip, way);
      }
      const wanted = [...ways.values()];
      const entries = new Map(wanted.flatMap(({ fdb }) => (fdb ? [[fdb.mac, fdb] as const] : [])));
      if (dev !== undefined) ensureForwarding(rtnl, dev, [...entries.values()], wanted.flatMap(({ neighbour }) => neighbour ?? []), found);
      programmed.set(network.id, ways);
    },
    ensureRoutes: (networks, found) => {
      if (options.uplinkTunnel(false) === undefined) return;
      const wanted = networks.flatMap((network) => [...remotes.on(network.id)].flatMap(([ip, record]) => wayTo(ip, record, network, undefined)?.route ?? []));
      ensureRoutes(rtnl, wanted, rtnl.routes({ table: REMOTE_TABLE }), found);
    },
    forget: (networkId) => void programmed.delete(networkId),
    close: () => remotes.close(),
  };
}
