/** Nodes that share a store, with trouble between them and it, and on them. */
import { join } from 'node:path';
import { setImmediate as immediate, setTimeout as delay } from 'node:timers/promises';
import type { Clock } from '../base/clock.ts';
import { weftError } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';
import { silentLogger } from '../base/log.ts';
import { seededRandom } from '../base/random.ts';
import { VirtualClock } from '../base/virtual-clock.ts';
import { openLocalStore } from '../store/local.ts';
import type { LocalStore, Store } from '../store/store.ts';
import { type AddressManagerOptions, createAddressManager, type StartedAddressManager } from './manager.ts';

/**
 * What is between a node and the store. answers-lost: what it sends arrives, nothing comes back. late: so do its
 * transactions, up to LATE_MS after they were given up. frozen: the node stands still (SIGSTOP) and goes on as if nothing
 * had been.
 */
export type Link = 'up' | 'down' | 'answers-lost' | 'late' | 'frozen';

export interface SceneNode {
  readonly id: string;
  ipam: StartedAddressManager;
  local: LocalStore;
  link: Link;
  /** How wrong its wall clock is, in ms. */
  wallOffset: number;
  warnings: string[];
  /** kill -9, and nothing after it. */
  stop(): void;
  /** kill -9, and a new manager on the same disk. What was under way never ends. */
  restart(): Promise<void>;
  /** Of a stopped one: its disk is empty, and it is another node from then on. */
  purge(): void;
}

export interface Scene { clock: VirtualClock; nodes: SceneNode[]; close(): void }

const LATE_MS = 20_000;
const forever = new Promise<never>(() => {});

export interface SceneOptions extends Partial<Omit<AddressManagerOptions, 'clock'>> { count?: number; clock?: VirtualClock; /** The store in use, where that changes. */ current?: () => Store }

export async function scene(folder: string, store: Store, { count = 3, clock = new VirtualClock(), current = () => store, ...options }: SceneOptions = {}): Promise<Scene> {
  const nodes = await Promise.all(Array.from({ length: count }, (_, i) => start(i)));

  async function start(i: number): Promise<SceneNode> {
    let id = `node${i}`;
    const local = openLocalStore(join(folder, `${id}.db`));
    const warnings: string[] = [];
    const log: Logger = { ...silentLogger, warn: (_fields, message) => void warnings.push(message ?? '') };
    let link: Link = 'up';
    let incarnation = 0;
    let onLink: (() => void)[] = [];
    const watches = new Set<() => void>();
    let lateness = 0;

    const unreachable = (): Error => weftError('WEFT-STORE-UNREACHABLE', { store: 'test', detail: 'cut off' });
    const thawed = async (): Promise<void> => {
      while (link === 'frozen') await new Promise<void>((resolve) => { onLink.push(resolve); });
    };

    /** The store, as a node in one of its lives sees it. */
    function linked(life: number): Store {
      const through = async <T>(call: (at: Store) => Promise<T>, isTxn = false): Promise<T> => {
        await thawed();
        if (life !== incarnation) return forever;
        const at = current();
        const ask = (): Promise<T> => call(at);
        if (link === 'down') throw unreachable();
        if (link === 'late' && isTxn) {
          lateness = (lateness * 7 + 1_009) % LATE_MS;
          // Nobody hears how it ends.
          clock.setTimeout(() => void ask().catch(() => {}), lateness);
          throw unreachable();
        }
        const answer = await ask();
        await thawed();
        if (life !== incarnation) return forever;
        if (link === 'answers-lost') throw unreachable();
        return answer;
      };
      return {
        ...store,
        get: (key) => through((at) => at.get(key)),
        range: (prefix) => through((at) => at.range(prefix)),
        txn: (compares, writes) => through((at) => at.txn(compares, writes), true),
        lease: (ttl) => through((at) => at.lease(ttl)),
        // Says nothing while it is cut off, and starts with a new snapshot when it is not.
        watch: (prefix, onEvent) => {
          let stop = (): void => {};
          const follow = (): void => {
            stop();
            stop = link === 'up' || link === 'late' ? current().watch(prefix, onEvent) : () => {};
          };
          watches.add(follow);
          follow();
          return () => {
            watches.delete(follow);
            stop();
          };
        },
      };
    }

    /** The dead write nothing. */
    function living(life: number): LocalStore {
      const alive = <Args extends unknown[], T>(call: (...args: Args) => T) => (...args: Args): T => {
        if (life !== incarnation) throw new Error('killed');
        return call(...args);
      };
      return { ...local, put: alive(local.put), delete: alive(local.delete), transaction: (body) => alive(local.transaction<ReturnType<typeof body>>)(body) };
    }

    const nodeClock: Clock = {
      now: () => clock.now(), wallNow: () => clock.wallNow() + node.wallOffset,
      setTimeout: (callback, ms) => clock.setTimeout(callback, ms), clearTimeout: (handle) => clock.clearTimeout(handle),
    };
    const make = (): StartedAddressManager => createAddressManager({
      store: linked(incarnation), local: living(incarnation), node: { id, name: `host-${i}` }, clock: nodeClock, log, random: seededRandom(1_000 * i + incarnation), occupied: () => [], ...options,
    });
    const node: SceneNode = {
      get id() { return id; },
      local, warnings, wallOffset: 0,
      ipam: undefined as unknown as StartedAddressManager,
      get link() { return link; },
      set link(next) {
        if (next === link) return;
        link = next;
        for (const follow of watches) follow();
        const waiting = onLink;
        onLink = [];
        for (const wake of waiting) wake();
      },
      stop: () => {
        incarnation++;
        node.ipam.close();
      },
      purge: () => {
        local.transaction(() => local.list('').forEach(({ key }) => local.delete(key)));
        id = `node${i}.${incarnation}`;
      },
      restart: async () => {
        node.stop();
        node.ipam = make();
        await node.ipam.start();
      },
    };
    node.ipam = make();
    await node.ipam.start();
    return node;
  }

  return {
    clock, nodes,
    close: () => {
      for (const { ipam, local } of nodes) {
        ipam.close();
        local.close();
      }
    },
  };
}

/** Waits for what may wait for the clock; `realMs`: what a real store takes to answer. */
export async function letRun(clock: VirtualClock, work: Promise<unknown>, realMs?: number): Promise<void> {
  const done = work.then(() => true);
  const pause = (): Promise<boolean> => (realMs === undefined ? immediate(false) : delay(realMs, false));
  while (!await Promise.race([done, pause()])) await clock.advance(100);
}
