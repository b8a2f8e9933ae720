/** Nodes that share a store, which can be cut off, and lose answers. */
import { join } from 'node:path';
import { setImmediate as immediate, setTimeout as delay } from 'node:timers/promises';
import { weftError } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';
import { silentLogger } from '../base/log.ts';
import { VirtualClock } from '../base/virtual-clock.ts';
import { openLocalStore } from '../store/local.ts';
import type { LocalStore, Store } from '../store/store.ts';
import { type AddressManagerOptions, createAddressManager, type StartedAddressManager } from './manager.ts';

export interface SceneNode {
  id: string;
  ipam: StartedAddressManager;
  local: LocalStore;
  /** What is between it and the store. */
  link: 'up' | 'down' | 'answers-lost';
  warnings: string[];
  /** As after kill -9: a new manager on the same disk. */
  restart(): Promise<void>;
}

export interface Scene { clock: VirtualClock; nodes: SceneNode[]; close(): void }

export async function scene(
  folder: string, store: Store, { count = 3, clock = new VirtualClock(), ...options }: { count?: number; clock?: VirtualClock } & Partial<AddressManagerOptions> = {},
): Promise<Scene> {
  const nodes = await Promise.all(Array.from({ length: count }, async (_, i) => {
    const id = `node${i}`;
    const local = openLocalStore(join(folder, `${id}.db`));
    const warnings: string[] = [];
    const log: Logger = { ...silentLogger, warn: (_fields, message) => void warnings.push(message ?? '') };
    const unreachable = (): Error => weftError('WEFT-STORE-UNREACHABLE', { store: 'test', detail: 'cut off' });
    const through = async <T>(ask: () => Promise<T>): Promise<T> => {
      if (link === 'down') throw unreachable();
      const answer = await ask();
      if (link === 'answers-lost') throw unreachable();
      return answer;
    };
    const watches = new Set<() => void>();
    const linked: Store = {
      ...store,
      get: (key) => through(() => store.get(key)),
      range: (prefix) => through(() => store.range(prefix)),
      txn: (compares, writes) => through(() => store.txn(compares, writes)),
      lease: (ttl) => through(() => store.lease(ttl)),
      // Says nothing while it is cut off, and starts with a new snapshot when it is not.
      watch: (prefix, onEvent) => {
        let stop = (): void => {};
        const follow = (): void => {
          stop();
          stop = link === 'up' ? store.watch(prefix, onEvent) : () => {};
        };
        watches.add(follow);
        follow();
        return () => {
          watches.delete(follow);
          stop();
        };
      },
    };
    let link: SceneNode['link'] = 'up';
    const make = (): StartedAddressManager => createAddressManager({
      store: linked, local, node: { id, name: `host-${i}` }, clock, log, occupied: () => [], ...options,
    });
    const node: SceneNode = {
      id, local, warnings, ipam: make(),
      get link() { return link; },
      set link(next) {
        if (next === link) return;
        link = next;
        for (const follow of watches) follow();
      },
      restart: async () => {
        node.ipam.close();
        node.ipam = make();
        await node.ipam.start();
      },
    };
    await node.ipam.start();
    return node;
  }));
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
