/**
 * The macvlan driver: containers as machines of the LAN, each with a MAC of its own on an interface of the host. A network
 * with a parent is the cluster's, on all nodes that have the LAN; one without is of one node, and reaches nobody outside.
 */
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { Clock } from '../../base/clock.ts';
import { errorText, weftError } from '../../base/errors.ts';
import type { Logger } from '../../base/log.ts';
import { runAll } from '../../base/undo.ts';
import type { Driver, Repair } from '../../cnm/driver.ts';
import type { Endpoint, Network } from '../../cnm/model.ts';
import { openRtnl } from '../../linux/rtnl.ts';
import { KernelError, type Link, type Netns } from '../../linux/types.ts';
import { deleteLinks, removeStrangers } from '../ensure.ts';
import { hostAccessLink, isolatedParent, macvlanLink } from '../names.ts';
import { joinAnswer } from '../veth.ts';
import { probe } from './conflicts.ts';
import { ensureHostAccess } from './host-access.ts';
import { macvlanOptions, parentOn } from './options.ts';
import { createParents } from './parent.ts';
import { addressesOf, createSandboxLinks } from './sandbox-links.ts';

const OURS = /^(wm|wmh|wmp)-/;
const OWN_ADDRESS_TRIES = 4;

export interface MacvlanOptions {
  host: Netns;
  self(): { id: string; name: string };
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

export interface MacvlanDriver extends Driver {
  /** Takes all of it off the host; returns what could not be removed. */
  purge(): Promise<unknown[]>;
  close(): void;
}

export function createMacvlanDriver(options: MacvlanOptions): MacvlanDriver {
  const { self, clock, log } = options;
  const host = openRtnl(options.host);
  const parents = createParents(host, () => self().name);
  const inSandbox = createSandboxLinks({ clock, onCarrier: options.onCarrier });
  /** This node's endpoints, as they are now. */
  const local = new Map<string, Endpoint>();
  /** Networks that cannot be mended, which is said once. */
  const stuck = new Set<string>();

  const settings = (network: Network) => macvlanOptions(network, self().name);
  const macvlans = (): Network[] => options.networks().filter(({ driver }) => driver === 'macvlan');
  const endpointsOn = (network: Network): Endpoint[] => [...local.values()].filter(({ networkId }) => networkId === network.id);

  function ensureParent(network: Network, found: Repair[]): Link {
    const { parent } = settings(network);
    return parent === undefined ? parents.ensureIsolated(isolatedParent(network.id), found) : parents.ensure(parent, found);
  }

  const mtuOf = (network: Network, parent: Link): number => Math.min(settings(network).mtu ?? parent.mtu, parent.mtu);

  /** A second network could not have what passthru takes for itself. */
  function refuseSharing(network: Network): void {
    const { parent, mode } = settings(network);
    const other = macvlans().find((each) => each.id !== network.id && parentOn(each, self().name) === parent && [mode, settings(each).mode].includes('passthru'));
    if (parent !== undefined && other) throw notAlone(parent, `network ${other.name || other.id.slice(0, 12)} stands on it`);
  }

  async function ensureAccess(network: Network, found: Repair[]): Promise<void> {
    const isThere = (): boolean => host.link(hostAccessLink(network.id)) !== undefined;
    const isIdle = (): boolean => endpointsOn(network).length === 0 && !isThere();
    if (!settings(network).hostAccess || isIdle()) return;
    const parent = ensureParent(network, found);
    const own = isThere() ? await options.hostAddresses(network) : await freeOwnAddresses(network, parent);
    // Endpoints came and went meanwhile, and the network with the last of them.
    if (isIdle()) return;
    ensureHostAccess(host, network, { parent, own, endpoints: endpointsOn(network), mtu: mtuOf(network, parent) }, found);
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

  /** No container waits for the host's way to it, nor fails for want of it. */
  const tryAccess = async (network: Network): Promise<void> => {
    try {
      await ensureAccess(network, []);
    } catch (error) {
      log.warn({ network: network.name, detail: errorText(error) }, 'the host does not reach its containers of a macvlan network; tried again at the next repair');
    }
  };

  const probeAll = (network: Network, parent: Link, ips: readonly string[]): Promise<unknown> =>
    Promise.all(ips.map((ip) => probe(host, parent, ip, { forMs: settings(network).probeMs, clock })));

  function makeLink(network: Network, endpoint: Endpoint, parent: Link): void {
    const name = macvlanLink(endpoint.id);
    if (host.link(name)) return;
    const { mode } = settings(network);
    try {
      host.addLink({ kind: 'macvlan', name, parent: parent.index, mode, mac: endpoint.mac, mtu: mtuOf(network, parent) });
    } catch (error) {
      throw error instanceof KernelError ? refusal(parent.name, error) : error;
    }
  }

  async function deleteNetwork(network: Network): Promise<void> {
    await host.deleteLink(hostAccessLink(network.id));
    await host.deleteLink(isolatedParent(network.id));
    await parents.removeUnused(needed(macvlans().filter(({ id }) => id !== network.id)), []);
  }

  const needed = (networks: readonly Network[]): Set<string> => new Set(networks.flatMap((network) => parentOn(network, self().name) ?? []));

  async function repairNetwork(network: Network, found: Repair[]): Promise<void> {
    if (endpointsOn(network).length > 0) ensureParent(network, found);
    await ensureAccess(network, found);
    for (const endpoint of endpointsOn(network)) if (endpoint.sandbox !== undefined) inSandbox.look(endpoint);
  }

  return {
    name: 'macvlan',
    scope: 'cluster',
    validate: (network) => {
      const { parent, mtu } = settings(network);
      if (parent === undefined) return;
      parents.check(parent);
      const largest = host.link(parent)?.mtu;
      if (mtu !== undefined && largest !== undefined && mtu > largest) throw weftError('WEFT-MTU-TOO-LARGE', { mtu, underlay: largest, overhead: 0, largest });
      refuseSharing(network);
    },
    // On other nodes it comes with the first endpoint: not every node has to have the LAN.
    createNetwork: async (network) => {
      if (network.node === self().id) ensureParent(network, []);
    },
    deleteNetwork,

    createEndpoint: async (network, endpoint) => {
      const parent = ensureParent(network, []);
      if (settings(network).parent !== undefined) await probeAll(network, parent, addressesOf(endpoint));
      makeLink(network, endpoint, parent);
      local.set(endpoint.id, endpoint);
      await tryAccess(network);
    },
    deleteEndpoint: async (network, endpoint) => {
      local.delete(endpoint.id);
      const { errors } = await runAll([
        () => inSandbox.remove(endpoint.id),
        () => host.deleteLink(macvlanLink(endpoint.id)),
        () => tryAccess(network),
      ]);
      if (errors.length > 0) throw errors[0];
    },
    join: async (network, endpoint) => {
      // A crash may have come between the endpoint's record and its link.
      makeLink(network, endpoint, ensureParent(network, []));
      local.set(endpoint.id, endpoint);
      inSandbox.expect(endpoint);
      // Without a parent there is no way out, and no gateway.
      const internal = network.internal || settings(network).parent === undefined;
      return { ...joinAnswer({ ...network, internal }, endpoint), sourceName: macvlanLink(endpoint.id) };
    },
    leave: async () => {},

    repair: async (networks, endpoints) => {
      const found: Repair[] = [];
      // Before anything else: networks and endpoints come and go while this waits for the kernel.
      for (const endpoint of endpoints) local.set(endpoint.id, endpoint);
      await removeStrangers(host, OURS, [...networks.flatMap(({ id }) => [hostAccessLink(id), isolatedParent(id)]), ...endpoints.map(({ id }) => macvlanLink(id))], found);
      await parents.removeUnused(needed(macvlans()), found);
      for (const network of networks) {
        // It may have gone meanwhile.
        if (!macvlans().some(({ id }) => id === network.id)) continue;
        try {
          await repairNetwork(network, found);
          stuck.delete(network.id);
        } catch (error) {
          if (!stuck.has(network.id)) log.warn({ network: network.name, detail: errorText(error) }, 'a macvlan network cannot be mended; tried again');
          stuck.add(network.id);
        }
        await nextTurn();
      }
      return found;
    },

    purge: async () => {
      const { errors } = await runAll([
        () => deleteLinks(host, ({ name }) => OURS.test(name)),
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

const notAlone = (parent: string, detail: string, cause?: unknown): Error => weftError('WEFT-PARENT-UNFIT', {
  parent, detail: `in the mode passthru a container has it to itself, and ${detail}`, hint: 'use another parent, or the mode bridge for all of them',
}, { cause });

/** By what the kernel's macvlan driver answers. */
function refusal(parent: string, error: KernelError): Error {
  if (error.code === 'EINVAL') return notAlone(parent, 'somebody stands on it already', error);
  if (error.code === 'EBUSY') return weftError('WEFT-PARENT-UNFIT', { parent, detail: 'it is the port of a bridge, or of something else that takes all its packets', hint: 'give the bridge itself as the parent' }, { cause: error });
  if (error.code === 'EOPNOTSUPP') return weftError('WEFT-PARENT-UNFIT', { parent, detail: 'the kernel of this host has no macvlan', hint: 'load the module (`modprobe macvlan`), or use weft-overlay' }, { cause: error });
  return error;
}
