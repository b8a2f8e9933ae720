/** The bridge driver: networks of one node. */
import { setImmediate as nextTurn } from 'node:timers/promises';
import { errorText } from '../../base/errors.ts';
import type { Logger } from '../../base/log.ts';
import { runAll } from '../../base/undo.ts';
import { mend, type Driver, type Repair } from '../../cnm/driver.ts';
import { nameOf, type Endpoint, type Network, type PortMapping } from '../../cnm/model.ts';
import { createNetns, deleteNetns, isNetns, openNetns } from '../../linux/netns.ts';
import { openNft } from '../../linux/nft.ts';
import { openRtnl } from '../../linux/rtnl.ts';
import type { Netns, Rtnl } from '../../linux/types.ts';
import { watchDockerBridges } from '../docker-bridges.ts';
import { ensureForwardAccepts, removeAllForwardAccepts, removeForwardAccepts } from '../forward-accepts.ts';
import { setHostSysctl, type Journal } from '../host-sysctls.ts';
import { ensureIpv6Forwarding, hasIpv6, isIpv6On, requireIpv6 } from '../ipv6.ts';
import { HOST_BRIDGES } from '../names.ts';
import { createNftTable } from '../nft-table.ts';
import { joinAnswer } from '../veth.ts';
import { checkBridgeName, createBridgeLinks, gatewayLink } from './links.ts';
import { settingsOf, validateBridge, withDefaultGateways } from './options.ts';
import { createPublishedPorts } from './ports.ts';
import { bridgeRules } from './rules.ts';

export interface BridgeOptions {
  host: Netns;
  /** Where the namespace of the bridges is, or will be. */
  path: string;
  networks(): readonly Network[];
  /** Ports published by an earlier weftd, by endpoint. */
  published: ReadonlyMap<string, PortMapping[]>;
  journal: Journal;
  log: Logger;
}

export interface BridgeDriver extends Driver {
  /** Where the bridges are that no user has named. */
  readonly inside: Rtnl;
  /** Throws WEFT-PORT-HOST, WEFT-PORT-ADDRESS. Returns the ports with the host ports that were chosen. Idempotent. */
  publish(endpoint: Endpoint): Promise<PortMapping[]>;
  unpublish(endpointId: string): void;
  /** Takes all of it off the host; returns what could not be removed. */
  purge(): Promise<unknown[]>;
  close(): void;
}

export function createBridgeDriver({ host, path, networks, published, journal, log }: BridgeOptions): BridgeDriver {
  const netns = isNetns(path) ? openNetns(path) : createNetns(path);
  const rtnl = openRtnl(host);
  const inside = openRtnl(netns);
  const nft = openNft(host);
  const links = createBridgeLinks(rtnl, inside, journal);
  const table = createNftTable(nft, 'inet weft-bridge');
  const ports = createPublishedPorts(host, applyRules);
  /** Until they are held again, or given up. */
  const earlier = new Map(published);
  /** Networks that were deleted here, until nobody lists them any more: a repair must not bring them back. */
  const leaving = new Set<string>();
  const docker = watchDockerBridges(rtnl, () => bridges().length > 0 && guarded(applyRules));

  function bridges(): Network[] {
    return networks().filter(({ driver, id }) => driver === 'bridge' && !leaving.has(id));
  }

  /** Without a network there are no rules either. */
  function applyRules(): void {
    const on = bridges();
    if (on.length === 0) {
      table.remove();
      return;
    }
    table.set(bridgeRules({
      networks: on.map((network) => ({ ...settingsOf(network), link: gatewayLink(network), internal: network.internal, subnets: network.subnets.map(({ subnet }) => subnet) })),
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

  /** What the host's FORWARD chain has to accept for the networks. */
  const patternsOf = (on: readonly Network[]): string[] => [...new Set(on.map((network) => settingsOf(network).name ?? HOST_BRIDGES))];

  function ensureHost(found: Repair[]): void {
    if (setHostSysctl(host, 'net/ipv4/ip_forward', '1', journal) !== undefined) found.push({ what: 'sysctl net/ipv4/ip_forward was 0' });
    const withIpv6 = bridges().some(hasIpv6) && isIpv6On(host);
    if (withIpv6) ensureIpv6Forwarding(host, rtnl, journal, found);
    for (const pattern of patternsOf(bridges())) {
      if (ensureForwardAccepts(nft, pattern, withIpv6 ? [4, 6] : [4])) found.push({ what: 'the host\'s FORWARD chain did not accept our bridges' });
    }
  }

  function addPort(network: Network, endpoint: Endpoint, options?: { soon: boolean }): void {
    requireIpv6(host, network);
    // Who attaches endpoints to a network still has it: its removal has failed.
    if (leaving.delete(network.id)) applyRules();
    links.addPort(network, endpoint, options);
  }

  /** What an earlier weftd published. */
  function restorePorts(endpoint: Endpoint): void {
    const mappings = earlier.get(endpoint.id);
    const network = bridges().find(({ id }) => id === endpoint.networkId);
    if (!mappings || !network) return;
    earlier.delete(endpoint.id);
    if (!ports.restore(endpoint, mappings, settingsOf(network))) log.warn({ endpoint: endpoint.id.slice(0, 12) }, 'a published port, or its address, was taken from us while weftd was away');
  }

  return {
    name: 'bridge',
    scope: 'node',
    inside,
    validate: (network) => {
      validateBridge(network);
      checkBridgeName(rtnl, network, bridges());
      requireIpv6(host, network);
    },
    createNetwork: async (network) => {
      leaving.delete(network.id);
      // Rules first: there is no moment in which packets pass that they would stop.
      applyRules();
      links.ensure(network, []);
      ensureHost([]);
    },
    deleteNetwork: async (network) => {
      leaving.add(network.id);
      await links.remove(network);
      applyRules();
      const needed = patternsOf(bridges());
      for (const pattern of patternsOf([network])) if (!needed.includes(pattern)) removeForwardAccepts(nft, pattern);
    },
    createEndpoint: async (network, endpoint) => addPort(network, endpoint, { soon: true }),
    deleteEndpoint: (network, endpoint) => links.removePort(network, endpoint),
    join: async (network, endpoint) => {
      addPort(network, endpoint);
      return joinAnswer(withDefaultGateways(network), endpoint);
    },
    leave: async () => {},

    repair: async (all, endpoints) => {
      const found: Repair[] = [];
      const listed = new Set(networks().map(({ id }) => id));
      for (const id of leaving) if (!listed.has(id)) leaving.delete(id);
      // Before anything else: networks and endpoints come while this waits for the kernel.
      await links.removeStrangers(all, endpoints, found);
      await nextTurn();
      endpoints.forEach(restorePorts);
      applyRules();
      if (bridges().length === 0) return found;
      if (table.repair()) found.push({ what: 'nftables: table inet weft-bridge of the host was changed' });
      ensureHost(found);
      await nextTurn();
      for (const network of all) {
        const here = endpoints.filter(({ networkId }) => networkId === network.id);
        await mend(`network ${nameOf(network)}`, found, async () => {
          await links.migrate(network, here, found);
          // It may have gone meanwhile.
          if (!bridges().some(({ id }) => id === network.id)) return;
          const bridge = links.ensure(network, found);
          await links.ensurePorts(network, here, bridge, found);
        });
        await nextTurn();
      }
      return found;
    },

    publish: async (endpoint) => {
      const network = bridges().find(({ id }) => id === endpoint.networkId);
      return network ? ports.publish(endpoint, settingsOf(network)) : [];
    },
    unpublish: (endpointId) => {
      earlier.delete(endpointId);
      guarded(() => ports.unpublish(endpointId));
    },
    purge: async () => {
      const { errors } = await runAll([
        () => removeAllForwardAccepts(nft),
        () => links.purge(),
        () => table.remove(),
        () => deleteNetns(path),
      ]);
      return errors;
    },
    close: () => {
      docker.close();
      ports.close();
      links.close();
      for (const each of [nft, inside, rtnl, netns]) each.close();
    },
  };
}
