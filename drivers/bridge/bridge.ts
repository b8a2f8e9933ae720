/** The bridge driver: networks of one node. Its bridges live in the host namespace, where leaving traffic has the shortest way. */
import { errorText, weftError } from '../../base/errors.ts';
import { parsePrefix4, withoutLength } from '../../base/ip.ts';
import type { Logger } from '../../base/log.ts';
import { withUndo } from '../../base/undo.ts';
import type { Driver, Repair } from '../../cnm/driver.ts';
import type { Endpoint, Network, PortMapping } from '../../cnm/model.ts';
import { openNft } from '../../linux/nft.ts';
import { reservePort, type Reservation } from '../../linux/port-reservation.ts';
import { openRtnl } from '../../linux/rtnl.ts';
import { writeSysctl } from '../../linux/sysctl.ts';
import type { Netns, Rtnl } from '../../linux/types.ts';
import { ensureAddress, ensureLink, linkMaker } from '../ensure.ts';
import { ensureForwardAccepts, removeForwardAccepts } from '../forward-accepts.ts';
import { bridgeEnd, hostBridge, hostEnd } from '../names.ts';
import { createNftTable } from '../nft-table.ts';
import { MTU_OPTIONS, PREFIX_OPTION, checkOptions, interfacePrefix, wantedMtu } from '../options.ts';
import { BRIDGES, bridgeRules } from './rules.ts';

const OPTIONS = [...MTU_OPTIONS, PREFIX_OPTION];
const LARGEST_MTU = 65535;
const DEFAULT_MTU = 1500;
const DYNAMIC = { first: 49152, last: 65535 };

export interface BridgeOptions {
  host: Netns;
  networks(): readonly Network[];
  /** Ports published by an earlier weftd, by endpoint. */
  published: ReadonlyMap<string, PortMapping[]>;
  journal(name: string, before: string): void;
  log: Logger;
}

export interface BridgeDriver extends Driver {
  readonly rtnl: Rtnl;
  /** Throws WEFT-PORT-HOST. Returns the ports with the host ports that were chosen. Idempotent. */
  publish(endpoint: Endpoint): Promise<PortMapping[]>;
  unpublish(endpointId: string): void;
  purge(): Promise<unknown[]>;
  close(): void;
}

export function createBridgeDriver({ host, networks, published: before, journal, log }: BridgeOptions): BridgeDriver {
  const rtnl = openRtnl(host);
  const nft = openNft(host);
  const table = createNftTable(nft, 'inet weft-bridge');
  const published = new Map<string, { ip: string; ports: PortMapping[]; reservations: Reservation[] }>();
  const bridges = (): Network[] => networks().filter(({ driver }) => driver === 'bridge');

  function applyRules(): void {
    table.set(bridgeRules({
      networks: bridges().flatMap(({ id, internal, subnets }) => subnets.map(({ subnet }) => ({ bridge: hostBridge(id), subnet, internal }))),
      ports: [...published.values()].flatMap(({ ip, ports }) => ports.map(({ protocol, hostIp, hostPort, containerPort }) => ({
        protocol, hostIp: hostIp === '0.0.0.0' || hostIp === '::' ? '' : hostIp, hostPort, ip, port: containerPort,
      }))),
    }));
  }

  function hold(mapping: PortMapping): { port: PortMapping; reservation: Reservation } {
    const { protocol, hostPort } = mapping;
    if (hostPort !== 0) {
      const reservation = reservePort(host, protocol, hostPort);
      if (!reservation) throw weftError('WEFT-PORT-HOST', { port: hostPort, proto: protocol });
      return { port: mapping, reservation };
    }
    for (let port = DYNAMIC.first; port <= DYNAMIC.last; port++) {
      const reservation = reservePort(host, protocol, port);
      if (reservation) return { port: { ...mapping, hostPort: port }, reservation };
    }
    throw weftError('WEFT-PORT-HOST', { port: `${DYNAMIC.first}-${DYNAMIC.last}`, proto: protocol });
  }

  function ensureNetwork(network: Network, found: Repair[]): void {
    const name = hostBridge(network.id);
    const mtu = wantedMtu(network, LARGEST_MTU, 0) ?? DEFAULT_MTU;
    const index = ensureLink(rtnl, name, { mtu, up: true }, linkMaker(rtnl, { kind: 'bridge', name, mtu }), found);
    for (const { subnet, gateway } of network.subnets) {
      if (gateway !== undefined) ensureAddress(rtnl, index, `${gateway}/${parsePrefix4(subnet)!.length}`, found);
    }
    // For 127.0.0.1:PORT of published ports; what comes in with such an address is dropped.
    writeSysctl(host, `net/ipv4/conf/${name}/route_localnet`, '1');
    const forwarding = writeSysctl(host, 'net/ipv4/ip_forward', '1');
    if (forwarding === '0') {
      journal('net/ipv4/ip_forward', forwarding);
      found.push({ what: 'sysctl net/ipv4/ip_forward was 0' });
    }
    if (ensureForwardAccepts(nft, BRIDGES)) found.push({ what: 'the host\'s FORWARD chain did not accept our bridges' });
  }

  return {
    name: 'bridge',
    scope: 'node',
    rtnl,
    validate: (network) => {
      checkOptions(network, OPTIONS);
      wantedMtu(network, LARGEST_MTU, 0);
      interfacePrefix(network);
    },
    createNetwork: async (network) => {
      ensureNetwork(network, []);
      applyRules();
    },
    deleteNetwork: async (network) => {
      await rtnl.deleteLink(hostBridge(network.id));
      applyRules();
    },
    createEndpoint: async (network, endpoint) => {
      if (rtnl.link(bridgeEnd(endpoint.id))) return;
      let bridge = rtnl.link(hostBridge(network.id));
      if (!bridge) {
        ensureNetwork(network, []);
        bridge = rtnl.link(hostBridge(network.id))!;
      }
      const mtu = wantedMtu(network, LARGEST_MTU, 0) ?? DEFAULT_MTU;
      rtnl.addLink({ kind: 'veth', name: hostEnd(endpoint.id), mtu, mac: endpoint.mac, peer: { name: bridgeEnd(endpoint.id), mtu, master: bridge.index, up: true } });
    },
    deleteEndpoint: (_, endpoint) => rtnl.deleteLink(bridgeEnd(endpoint.id)),
    join: async (network, endpoint) => ({
      sourceName: hostEnd(endpoint.id),
      prefix: interfacePrefix(network),
      ...(!network.internal && network.subnets[0]?.gateway !== undefined && { gateway: network.subnets[0].gateway }),
      routes: [],
    }),
    leave: async () => {},

    repair: async (all, endpoints) => {
      const found: Repair[] = [];
      for (const network of all) ensureNetwork(network, found);
      for (const endpoint of endpoints) {
        const ports = before.get(endpoint.id);
        if (!ports || published.has(endpoint.id) || endpoint.address === undefined) continue;
        const held = ports.flatMap((port) => reservePort(host, port.protocol, port.hostPort) ?? []);
        published.set(endpoint.id, { ip: withoutLength(endpoint.address), ports, reservations: held });
        if (held.length < ports.length) log.warn({ endpoint: endpoint.id.slice(0, 12) }, 'a published port was taken by a program of the host while weftd was away');
      }
      if (all.length > 0 || published.size > 0) applyRules();
      if (table.repair()) found.push({ what: 'nftables: table inet weft-bridge of the host was changed' });
      const known = new Set([...all.map(({ id }) => hostBridge(id)), ...endpoints.map(({ id }) => bridgeEnd(id))]);
      for (const endpoint of endpoints) {
        const link = rtnl.link(bridgeEnd(endpoint.id));
        const master = rtnl.link(hostBridge(endpoint.networkId));
        if (link && master) ensureLink(rtnl, link.name, { master: master.index, up: true }, () => {}, found);
      }
      for (const { name } of rtnl.links()) {
        if (!/^(wbr|we)-/.test(name) || known.has(name)) continue;
        await rtnl.deleteLink(name);
        found.push({ what: `link ${name} belonged to nothing` });
      }
      return found;
    },

    publish: (endpoint) => withUndo(async (undo) => {
      const known = published.get(endpoint.id);
      if (known) return known.ports;
      const reservations: Reservation[] = [];
      undo.push(() => reservations.forEach((reservation) => reservation.release()));
      undo.push(() => void published.delete(endpoint.id));
      const ports = endpoint.ports.map((mapping) => {
        const held = hold(mapping);
        reservations.push(held.reservation);
        return held.port;
      });
      published.set(endpoint.id, { ip: withoutLength(endpoint.address ?? ''), ports, reservations });
      applyRules();
      return ports;
    }),
    unpublish: (endpointId) => {
      const entry = published.get(endpointId);
      if (!entry) return;
      published.delete(endpointId);
      for (const reservation of entry.reservations) reservation.release();
      try {
        applyRules();
      } catch (error) {
        log.warn({ detail: errorText(error) }, 'the rules of a published port stay until the next repair');
      }
    },
    purge: async () => {
      const errors: unknown[] = [];
      const attempt = async (run: () => unknown): Promise<void> => {
        try {
          await run();
        } catch (error) {
          errors.push(error);
        }
      };
      await attempt(() => removeForwardAccepts(nft, BRIDGES));
      await attempt(() => table.remove());
      for (const { name } of rtnl.links()) if (/^(wbr|we|wc)-/.test(name)) await attempt(() => rtnl.deleteLink(name));
      return errors;
    },
    close: () => {
      for (const { reservations } of published.values()) for (const reservation of reservations) reservation.release();
      nft.close();
      rtnl.close();
    },
  };
}
