/** Between real nodes, by the machine's clock, through a real etcd. */
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { test } from 'tap';
import { systemClock as clock } from '../base/clock.ts';
import { silentLogger as log } from '../base/log.ts';
import { openEtcdStore } from '../store/etcd.ts';
import { etcdForTests } from '../store/etcd-for-tests.ts';
import { openLocalStore } from '../store/local.ts';
import { createAddressManager, type StartedAddressManager } from './manager.ts';

const REST_MS = 300;

void test('a block that is not in use goes to the node that needs it', async (t) => {
  const etcd = await etcdForTests((end) => t.teardown(end));
  const folder = t.testdir();
  const nodes = await Promise.all(['a', 'b', 'c'].map(async (id) => {
    const store = openEtcdStore({ endpoints: [etcd.endpoint], clock, log });
    const local = openLocalStore(join(folder, id, 'local.db'));
    const ipam = createAddressManager({ store, local, node: { id, name: `host-${id}` }, clock, log, restMs: REST_MS, occupied: () => [] });
    t.teardown(async () => {
      ipam.close();
      local.close();
      await store.close();
    });
    await ipam.start();
    return { ipam, store };
  }));
  const [a, b, c] = nodes.map(({ ipam }) => ipam) as [StartedAddressManager, StartedAddressManager, StartedAddressManager];
  const { subnet } = await a.requestPool({ subnet: '10.3.0.0/28' });
  let serial = 0;
  const ask = async (from: StartedAddressManager): Promise<string> => from.requestAddress({ subnet, holder: `h${serial++}`, chooser: 'weft' });
  const given: string[] = [];
  for (let i = 0; i < 14; i++) given.push(await ask(a));

  let start = performance.now();
  await t.rejects(ask(b), { code: 'WEFT-POOL-EXHAUSTED', message: /host-a has 14/ });
  t.ok(performance.now() - start < 1_500, `refused as soon as the owner has said so (${Math.round(performance.now() - start)} ms)`);

  for (const address of given.slice(0, 6)) await a.releaseAddress(subnet, address.split('/')[0]!);
  await delay(REST_MS + 50);
  start = performance.now();
  const borrowed = await Promise.all([ask(b), ask(c), ask(b), ask(c)]);
  t.ok(performance.now() - start < 1_500, `${Math.round(performance.now() - start)} ms`);
  t.equal(new Set(borrowed).size, 4);
  t.ok(borrowed.every((address) => given.slice(0, 6).includes(address)));
  t.match(a.usage()[0], { blocks: 10, used: 8 });
  t.same((await nodes[0]!.store.range('wants/')).entries, []);

  // Its owner is gone: nobody answers.
  a.close();
  start = performance.now();
  await t.rejects(ask(b), { code: 'WEFT-POOL-EXHAUSTED' });
  const took = performance.now() - start;
  t.ok(took > 1_900 && took < 4_000, `${Math.round(took)} ms`);
});
