import { test, type Test } from 'tap';
import { silentLogger as log } from '../base/log.ts';
import { VirtualClock } from '../base/virtual-clock.ts';
import { createController } from '../cnm/controller.ts';
import type { Driver } from '../cnm/driver.ts';
import { createSerializer } from '../cnm/serialize.ts';
import { createAddressManager } from '../ipam/manager.ts';
import { storesForTests } from '../store/stores-for-tests.ts';
import { createLifecycle } from './lifecycle.ts';
import { createNetworkRegistry } from './networks.ts';

/** One network, and a driver whose kernel is a set, and which begins to repair by what it is told, as all do. */
async function scene(t: Test) {
  const clock = new VirtualClock();
  const stores = storesForTests(t, clock);
  const [local, store] = [stores.local(), stores.store()];
  const registry = createNetworkRegistry({ store, local, log });
  const addresses = createAddressManager({ store, local, node: { id: 'n', name: 'h1' }, clock, log, occupied: () => [] });
  t.teardown(() => addresses.close());
  const kernel = new Set<string>();
  const waiting: Partial<Record<'repair' | 'delete', Promise<void>>> = {};
  const driver: Driver = {
    name: 'bridge', scope: 'node', validate: () => {}, createEndpoint: async () => {}, deleteEndpoint: async () => {}, leave: async () => {}, join: () => Promise.reject(new Error('not here')),
    createNetwork: async ({ id }) => void kernel.add(id),
    deleteNetwork: async ({ id }) => {
      kernel.delete(id);
      await waiting.delete;
    },
    repair: async (networks) => {
      await waiting.repair;
      for (const { id } of networks) kernel.add(id);
      return [];
    },
  };
  const controller = createController({
    drivers: [driver], networks: registry, endpoints: { get: () => undefined, list: () => [], put: () => {}, delete: () => {} },
    addresses: { claim: async () => undefined, holderOf: () => undefined, release: async () => {} }, events: { joined: () => {}, left: () => {} }, log,
  });
  const serialize = createSerializer();
  const betweenRepairs = <T>(work: () => Promise<T>): Promise<T> => serialize('kernel', work);
  const lifecycle = createLifecycle({ registry, controller, addresses, occupiedHere: () => [], defaultPools: [], endpointsOn: () => [], betweenRepairs, log });
  await lifecycle.create({
    id: 'web', name: 'web', driver: 'bridge', scope: 'node', node: 'n', subnets: [{ subnet: '10.70.0.0/24' }], ipam: 'docker', internal: false, options: {}, labels: {}, attachable: false, createdAt: '',
  }, { poolHeld: false });
  t.same([...kernel], ['web']);
  return { kernel, waiting, registry, repair: () => betweenRepairs(() => controller.repair()), remove: () => lifecycle.remove('web') };
}

for (const first of ['repair', 'delete'] as const) {
  void test(`a network that is removed is not made again by a repair, ${first === 'repair' ? 'which had begun before' : 'which begins meanwhile'}`, async (t) => {
    const { kernel, waiting, registry, repair, remove } = await scene(t);
    const gate = Promise.withResolvers<void>();
    waiting[first] = gate.promise;
    const both = first === 'repair' ? [repair(), remove()] : [remove(), repair()];
    // Whatever could go on goes on.
    await new Promise((resolve) => { setTimeout(resolve, 20); });
    gate.resolve();
    await Promise.all(both);
    t.same([...kernel], []);
    t.same(registry.list(), []);
  });
}
