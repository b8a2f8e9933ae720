/** Whole clusters on a simulated network and clock. */
import { silentLogger as log } from '../base/log.ts';
import { seededRandom, type Random } from '../base/random.ts';
import { VirtualClock } from '../base/virtual-clock.ts';
import { createGossip, type Gossip, type GossipOptions } from './gossip.ts';
import { Keyring } from './keyring.ts';
import { MemoryNetwork } from './memory-transport.ts';
import type { Address } from './messages.ts';
import { pausable, type Pausable } from './pausable-for-tests.ts';

export const KEY = Buffer.alloc(32, 7);
export const addressOf = (i: number): Address => ({ host: `10.0.${i >> 8}.${i & 255}`, port: 7947 });

/** Node i is called n and i. */
export class World {
  readonly clock = new VirtualClock();
  readonly random: Random;
  readonly network: MemoryNetwork;
  readonly nodes = new Map<number, Gossip>();
  readonly pauses = new Map<number, Pausable>();
  readonly #options: Partial<GossipOptions>;

  /** With these options each node starts; with KEY where they name no keyring. */
  constructor(seed: number, options: Partial<GossipOptions> = {}) {
    this.random = seededRandom(seed);
    this.network = new MemoryNetwork(this.clock, this.random);
    this.#options = { keyring: new Keyring(KEY), ...options };
  }

  /** It looks for these seeds and for failed members for ever; for none of them with null. */
  start(i: number, { seeds = [0], ...options }: { seeds?: readonly number[] | null } & Partial<GossipOptions> = {}): Gossip {
    const pause = pausable(this.clock, this.network.transport(addressOf(i)));
    this.pauses.set(i, pause);
    const node = createGossip({ name: `n${i}`, transport: pause.transport, clock: pause.clock, random: this.random, log, ...this.#options, ...options });
    if (seeds) node.seekSeeds(async () => seeds.map(addressOf));
    this.nodes.set(i, node);
    return node;
  }

  async crash(i: number): Promise<void> {
    await this.nodes.get(i)!.shutdown();
    this.nodes.delete(i);
  }

  async stop(): Promise<void> {
    for (const i of [...this.nodes.keys()]) await this.crash(i);
  }

  /** Every running node sees exactly the running ones as alive. */
  get agreed(): boolean {
    const expected = [...this.nodes.keys()].map((i) => `n${i}`).sort().join();
    return [...this.nodes.values()].every((node) => node.members().filter(({ state }) => state === 'alive').map(({ name }) => name).sort().join() === expected);
  }

  /** How often a node said of another, from now on, what `type` says. */
  count(type: 'suspect' | 'leave'): { readonly value: number } {
    const counter = { value: 0 };
    for (const node of this.nodes.values()) node.watch((event) => void (event.type === type && counter.value++));
    return counter;
  }
}
