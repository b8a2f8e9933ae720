/** What tests ask of the nodes of a scene. */
import type { Test } from 'tap';
import { VirtualClock } from '../base/virtual-clock.ts';
import type { Store } from '../store/store.ts';
import { storesForTests } from '../store/stores-for-tests.ts';
import type { AddressManagerOptions } from './manager.ts';
import { type Scene, type SceneNode, scene } from './scene-for-tests.ts';

export interface Opened extends Scene { store: Store; a: SceneNode; b: SceneNode }

/** Two nodes and a store of their own, for one test. */
export async function open(t: Test, options: Partial<Omit<AddressManagerOptions, 'clock'>> & { count?: number } = {}): Promise<Opened> {
  const clock = new VirtualClock();
  const stores = storesForTests(t, clock);
  const store = stores.store();
  const made = await scene(stores.folder, store, { count: 2, clock, ...options });
  t.teardown(() => made.close());
  return { ...made, store, a: made.nodes[0]!, b: made.nodes[1]! };
}

let serial = 0;
export const ask = (node: SceneNode, subnet: string, more: { address?: string; range?: string; holder?: string; chooser?: 'weft' | 'docker'; network?: string } = {}): Promise<string> =>
  node.ipam.requestAddress({ subnet, holder: `h${serial++}`, chooser: 'weft', ...more });

export async function askMany(node: SceneNode, subnet: string, count: number): Promise<string[]> {
  const found: string[] = [];
  for (let i = 0; i < count; i++) found.push(await ask(node, subnet));
  return found;
}

/** Until there is no address left; the refusal must have the code. */
export async function askUntilRefused(node: SceneNode, subnet: string, code: string, t: Test): Promise<string[]> {
  const found: string[] = [];
  for (;;) {
    try {
      found.push(await ask(node, subnet));
    } catch (error) {
      t.match(error, { code });
      return found;
    }
  }
}
