/** Clusters on a simulated network and clock, with disks that outlive their nodes. */
import { silentLogger as log } from '../base/log.ts';
import { seededRandom, type Random } from '../base/random.ts';
import { VirtualClock } from '../base/virtual-clock.ts';
import { MemoryNetwork } from '../gossip/memory-transport.ts';
import { pausable, type Pausable } from '../gossip/pausable-for-tests.ts';
import { addressOf } from '../gossip/world-for-tests.ts';
import type { LocalStore } from '../store/store.ts';
import { startCluster, type Cluster, type ClusterOptions } from './cluster.ts';
import type { EndpointRecord } from './state.ts';

const KEY = Buffer.alloc(32, 7);
export const endpoint = (id: string, ip = '10.1.0.2', networkId = 'net'): EndpointRecord => ({ networkId, endpointId: id, ip, mac: '02:42:0a:01:00:02' });

export function memoryStore(): LocalStore {
  const entries = new Map<string, string>();
  return {
    get: (key) => entries.get(key),
    list: (prefix) => [...entries].filter(([key]) => key.startsWith(prefix)).sort().map(([key, value]) => ({ key, value })),
    put: (key, value) => void entries.set(key, value), delete: (key) => void entries.delete(key), transaction: (body) => body(), close: () => {},
  };
}

export class World {
  readonly clock = new VirtualClock();
  readonly random: Random;
  readonly network: MemoryNetwork;
  readonly running = new Map<number, Cluster>();
  readonly disks = new Map<number, LocalStore>();
  readonly pauses = new Map<number, Pausable>();

  constructor(seed = 1) {
    this.random = seededRandom(seed);
    this.network = new MemoryNetwork(this.clock, this.random);
  }

  start(i: number, seeds = [1, 2, 3], more: Partial<ClusterOptions> = {}): Cluster {
    const { random } = this;
    const pause = pausable(this.clock, this.network.transport(addressOf(i)));
    this.pauses.set(i, pause);
    const { clock, transport } = pause;
    const local = this.disks.get(i) ?? memoryStore();
    this.disks.set(i, local);
    const cluster = startCluster({ node: { id: `id${i}`, name: `host${i}` }, transport, keys: [KEY], seeds: async () => seeds.map(addressOf), clock, random, log, local, ...more });
    this.running.set(i, cluster);
    return cluster;
  }

  /** Three that know each other; nothing published yet. */
  async startThree(): Promise<[Cluster, Cluster, Cluster]> {
    const three = [this.start(1), this.start(2), this.start(3)] as const;
    for (const { state } of three) state.ready();
    await this.clock.advance(5_000);
    return [...three];
  }

  async crash(i: number): Promise<void> {
    await this.running.get(i)!.close();
    this.running.delete(i);
  }

  async stop(): Promise<void> {
    for (const i of [...this.running.keys()]) await this.crash(i);
  }

  /** 'owner/key=ip' of every endpoint that node i sees. */
  sees(i: number): string[] {
    return this.running.get(i)!.state.list('endpoint').map(({ owner, key, value }) => `${owner}/${key}=${value.ip}`).sort();
  }
}
