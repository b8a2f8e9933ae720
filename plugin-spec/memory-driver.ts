/**
 * The smallest drivers that keep Docker's rules: all state in memory, links made by whoever is asked to. For the tests
 * of this folder and for recording conversations.
 */
import { formatIp4, parseIp4, parsePrefix4, withoutLength } from '../base/ip.ts';
import type { IpamDriverHandlers, NetworkDriverHandlers } from './types.ts';

export interface MemoryDriverOptions {
  gwAllocChecker?: boolean;
  /** Makes the link that Docker moves into the sandbox. */
  makeLink?(name: string): Promise<void>;
  removeLink?(name: string): Promise<void>;
}

const linkName = (endpointId: string): string => `p${endpointId.slice(0, 12)}`;

export function memoryNetworkDriver({ gwAllocChecker = false, makeLink, removeLink }: MemoryDriverOptions = {}): NetworkDriverHandlers {
  const networks = new Map<string, string | undefined>();
  const endpoints = new Set<string>();
  return {
    capabilities: () => ({ scope: 'local', connectivityScope: 'local', gwAllocChecker }),
    gwAllocCheck: async () => ({ skipIpv4: false, skipIpv6: false }),
    allocateNetwork: async ({ options }) => ({ options }),
    createNetwork: async ({ networkId, ipv4, internal }) => {
      const address = ipv4[0]?.gateway;
      networks.set(networkId, internal || address === undefined ? undefined : withoutLength(address));
    },
    deleteNetwork: async ({ networkId }) => void networks.delete(networkId),
    createEndpoint: async ({ networkId, endpointId, address }) => {
      if (!networks.has(networkId)) throw new Error(`no network ${networkId}`);
      endpoints.add(endpointId);
      const bytes = (parseIp4(withoutLength(address ?? '')) ?? 1).toString(16).padStart(8, '0').match(/../g)!;
      return { macAddress: ['02', '42', ...bytes].join(':') };
    },
    deleteEndpoint: async ({ endpointId }) => {
      if (endpoints.delete(endpointId)) await removeLink?.(linkName(endpointId));
    },
    endpointOperInfo: async () => ({}),
    join: async ({ networkId, endpointId }) => {
      if (!endpoints.has(endpointId)) throw new Error(`no endpoint ${endpointId}`);
      await makeLink?.(linkName(endpointId));
      const gateway = networks.get(networkId);
      return { interfaceName: { srcName: linkName(endpointId), dstPrefix: 'eth' }, ...(gateway !== undefined && { gateway }) };
    },
    leave: async () => {},
    programExternalConnectivity: async () => {},
    revokeExternalConnectivity: async () => {},
  };
}

/** Pools out of 10.210.0.0/16, addresses upwards; IPv4 only. Without `ranges` a pool is handed out from its beginning, as when the fixtures were recorded. */
export function memoryIpamDriver({ ranges = false } = {}): IpamDriverHandlers {
  const pools = new Map<string, Set<string>>();
  const pool = (id: string): Set<string> => {
    const found = pools.get(id);
    if (!found) throw new Error(`no pool ${id}`);
    return found;
  };
  return {
    capabilities: () => ({ requiresMacAddress: false, requiresRequestReplay: false }),
    defaultAddressSpaces: () => ({ local: 'memory', global: 'memory' }),
    requestPool: async ({ pool: wanted, subPool }) => {
      const free = Array.from({ length: 256 }, (_, i) => `10.210.${i}.0/24`).find((each) => !pools.has(each));
      const subnet = wanted || free;
      if (subnet === undefined || !parsePrefix4(subnet)) throw new Error(`no pool ${subnet ?? 'is free'}`);
      const poolId = subPool === '' || !ranges ? subnet : `${subnet}|${subPool}`;
      if (!pools.has(poolId)) pools.set(poolId, new Set());
      return { poolId, pool: subnet };
    },
    releasePool: async ({ poolId }) => void pools.delete(poolId),
    requestAddress: async ({ poolId, address }) => {
      const taken = pool(poolId);
      const [subnet, range] = poolId.split('|').map((text) => parsePrefix4(text)!);
      let next = range ? range.base : subnet!.base + 1;
      while (taken.has(formatIp4(next))) next++;
      const chosen = address || formatIp4(next);
      if (taken.has(chosen)) throw new Error(`${chosen} is taken`);
      taken.add(chosen);
      return { address: `${chosen}/${subnet!.length}` };
    },
    releaseAddress: async ({ poolId, address }) => void pools.get(poolId)?.delete(address),
  };
}
