/**
 * Networks whose endpoints are links on an interface of the host's, and so on the wire that it is on: what macvlan and ipvlan
 * have in common. A network with a parent is the cluster's, on all nodes that have the wire; one without is of one node, and
 * reaches nobody outside.
 */
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { Clock } from '../../base/clock.ts';
import { errorText, weftError } from '../../base/errors.ts';
import type { Logger } from '../../base/log.ts';
import { runAll } from '../../base/undo.ts';
import type { Driver, Repair } from '../../cnm/driver.ts';
import { nameOf, type Endpoint, type JoinAnswer, type Network } from '../../cnm/model.ts';
import { openRtnl } from '../../linux/rtnl.ts';
import { KernelError, type Link, type Netns, type SharingLink } from '../../linux/types.ts';
import { deleteLinks, removeStrangers } from '../ensure.ts';
import type { StackedNames } from '../names.ts';
import { joinAnswer } from '../veth.ts';
import { probe } from './conflicts.ts';
import { ensureHostAccess } from './host-access.ts';
import { parentOn, type StackedOptions } from './options.ts';
import { createParents } from './parents.ts';
import { addressesOf, createSandboxLinks } from './sandbox-links.ts';

const OWN_ADDRESS_TRIES = 4;

export interface StackedDriverOptions {
  host: Netns;
  self(): { id: string; name: string };
  /** Of all drivers: an interface carries one kind only. */
  networks(): readonly Network[];
  /** An address of each IPv4 subnet of a network for this host itself, plain; the same ones each time. */
  hostAddresses(network: Network): Promise<string[]>;
  /** They cannot be used; the next ones are others. */
  releaseHostAddresses(network: Network, own: readonly string[]): Promise<void>;
  /** Whether an endpoint's link works in its sandbox. */
  onCarrier(endpointId: string, up: boolean): void;
  clock: Clock;
  log: Logger;
}

/** What one kind has of its own. */
export interface StackedKind<Options extends StackedOptions> {
  readonly name: SharingLink['kind'];
  readonly names: StackedNames;
  /** What to do where the kernel has no such links, and how it would have them. */
  readonly lacking: { option: string; hint: string };
  /** Otherwise endpoints have the MAC of their parent. */
  readonly hasOwnMac: boolean;
  /** Throws where a user asks for what is not. */
  options(network: Network, node: string): Options;
  link(options: Options): SharingLink;
  /** Nobody speaks ARP: endpoints have a default route by their link instead of a gateway, and nobody can be asked for an address. */
  isRouted(options: Options): boolean;
  /** Why two networks cannot share a parent. `name` is the other one's. */
  conflict(one: Options, other: Options, name: string): Unfit | undefined;
  /** What keeps its packets from the wire that a link is on, although the kernel lets it stand there. */
  unfit(host: Netns, link: string): Unfit | undefined;
  /** The kernel's refusal of a link, in words that are this kind's alone. */
  refusal(error: KernelError): Unfit | undefined;
}

interface Unfit { detail: string; hint: string }

export interface StackedDriver extends Driver {
  /** Takes all of it off the host; returns what could not be removed. */
  purge(): Promise<unknown[]>;
  close(): void;
}

/** Those that there are. An interface is taken by the first of them that stands on it. */
const KINDS: readonly string[] = ['macvlan', 'ipvlan'] satisfies SharingLink['kind'][];

export function createStackedDriver<Options extends StackedOptions>(kind: StackedKind<Options>, options: StackedDriverOptions): StackedDriver {
  const { self, clock, log } = options;
  const { names } = kind;
  const host = openRtnl(options.host);
  const parents = createParents(host, () => self().name);
  const inSandbox = createSandboxLinks({ clock, onCarrier: options.onCarrier });
  /** This node's endpoints, as they are now. */
  const local = new Map<string, Endpoint>();
  /** Networks that cannot be mended, which is said once. */
  const stuck = new Set<string>();

  const settings = (network: Network): Options => kind.options(network, self().name);
  /** Of both kinds: a sub-interface may be either's. */
  const stacked = (): Network[] => options.networks().filter(({ driver }) => KINDS.includes(driver));
  const endpointsOn = (network: Network): Endpoint[] => [...local.values()].filter(({ networkId }) => networkId === network.id);

  function ensureParent(network: Network, found: Repair[]): Link {
    const { parent } = settings(network);
    return parent === undefined ? parents.ensureIsolated(names.isolatedParent(network.id), found) : parents.ensure(parent, found);
  }

  const mtuOf = (network: Network, parent: Link): number => Math.min(settings(network).mtu ?? parent.mtu, parent.mtu);

  const lacking = (cause?: KernelError): Error => weftError('WEFT-LINK-KIND', { node: self().name, kind: kind.name, ...kind.lacking }, { cause });

  function refuseUnfit(parent: string): void {
    const unfit = kind.unfit(options.host, parents.check(parent).name);
    if (unfit) throw weftError('WEFT-PARENT-UNFIT', { parent, ...unfit });
  }

  /** Throws WEFT-PARENT-UNFIT where it cannot be beside one of `others`. */
  function refuseSharing(network: Network, others: readonly Network[]): void {
    const own = settings(network);
    const { parent } = own;
    if (parent === undefined) return;
    for (const other of others.filter((each) => each.id !== network.id && parentOn(each, self().name) === parent)) {
      const name = nameOf(other);
      const unfit = other.driver === kind.name ? kind.conflict(own, settings(other), name) : otherKind(other.driver, `those of network ${name}`);
      if (unfit) throw weftError('WEFT-PARENT-UNFIT', { parent, ...unfit });
    }
  }

  async function ensureAccess(network: Network, found: Repair[]): Promise<void> {
    const name = names.hostAccess(network.id);
    const isThere = (): boolean => host.link(name) !== undefined;
    const isIdle = (): boolean => endpointsOn(network).length === 0 && !isThere();
    if (!settings(network).hostAccess || isIdle()) return;
    const own = isThere() ? await options.hostAddresses(network) : await freeOwnAddresses(network, ensureParent(network, found));
    // Endpoints came and went meanwhile, and the network with the last of them; and so may the parent have.
    if (isIdle()) return;
    const parent = ensureParent(network, found);
    ensureHostAccess(host, network, { name, link: kind.link(settings(network)), parent, own, endpoints: endpointsOn(network), mtu: mtuOf(network, parent) }, found);
  }

  /** Those that another machine has are given back for others. */
  async function freeOwnAddresses(network: Network, parent: Link, tries = OWN_ADDRESS_TRIES): Promise<string[]> {
    const own = await options.hostAddresses(network);
    try {
      await probeAll(network, parent, own);
      return own;
    } catch (error) {
      await options.releaseHostAddresses(network, own);
      if (tries === 1) throw error;
      return freeOwnAddresses(network, parent, tries - 1);
    }
  }

  /** No container fails for want of the host's way to it. */
  const tryAccess = async (network: Network): Promise<void> => {
    try {
      await ensureAccess(network, []);
    } catch (error) {
      log.warn({ network: network.name, detail: errorText(error) }, `the host does not reach its containers of ${article(kind.name)} network; tried again at the next repair`);
    }
  };

  async function probeAll(network: Network, parent: Link, ips: readonly string[]): Promise<void> {
    const own = settings(network);
    await Promise.all(ips.map((ip) => probe(host, parent, ip, { forMs: own.probeMs, isOnWire: !kind.isRouted(own), clock })));
  }

  function makeLink(network: Network, endpoint: Endpoint, parent: Link): void {
    const name = names.endpoint(endpoint.id);
    if (host.link(name)) return;
    // `weft.parent.NODE` may have brought them together on this node, where nobody has compared them.
    refuseSharing(network, stacked().filter((other) => endpointsOn(other).length > 0));
    try {
      host.addLink({ ...kind.link(settings(network)), name, parent: parent.index, mtu: mtuOf(network, parent), ...(kind.hasOwnMac && { mac: endpoint.mac }) });
    } catch (error) {
      throw error instanceof KernelError ? refusal(parent.name, error) : error;
    }
  }

  /** By what the kernel answers. */
  function refusal(parent: string, error: KernelError): Error {
    if (error.code === 'EOPNOTSUPP') return lacking(error);
    const unfit = error.code === 'EBUSY' ? taken(kind.name) : kind.refusal(error);
    return unfit ? weftError('WEFT-PARENT-UNFIT', { parent, ...unfit }, { cause: error }) : error;
  }

  async function deleteNetwork(network: Network): Promise<void> {
    await host.deleteLink(names.hostAccess(network.id));
    await host.deleteLink(names.isolatedParent(network.id));
    await parents.removeUnused(needed(stacked().filter(({ id }) => id !== network.id)), []);
  }

  const needed = (networks: readonly Network[]): Set<string> => new Set(networks.flatMap((network) => parentOn(network, self().name) ?? []));

  async function repairNetwork(network: Network, found: Repair[]): Promise<void> {
    if (endpointsOn(network).length > 0) ensureParent(network, found);
    await ensureAccess(network, found);
    for (const { id } of endpointsOn(network)) {
      // To look into a namespace takes a few hundred microseconds; endpoints come and go in between.
      await nextTurn();
      const endpoint = local.get(id);
      if (endpoint?.sandbox !== undefined) inSandbox.look(endpoint);
    }
  }

  return {
    name: kind.name,
    scope: 'cluster',
    validate: (network) => {
      const { parent, mtu } = settings(network);
      if (!host.hasLinkKind(kind.name)) throw lacking();
      if (parent === undefined) return;
      refuseUnfit(parent);
      const largest = host.link(parent)?.mtu;
      if (mtu !== undefined && largest !== undefined && mtu > largest) throw weftError('WEFT-MTU-TOO-LARGE', { mtu, underlay: largest, overhead: 0, largest });
      refuseSharing(network, stacked());
    },
    // On other nodes it comes with the first endpoint: not every node has to have the LAN.
    createNetwork: async (network) => {
      if (network.node === self().id) ensureParent(network, []);
    },
    deleteNetwork,

    ...(!kind.hasOwnMac && { sharedMac: (network: Network) => ensureParent(network, []).mac }),
    createEndpoint: async (network, endpoint) => {
      const { parent: name } = settings(network);
      // It may be another one on this node, where nobody has looked at it yet.
      if (name !== undefined) refuseUnfit(name);
      if (name !== undefined) await probeAll(network, ensureParent(network, []), addressesOf(endpoint));
      // A parent that was made again meanwhile has another index.
      makeLink(network, endpoint, ensureParent(network, []));
      local.set(endpoint.id, endpoint);
      await tryAccess(network);
    },
    deleteEndpoint: async (network, endpoint) => {
      local.delete(endpoint.id);
      const { errors } = await runAll([
        () => inSandbox.remove(endpoint.id),
        () => host.deleteLink(names.endpoint(endpoint.id)),
        () => tryAccess(network),
      ]);
      if (errors.length > 0) throw errors[0];
    },
    join: async (network, endpoint) => {
      const own = settings(network);
      // A crash may have come between the endpoint's record and its link.
      makeLink(network, endpoint, ensureParent(network, []));
      local.set(endpoint.id, endpoint);
      inSandbox.expect(endpoint);
      // Without a parent there is no way out, and no gateway.
      const internal = network.internal || own.parent === undefined;
      const answer = { ...joinAnswer({ ...network, internal }, endpoint), sourceName: names.endpoint(endpoint.id) };
      return kind.isRouted(own) ? routed(answer, endpoint, internal) : answer;
    },
    leave: async () => {},

    repair: async (networks, endpoints) => {
      const found: Repair[] = [];
      // Before anything else: networks and endpoints come and go while this waits for the kernel.
      for (const endpoint of endpoints) local.set(endpoint.id, endpoint);
      const known = [...networks.flatMap(({ id }) => [names.hostAccess(id), names.isolatedParent(id)]), ...endpoints.map(({ id }) => names.endpoint(id))];
      await removeStrangers(host, names.pattern, known, found);
      await parents.removeUnused(needed(stacked()), found);
      for (const network of networks) {
        // It may have gone meanwhile.
        if (!stacked().some(({ id }) => id === network.id)) continue;
        try {
          await repairNetwork(network, found);
          stuck.delete(network.id);
        } catch (error) {
          if (!stuck.has(network.id)) log.warn({ network: network.name, detail: errorText(error) }, `${article(kind.name)} network cannot be mended; tried again`);
          stuck.add(network.id);
        }
        await nextTurn();
      }
      return found;
    },

    purge: async () => {
      const { errors } = await runAll([
        () => deleteLinks(host, ({ name }) => names.pattern.test(name)),
        () => parents.removeUnused(new Set(), []),
      ]);
      return errors;
    },
    close: () => {
      inSandbox.close();
      host.close();
    },
  };
}

/** Packets to anywhere are given to the link as they are, for the host to route. */
const routed = ({ gateway: _gateway, gatewayIpv6: _gatewayIpv6, ...answer }: JoinAnswer, { address, addressIpv6 }: Endpoint, internal: boolean): JoinAnswer => ({
  ...answer,
  routes: [
    ...answer.routes,
    ...(internal || address === undefined ? [] : [{ destination: '0.0.0.0/0' }]),
    ...(internal || addressIpv6 === undefined ? [] : [{ destination: '::/0' }]),
  ],
});

const otherKind = (kind: string, whose: string): Unfit => ({
  detail: `an interface carries either macvlan or ipvlan links, and has ${kind} ones, ${whose}`, hint: `use weft-${kind} here as well, another parent, or a VLAN of it`,
});

/** Another has the parent's packets, and the kernel does not say who: a bridge, a bond, or what Docker's own drivers made for a container. */
function taken(kind: SharingLink['kind']): Unfit {
  const other = kind === 'macvlan' ? 'ipvlan' : 'macvlan';
  return {
    detail: `it is the port of a bridge, or of something else that takes all its packets, or ${other} links stand on it`,
    hint: `give the bridge itself as the parent, or use weft-${other} beside such links`,
  };
}

const article = (kind: SharingLink['kind']): string => (kind === 'ipvlan' ? 'an ipvlan' : 'a macvlan');
