/**
 * The links of a bridge network. Its bridge stands in a namespace where nothing is routed and no rule is asked, so that
 * what containers send to each other costs a bridge and no more. A veth pair joins it to the host, whose end is the gateway:
 *
 *   container     bridges' namespace         host
 *     eth0 ──── we-… ── wb-… ── wu-… ──── wbr-… (gateway's address)
 *
 * A bridge that the user has named is one of the host's, for that is where they look for it; ports and gateway are its own.
 */
import { weftError } from '../../base/errors.ts';
import { parsePrefix } from '../../base/prefix.ts';
import type { Repair } from '../../cnm/driver.ts';
import { nameOf, type Endpoint, type Network } from '../../cnm/model.ts';
import { writeSysctl } from '../../linux/sysctl.ts';
import type { Link, Rtnl } from '../../linux/types.ts';
import { isDockerBridge } from '../docker-bridges.ts';
import { deleteLinks, ensureAddress, ensureLink, forward, linkMaker, removeStrangers } from '../ensure.ts';
import { giveBackHostSysctl, setHostSysctl, type Journal } from '../host-sysctls.ts';
import { disableIpv6, enableIpv6, hasIpv6, isIpv6On } from '../ipv6.ts';
import { MADE_BY_WEFT, apartBridge, apartUplink, bridgeEnd, gatewayMac, hostBridge } from '../names.ts';
import { allowsAnySource, wantedRates } from '../options.ts';
import { OPEN_PORT, createPairs, ensurePorts, linksOf, type PortOptions } from '../veth.ts';
import { NAME_OPTION, settingsOf, type BridgeSettings } from './options.ts';

/** Of the address of an adopted bridge that we gave it (IFA_PROTO, from Linux 5.18 on). */
const ADDRESS_BY_WEFT = 0x77;
const OURS_APART = /^(wb|wu|we|wl)-/;
const OURS_ON_HOST = /^(wbr|we|wl)-/;

export interface BridgeLinks {
  /** Makes or mends the network's links. Returns the index of its bridge. */
  ensure(network: Network, found: Repair[]): number;
  remove(network: Network): Promise<void>;
  /** Makes the endpoint's pair unless it is there, and before it what of the network is not. `soon`: see Pairs.makeSoon. */
  addPort(network: Network, endpoint: Endpoint, options?: { soon?: boolean }): void;
  ensurePorts(network: Network, endpoints: readonly Endpoint[], bridge: number, found: Repair[]): Promise<void>;
  removePort(network: Network, endpoint: Endpoint): Promise<void>;
  removeStrangers(networks: readonly Network[], endpoints: readonly Endpoint[], found: Repair[]): Promise<void>;
  /**
   * Earlier versions had all bridges in the host's namespace. Ports of such a one are moved to where they belong, so that their containers keep
   * their links, and the bridge goes; what they need there is the next ensure's.
   */
  migrate(network: Network, endpoints: readonly Endpoint[], found: Repair[]): Promise<void>;
  /** Sysctls aside: whoever purges the host puts all of them back. */
  purge(): Promise<void>;
  close(): void;
}

const localnetOf = (link: string): string => `net/ipv4/conf/${link}/route_localnet`;
const disableIpv6Of = (link: string): string => `net/ipv6/conf/${link}/disable_ipv6`;

/** The host's link on the network: what packets come from and go to. */
export const gatewayLink = (network: Network): string => settingsOf(network).name ?? hostBridge(network.id);

export function createBridgeLinks(host: Rtnl, apart: Rtnl, journal: Journal): BridgeLinks {
  const pairs = createPairs(host);
  const placeOf = ({ name }: BridgeSettings): Rtnl => (name === undefined ? apart : host);
  const bridgeOf = (network: Network, { name }: BridgeSettings): string => name ?? apartBridge(network.id);
  const portOptions = (network: Network, endpoint: Endpoint): PortOptions => {
    const { name, icc } = settingsOf(network);
    return { hairpin: name !== undefined, isolated: !icc, anySource: allowsAnySource(network), rates: wantedRates(network, endpoint) };
  };

  function ensureApart(network: Network, { mtu }: BridgeSettings, found: Repair[]): number {
    // Nobody is to be reached there.
    for (const links of ['all', 'default']) writeSysctl(apart.netns, `net/ipv6/conf/${links}/disable_ipv6`, '1');
    // br_netfilter filters bridged frames in every namespace unless it is told not to.
    for (const family of ['ip', 'ip6', 'arp']) writeSysctl(apart.netns, `net/bridge/bridge-nf-call-${family}tables`, '0');
    const [name, uplink, gateway] = [apartBridge(network.id), apartUplink(network.id), hostBridge(network.id)];
    const mac = gatewayMac(network.id);
    const isNew = apart.glance(uplink) === undefined;
    const bridge = ensureLink(apart, name, { mtu, up: true }, linkMaker(apart, { kind: 'bridge', name }), found);
    ensureLink(host, gateway, { mtu, mac, up: true }, () => {
      host.addLink({ kind: 'veth', name: gateway, mtu, mac, peer: { name: uplink, mtu, netns: apart.netns, master: bridge, up: true } });
      apart.addPortMac(apart.link(uplink)!.index, mac);
    }, found);
    const port = ensureLink(apart, uplink, { mtu, master: bridge, up: true }, () => {}, found);
    apart.setBridgePort(port, OPEN_PORT);
    if (!apart.portMacs(port).includes(mac)) {
      apart.addPortMac(port, mac);
      found.push({ what: `the address of port ${uplink} was missing` });
    }
    pairs.ensureTrunk(apart, { index: port, name: uplink }, bridge, { mac, port }, isNew ? [] : found);
    return bridge;
  }

  function ensureNamed(network: Network, name: string, { mtu }: BridgeSettings, found: Repair[]): number {
    const mac = gatewayMac(network.id);
    const present = host.link(name);
    if (present && present.kind !== 'bridge') throw notABridge(name);
    const isAdopted = present !== undefined && present.group !== MADE_BY_WEFT;
    return ensureLink(host, name, isAdopted ? { up: true } : { mtu, mac, up: true }, linkMaker(host, { kind: 'bridge', name, mac, group: MADE_BY_WEFT }), found);
  }

  /** The host's own addresses on the network. */
  function ensureGateway(network: Network, { inhibitIpv4, mode, name }: BridgeSettings, found: Repair[]): void {
    const { index, name: gateway, group } = host.link(gatewayLink(network))!;
    const isAdopted = name !== undefined && group !== MADE_BY_WEFT;
    const withIpv6 = hasIpv6(network) && isIpv6On(host.netns);
    if (isAdopted) {
      if (withIpv6) setHostSysctl(host.netns, disableIpv6Of(gateway), '0', journal);
    } else if (withIpv6 && mode[6] !== 'isolated') {
      enableIpv6(host.netns, gateway);
    } else {
      // Without addresses of its own it has no link-local one either, by which a container would reach the host past every rule of ours.
      disableIpv6(host.netns, gateway);
    }
    for (const { subnet, gateway: ip } of network.subnets) {
      const { family, length } = parsePrefix(subnet)!;
      const isWanted = family === 4 ? !inhibitIpv4 : withIpv6;
      if (ip === undefined || !isWanted || mode[family] === 'isolated') continue;
      ensureAddress(host, index, `${ip}/${length}`, found, isAdopted ? ADDRESS_BY_WEFT : undefined);
    }
    // For 127.0.0.1:PORT of published ports; what comes in with such an address is dropped.
    if (isAdopted) {
      setHostSysctl(host.netns, localnetOf(gateway), '1', journal);
      return;
    }
    writeSysctl(host.netns, localnetOf(gateway), '1');
    forward(host.netns, gateway);
    // What a container sends under a foreign address gets no further.
    writeSysctl(host.netns, `net/ipv4/conf/${gateway}/rp_filter`, '1');
  }

  function ensure(network: Network, found: Repair[]): number {
    const settings = settingsOf(network);
    const bridge = settings.name === undefined ? ensureApart(network, settings, found) : ensureNamed(network, settings.name, settings, found);
    ensureGateway(network, settings, found);
    return bridge;
  }

  function takeAddresses(adopted: Link): void {
    for (const { index, address, protocol } of host.addresses(adopted.index)) if (protocol === ADDRESS_BY_WEFT) host.deleteAddress(index, address);
  }

  /** Gives an adopted bridge back as it was. Without our rules, whoever is on it would reach the host's 127.0.0.1. */
  function release(adopted: Link): void {
    takeAddresses(adopted);
    for (const name of [localnetOf(adopted.name), disableIpv6Of(adopted.name)]) giveBackHostSysctl(host.netns, name, journal);
  }

  return {
    ensure,
    remove: async (network) => {
      const { name } = settingsOf(network);
      if (name === undefined) {
        pairs.forgetTrunk(apartUplink(network.id));
        await Promise.all([host.deleteLink(hostBridge(network.id)), apart.deleteLink(apartBridge(network.id))]);
        return;
      }
      const bridge = host.link(name);
      if (bridge?.group === MADE_BY_WEFT) await host.deleteLink(bridge.index);
      else if (bridge) release(bridge);
    },

    addPort: (network, endpoint, { soon = false } = {}) => {
      const settings = settingsOf(network);
      const inside = placeOf(settings);
      const bridge = inside.glance(bridgeOf(network, settings))?.index ?? ensure(network, []);
      (soon ? pairs.makeSoon : pairs.make)(inside, endpoint, bridge, settings.mtu, portOptions(network, endpoint));
    },
    ensurePorts: (network, endpoints, bridge, found) => {
      const settings = settingsOf(network);
      const inside = placeOf(settings);
      return ensurePorts(inside, endpoints, (endpoint) => pairs.ensure(inside, endpoint, bridge, settings.mtu, found, portOptions(network, endpoint)));
    },
    removePort: (network, endpoint) => pairs.remove(placeOf(settingsOf(network)), endpoint),

    removeStrangers: async (networks, endpoints, found) => {
      const named = new Map(networks.flatMap((network) => {
        const { name } = settingsOf(network);
        return name === undefined ? [] : [[network.id, name] as const];
      }));
      const unnamed = networks.filter(({ id }) => !named.has(id)).map(({ id }) => id);
      const names = new Set(named.values());
      const ends = endpoints.flatMap(linksOf);
      // All are listed before the first wait: what is made meanwhile is none.
      await Promise.all([
        removeStrangers(apart, OURS_APART, [...unnamed.flatMap((id) => [apartBridge(id), apartUplink(id)]), ...ends], found),
        removeStrangers(host, OURS_ON_HOST, [...unnamed.map(hostBridge), ...ends], found),
        deleteLinks(host, ({ kind, group, name }) => {
          const isStranger = kind === 'bridge' && group === MADE_BY_WEFT && !names.has(name);
          if (isStranger) found.push({ what: `link ${name} belonged to nothing` });
          return isStranger;
        }),
      ]);
    },

    migrate: async (network, endpoints, found) => {
      if (settingsOf(network).name !== undefined) return;
      const bridge = host.link(hostBridge(network.id));
      if (bridge?.kind !== 'bridge') return;
      for (const endpoint of endpoints) {
        const port = host.link(bridgeEnd(endpoint.id));
        if (port) await host.moveLink(port.index, apart.netns);
      }
      // Last: as long as it is there, a crash is made up for by the next start.
      await host.deleteLink(bridge.index);
      found.push({ what: `bridge ${bridge.name} of an earlier version stood in the host's namespace` });
    },

    purge: async () => {
      for (const link of host.links()) if (link.kind === 'bridge' && link.group !== MADE_BY_WEFT) takeAddresses(link);
      await deleteLinks(host, ({ name, kind, group }) => OURS_ON_HOST.test(name) || (kind === 'bridge' && group === MADE_BY_WEFT));
      await deleteLinks(apart, ({ name }) => OURS_APART.test(name));
    },
    close: pairs.close,
  };
}

/** Of what the user named. Throws WEFT-OPTION-VALUE where it exists and is no bridge, or is another network's, Docker's own among them. */
export function checkBridgeName(host: Rtnl, network: Network, others: readonly Network[]): void {
  const { name } = settingsOf(network);
  if (name === undefined) return;
  if (isDockerBridge(name)) throw weftError('WEFT-OPTION-VALUE', { option: NAME_OPTION, value: name, hint: 'bridges with such names are Docker\'s, which it removes with their networks' });
  const link = host.link(name);
  if (link && link.kind !== 'bridge') throw notABridge(name);
  const other = others.find((each) => each.id !== network.id && settingsOf(each).name === name);
  if (other) throw weftError('WEFT-OPTION-VALUE', { option: NAME_OPTION, value: name, hint: `it is the bridge of network ${nameOf(other)}` });
}

const notABridge = (name: string): Error => weftError('WEFT-OPTION-VALUE', { option: NAME_OPTION, value: name, hint: 'it is a link that is no bridge; name another one' });
