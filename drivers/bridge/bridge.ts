/** The bridge driver: networks of one node. Its bridges live in the host namespace, where leaving traffic has the shortest way. */
import { setImmediate as nextTurn } from 'node:timers/promises';
import { errorText } from '../../base/errors.ts';
import type { Logger } from '../../base/log.ts';
import { parsePrefix } from '../../base/prefix.ts';
import { runAll } from '../../base/undo.ts';
import type { Driver, Repair } from '../../cnm/driver.ts';
import type { Endpoint, Network, PortMapping } from '../../cnm/model.ts';
import { openNft } from '../../linux/nft.ts';
import { openRtnl } from '../../linux/rtnl.ts';
import { writeSysctl } from '../../linux/sysctl.ts';
import type { Netns, Rtnl } from '../../linux/types.ts';
import { watchDockerBridges } from '../docker-bridges.ts';
import { deleteLinks, ensureAddress, ensureLink, forward, linkMaker, removeStrangers } from '../ensure.ts';
import { ensureForwardAccepts, removeForwardAccepts } from '../forward-accepts.ts';
import { disableIpv6, enableIpv6, ensureIpv6Forwarding, hasIpv6, isIpv6On, requireIpv6 } from '../ipv6.ts';
import { HOST_BRIDGES, gatewayMac, hostBridge } from '../names.ts';
import { createNftTable } from '../nft-table.ts';
import { ANTISPOOF_OPTION, MTU_OPTIONS, PREFIX_OPTION, RATE_OPTIONS, allowsAnySource, checkOptions, interfacePrefix, wantedMtu, wantedRates } from '../options.ts';
import { ensurePort, joinAnswer, linksOf, makePair, removePair, type PortOptions } from '../veth.ts';
import { createPublishedPorts } from './ports.ts';
import { bridgeRules } from './rules.ts';

const OPTIONS = [...MTU_OPTIONS, PREFIX_OPTION, ANTISPOOF_OPTION, ...RATE_OPTIONS];
const OURS = /^(wbr|we|wl)-/;
const portOf = (network: Network, endpoint: Endpoint): PortOptions => ({ hairpin: true, anySource: allowsAnySource(network), rates: wantedRates(network, endpoint) });
const LARGEST_MTU = 65535;
/** Docker's. */
const DEFAULT_MTU = 1500;

export interface BridgeOptions {
  host: Netns;
  networks(): readonly Network[];
  /** Ports published by an earlier weftd, by endpoint. */
  published: ReadonlyMap<string, PortMapping[]>;
  /** Called with the value of a host sysctl before it is changed for the first time. */
  journal(name: string, before: string): void;
  log: Logger;
}

export interface BridgeDriver extends Driver {
  readonly rtnl: Rtnl;
  /** Throws WEFT-PORT-HOST, WEFT-PORT-ADDRESS. Returns the ports with the host ports that were chosen. Idempotent. */
  publish(endpoint: Endpoint): Promise<PortMapping[]>;
  unpublish(endpointId: string): void;
  /** Takes all of it off the host; returns what could not be removed. */
  purge(): Promise<unknown[]>;
  close(): void;
}

export function createBridgeDriver({ host, networks, published, journal, log }: BridgeOptions): BridgeDriver {
  const rtnl = openRtnl(host);
  const nft = openNft(host);
  const table = createNftTable(nft, 'inet weft-bridge');
  const ports = createPublishedPorts(host, applyRules);
  /** Until they are held again, or given up. */
  const earlier = new Map(published);
  const docker = watchDockerBridges(rtnl, () => bridges().length > 0 && guarded(applyRules));

  function bridges(): Network[] {
    return networks().filter(({ driver }) => driver === 'bridge');
  }

  /** Without a network there are no rules either. */
  function applyRules(on = bridges()): void {
    if (on.length === 0) {
      table.remove();
      removeForwardAccepts(nft, HOST_BRIDGES);
      return;
    }
    table.set(bridgeRules({
      networks: on.flatMap(({ id, internal, subnets }) => subnets.map(({ subnet }) => ({ bridge: hostBridge(id), subnet, internal }))),
      ports: ports.rules(),
      dockerBridges: docker.names(),
    }));
  }

  function guarded(run: () => void): void {
    try {
      run();
    } catch (error) {
      log.warn({ detail: errorText(error) }, 'the rules of bridge networks could not be changed; tried again at the next repair');
    }
  }

  /** Returns the index of the network's bridge. */
  function ensureNetwork(network: Network, found: Repair[]): number {
    const name = hostBridge(network.id);
    const mac = gatewayMac(network.id);
    const index = ensureLink(rtnl, name, { mtu: mtuOf(network), mac, up: true }, linkMaker(rtnl, { kind: 'bridge', name, mac }), found);
    const withIpv6 = hasIpv6(network) && isIpv6On(host);
    // Without addresses of its own it has no link-local one either, by which a container would reach the host past every rule of ours.
    if (withIpv6) enableIpv6(host, name);
    else disableIpv6(host, name);
    for (const { subnet, gateway } of network.subnets) {
      const { family, length } = parsePrefix(subnet)!;
      if (gateway !== undefined && (family === 4 || withIpv6)) ensureAddress(rtnl, index, `${gateway}/${length}`, found);
    }
    forward(host, name);
    // For 127.0.0.1:PORT of published ports; what comes in with such an address is dropped.
    writeSysctl(host, `net/ipv4/conf/${name}/route_localnet`, '1');
    return index;
  }

  function ensureHost(found: Repair[]): void {
    const forwarding = writeSysctl(host, 'net/ipv4/ip_forward', '1');
    if (forwarding === '0') {
      journal('net/ipv4/ip_forward', forwarding);
      found.push({ what: 'sysctl net/ipv4/ip_forward was 0' });
    }
    const withIpv6 = bridges().some(hasIpv6) && isIpv6On(host);
    if (withIpv6) ensureIpv6Forwarding(host, rtnl, journal, found);
    if (ensureForwardAccepts(nft, HOST_BRIDGES, withIpv6 ? [4, 6] : [4])) found.push({ what: 'the host\'s FORWARD chain did not accept our bridges' });
  }

  const mtuOf = (network: Network): number => wantedMtu(network, LARGEST_MTU, 0) ?? DEFAULT_MTU;

  function ensureEndpoint(network: Network, endpoint: Endpoint): void {
    requireIpv6(host, network);
    const bridge = rtnl.link(hostBridge(network.id))?.index ?? ensureNetwork(network, []);
    makePair(rtnl, rtnl, endpoint, bridge, mtuOf(network), portOf(network, endpoint));
  }

  /** What an earlier weftd published. */
  function restorePorts(endpoint: Endpoint): void {
    const mappings = earlier.get(endpoint.id);
    if (!mappings || endpoint.address === undefined) return;
    earlier.delete(endpoint.id);
    if (!ports.restore(endpoint, mappings)) log.warn({ endpoint: endpoint.id.slice(0, 12) }, 'a published port, or its address, was taken from us while weftd was away');
  }

  return {
    name: 'bridge',
    scope: 'node',
    rtnl,
    validate: (network) => {
      checkOptions(network, OPTIONS);
      wantedMtu(network, LARGEST_MTU, 0);
      interfacePrefix(network);
      allowsAnySource(network);
      wantedRates(network);
      requireIpv6(host, network);
    },
    createNetwork: async (network) => {
      // Rules first: there is no moment in which packets pass that they would stop.
      applyRules();
      ensureNetwork(network, []);
      ensureHost([]);
    },
    deleteNetwork: async (network) => {
      await rtnl.deleteLink(hostBridge(network.id));
      applyRules(bridges().filter(({ id }) => id !== network.id));
    },
    createEndpoint: async (network, endpoint) => ensureEndpoint(network, endpoint),
    deleteEndpoint: (_, endpoint) => removePair(rtnl, endpoint),
    join: async (network, endpoint) => {
      // A crash may have come between the endpoint's record and its link.
      ensureEndpoint(network, endpoint);
      return joinAnswer(network, endpoint);
    },
    leave: async () => {},

    repair: async (all, endpoints) => {
      const found: Repair[] = [];
      // Before anything else: networks and endpoints come while this waits for the kernel.
      await removeStrangers(rtnl, OURS, [...all.map(({ id }) => hostBridge(id)), ...endpoints.flatMap(linksOf)], found);
      endpoints.forEach(restorePorts);
      applyRules();
      if (bridges().length === 0) return found;
      if (table.repair()) found.push({ what: 'nftables: table inet weft-bridge of the host was changed' });
      ensureHost(found);
      for (const network of all) {
        // It may have gone meanwhile.
        if (!bridges().some(({ id }) => id === network.id)) continue;
        const bridge = ensureNetwork(network, found);
        for (const endpoint of endpoints) if (endpoint.networkId === network.id) ensurePort(rtnl, endpoint, bridge, mtuOf(network), found, portOf(network, endpoint));
        await nextTurn();
      }
      return found;
    },

    publish: (endpoint) => ports.publish(endpoint),
    unpublish: (endpointId) => {
      earlier.delete(endpointId);
      guarded(() => ports.unpublish(endpointId));
    },
    purge: async () => {
      const { errors } = await runAll([
        () => removeForwardAccepts(nft, HOST_BRIDGES),
        () => table.remove(),
        () => deleteLinks(rtnl, ({ name }) => OURS.test(name)),
      ]);
      return errors;
    },
    close: () => {
      docker.close();
      ports.close();
      nft.close();
      rtnl.close();
    },
  };
}
