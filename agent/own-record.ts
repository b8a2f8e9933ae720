/** This node, as the others see it: the record that it publishes of itself. */
import { withoutLength } from '../base/ip.ts';
import type { NodeInfo, SoftState } from '../cluster/state.ts';
import type { Occupied } from '../ipam/subnets.ts';
import type { Rtnl } from '../linux/types.ts';
import type { Config } from './config.ts';
import type { DockerNetwork } from './docker/client.ts';
import type { NetworkRegistry } from './networks.ts';
import { occupiedPrefixes } from './occupied.ts';

const INTERVAL_MS = 15_000;
/** Ethernet's, where the underlay's device cannot be asked. */
const DEFAULT_MTU = 1500;

export interface OwnRecord {
  /** As it was published last. */
  info(): NodeInfo;
  publish(change: Partial<NodeInfo>): void;
  /** The prefixes that this host uses, read now. */
  occupied(): Occupied[];
  publishOccupied(): void;
  /** Docker's networks of other drivers, as they were told last. */
  foreignNetworks(): readonly DockerNetwork[];
  tellForeignNetworks(networks: DockerNetwork[]): void;
  /** Looks from time to time at what the kernel tells nobody, until it is stopped. `onMtu`: the underlay's interface has another one. */
  follow(onMtu: () => void): () => void;
}

export interface OwnRecordOptions {
  node: { id: string; name: string; number: number };
  config: Pick<Config, 'advertise' | 'nodePrefix'>;
  rtnl: Rtnl;
  registry: Pick<NetworkRegistry, 'list'>;
  state: Pick<SoftState, 'publish'>;
}

export function createOwnRecord({ node, config, rtnl, registry, state }: OwnRecordOptions): OwnRecord {
  let foreign: DockerNetwork[] = [];
  const occupied = (): Occupied[] => occupiedPrefixes(rtnl, { nodePrefix: config.nodePrefix, docker: foreign, own: registry.list() });
  /** The underlay's. */
  let device: number | undefined;
  const underlayMtu = (): number => {
    device = rtnl.addresses().find((address) => withoutLength(address.address) === config.advertise)?.index;
    return (device === undefined ? undefined : rtnl.link(device)?.mtu) ?? DEFAULT_MTU;
  };
  let info: NodeInfo = { ...node, vtep: config.advertise, underlayMtu: underlayMtu(), occupied: occupied(), skippedPorts: [] };
  const publish = (change: Partial<NodeInfo>): void => {
    info = { ...info, ...change };
    state.publish('node', 'self', info);
  };
  const publishOccupied = (): void => publish({ occupied: occupied() });

  return {
    info: () => info,
    publish,
    occupied,
    publishOccupied,
    foreignNetworks: () => foreign,
    tellForeignNetworks: (networks) => {
      foreign = networks;
      publishOccupied();
    },
    follow: (onMtu) => {
      const look = (): void => {
        const before = info.underlayMtu;
        publish({ occupied: occupied(), underlayMtu: underlayMtu() });
        if (info.underlayMtu !== before) onMtu();
      };
      const timer = setInterval(look, INTERVAL_MS).unref();
      const stop = rtnl.watch((event) => {
        if (event.type === 'link' && !event.gone && event.link.index === device && event.link.mtu !== info.underlayMtu) look();
      });
      return () => {
        clearInterval(timer);
        stop();
      };
    },
  };
}
