/** Nodes that share a store, which can be cut off, and lose answers. */
import { join } from 'node:path';
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
      if (node.link === 'down') throw unreachable();
      const answer = await ask();
      if (node.link === 'answers-lost') throw unreachable();
      return answer;
    };
    const linked: Store = {
      ...store,
      get: (key) => through(() => store.get(key)),
      range: (prefix) => through(() => store.range(prefix)),
      txn: (compares, writes) => through(() => store.txn(compares, writes)),
    };
    const make = (): StartedAddressManager => createAddressManager({
      store: linked, local, node: { id, name: `host-${i}` }, clock, log, occupied: () => [], ...options,
    });
    const node: SceneNode = {
      id, local, warnings, link: 'up', ipam: make(),
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
