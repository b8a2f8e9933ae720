/** The drivers of this host, and the fabric that the overlay's networks are in. */
import type { Clock } from '../base/clock.ts';
import { errorText } from '../base/errors.ts';
import { parsePrefix4, withoutLength } from '../base/ip.ts';
import type { Logger } from '../base/log.ts';
import type { Random } from '../base/random.ts';
import { contains, parsePrefix } from '../base/prefix.ts';
import { identityDirectory } from '../cluster/identity/files.ts';
import type { NodeInfo, SoftState } from '../cluster/state.ts';
import { createBridgeDriver, type BridgeDriver } from '../drivers/bridge/bridge.ts';
import type { Journal } from '../drivers/host-sysctls.ts';
import { createIpvlanDriver } from '../drivers/ipvlan/ipvlan.ts';
import { createMacvlanDriver } from '../drivers/macvlan/macvlan.ts';
import { openFabric, type Fabric } from '../drivers/overlay/fabric.ts';
import { createOverlayDriver, type OverlayDriver } from '../drivers/overlay/overlay.ts';
import type { PathMemory } from '../drivers/overlay/path-probes.ts';
import type { StackedDriver, StackedDriverOptions } from '../drivers/stacked/stacked.ts';
import { HOST_HOLDER, type AddressManager } from '../ipam/ipam.ts';
import { hostNetns } from '../linux/netns.ts';
import type { LocalStore } from '../store/store.ts';
import type { Config } from './config.ts';
import type { NetworkRegistry } from './networks.ts';
import { knownBridgePorts } from './published-ports.ts';
import { wireguardKeys } from './wireguard-keys.ts';

export const FABRIC_PATH = '/run/netns/weft';
export const BRIDGES_PATH = '/run/netns/weft-bridge';

export interface DriversOptions {
  config: Pick<Config, 'dataDir' | 'fastPath' | 'nodePrefix' | 'vxlanPort' | 'wireguardPort'>;
  self(): NodeInfo;
  /** Tells the others of this node. */
  publish(change: Partial<NodeInfo>): void;
  state: SoftState;
  /** Whether the cluster lists a node. */
  belongs(node: string): boolean;
  registry: NetworkRegistry;
  addresses: AddressManager;
  local: LocalStore;
  /** Of an endpoint whose link only its driver sees: a macvlan's or an ipvlan's is in the container. */
  onCarrier(endpointId: string, up: boolean): void;
  /** Links of overlays have to get another MTU. */
  onMtu(): void;
  clock: Clock;
  random: Random;
  log: Logger;
}

const SYSCTLS = 'sysctl/';

/** What sysctls were before Weft changed them. */
export const journalIn = (local: LocalStore): Journal => (name, before) => {
  const known = local.get(SYSCTLS + name);
  if (known === undefined) local.put(SYSCTLS + name, before);
  return known ?? before;
};

/** All that were changed. */
export const journalled = (local: LocalStore): { name: string; before: string }[] =>
  local.list(SYSCTLS).map(({ key, value }) => ({ name: key.slice(SYSCTLS.length), before: value }));

const PATHS = 'path-mtus';

const pathsIn = (local: LocalStore): PathMemory => ({
  load: () => new Map(JSON.parse(local.get(PATHS) ?? '[]') as [number, number][]),
  save: (found) => {
    try {
      local.put(PATHS, JSON.stringify([...found]), { flush: false });
    } catch {
      // `weft status` says that nothing can be written; without it, it is found again after the next start.
    }
  },
});

export interface Drivers {
  fabric: Fabric;
  overlay: OverlayDriver;
  bridge: BridgeDriver;
  macvlan: StackedDriver;
  ipvlan: StackedDriver;
  /** This node's pair of WireGuard keys, where it has one, is changed for another unless that was done for this word. */
  renewPair(word: string): void;
}

export function openDrivers({ config, self, publish, state, belongs, registry, addresses, local, onCarrier, onMtu, clock, random, log }: DriversOptions): Drivers {
  const networks = () => registry.list();
  const journal = journalIn(local);
  const keys = wireguardKeys(identityDirectory(config.dataDir), clock, log.child({ part: 'overlay' }));
  const fabric = openFabric({
    host: hostNetns, path: FABRIC_PATH, nodePrefix: config.nodePrefix, journal,
    wireguard: { port: config.wireguardPort, keys: keys.current, announce: (wireguard) => publish({ wireguard }), clock },
  });
  const overlay = createOverlayDriver({ fabric, state, self, networks, belongs, vxlanPort: config.vxlanPort, fastPath: config.fastPath, tellPathMtu: (pathMtu) => publish({ pathMtu }), onMtu, pathMemory: pathsIn(local), random, clock, log: log.child({ part: 'overlay' }) });
  const bridge = createBridgeDriver({ host: hostNetns, path: BRIDGES_PATH, networks, journal, published: knownBridgePorts(local), log: log.child({ part: 'bridge' }) });
  const onLan = (part: string): StackedDriverOptions => ({
    host: hostNetns, self, networks, onCarrier, clock, log: log.child({ part }),
    hostAddresses: async (network) => Promise.all(network.subnets.filter(({ subnet }) => parsePrefix4(subnet)).map(async ({ subnet, range }) =>
      withoutLength(await addresses.requestAddress({ subnet, holder: HOST_HOLDER, chooser: 'weft', network: network.name, ...(range !== undefined && { range }) })))),
    releaseHostAddresses: async (network, own) => {
      for (const address of own) {
        const pool = network.subnets.find(({ subnet }) => contains(parsePrefix(subnet)!, address));
        if (pool) await addresses.releaseAddress(pool.subnet, address);
      }
    },
  });
  return {
    fabric, overlay, bridge, macvlan: createMacvlanDriver(onLan('macvlan')), ipvlan: createIpvlanDriver(onLan('ipvlan')),
    // What fails is tried again by the next repair.
    renewPair: (word) => void (keys.renew(word) && overlay.ensureFabric().catch((error: unknown) => log.warn({ detail: errorText(error) }, 'the pair of WireGuard keys could not be changed yet'))),
  };
}
