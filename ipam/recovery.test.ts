import { test } from 'tap';
import { VirtualClock } from '../base/virtual-clock.ts';
import type { Store } from '../store/store.ts';
import { storesForTests } from '../store/stores-for-tests.ts';
import { ask, askMany, askUntilRefused, open } from './requests-for-tests.ts';
import { type SceneNode, scene } from './scene-for-tests.ts';

void test('the store is away: addresses of the blocks in hand, then the true reason', async (t) => {
  const { a, b } = await open(t);
  const { subnet } = await a.ipam.requestPool({ subnet: '10.3.0.0/24' });
  await ask(a, subnet);
  a.link = 'down';
  await a.restart();
  t.equal((await askUntilRefused(a, subnet, 'WEFT-STORE-UNREACHABLE', t)).length, 14);
  b.link = 'down';
  await t.rejects(ask(b, subnet), { code: 'WEFT-STORE-UNREACHABLE' });
  await t.rejects(ask(b, '10.44.0.0/24'), { code: 'WEFT-STORE-UNREACHABLE' });
  a.link = 'up';
  t.equal(await ask(a, subnet), '10.3.0.239/24');
});

void test('a claim whose answer was lost is found again', async (t) => {
  const { store, a } = await open(t);
  const { subnet } = await a.ipam.requestPool({ subnet: '10.3.0.0/24' });
  const txn = store.txn.bind(store);
  let lose = true;
  store.txn = async (...args) => {
    const result = await txn(...args);
    if (lose) throw new Error('lost');
    return result;
  };
  await t.rejects(ask(a, subnet), { message: 'lost' });
  lose = false;
  t.equal(await ask(a, subnet), '10.3.0.254/24');
  t.equal((await store.range('blocks/')).entries.length, 1);
  store.txn = txn;
});

void test('the store was put back to an older state: pools go on, and blocks in use are nobody else\'s', async (t) => {
  const clock = new VirtualClock();
  const stores = storesForTests(t, clock);
  const [newer, older] = [stores.store('newer'), stores.store('older')];
  let current = newer;
  const store: Store = {
    ...newer,
    get: (key) => current.get(key), range: (prefix) => current.range(prefix), txn: (...args) => current.txn(...args), lease: (ttl) => current.lease(ttl),
    watch: (prefix, onEvent) => current.watch(prefix, onEvent),
  };
  const made = await scene(stores.folder, store, { count: 2, clock, usedElsewhere: () => seen });
  const [a, b] = made.nodes as [SceneNode, SceneNode];
  t.teardown(() => made.close());
  let seen: { address: string; node: { id: string; name: string } }[] = [];
  const { subnet } = await a.ipam.requestPool({ subnet: '10.3.0.0/24' });
  for (const { key, value } of (await newer.range('')).entries) await older.txn([], [{ put: key, value }]);
  for (let i = 1; i < 9; i++) await a.ipam.reserve(subnet, { [`aux:${i}`]: `10.3.0.${i}` });
  const held = await askMany(a, subnet, 20);
  seen = held.map((text) => ({ address: text.split('/')[0]!, node: { id: 'node0', name: 'host-0' } }));
  current = older;
  const given = await askMany(b, subnet, 3);
  t.same(given, ['10.3.0.223/24', '10.3.0.222/24', '10.3.0.221/24'], 'what is seen to be in use is left alone');
  await t.rejects(ask(b, subnet, { address: '10.3.0.254' }), { code: 'WEFT-ADDRESS-FOREIGN', message: /host-0/ });
  seen = [];
  for (const node of [a, b]) {
    node.link = 'down';
    node.link = 'up';
  }
  await clock.advance(1_000);
  t.same((await older.range('blocks/')).entries.length, 3, 'and claimed again by its node');
  t.match(a.warnings, [/claimed again/, /claimed again/]);
  t.notOk([...held, ...given].includes(await ask(a, subnet)));
  await a.ipam.reserve(subnet, { 'aux:late': '10.3.0.9' });
  await t.rejects(ask(b, subnet, { address: '10.3.0.9' }), { code: 'WEFT-ADDRESS-IN-USE' });
});

void test('a restart forgets nothing', async (t) => {
  const { a } = await open(t);
  const { subnet } = await a.ipam.requestPool({ subnet: '10.3.0.0/24' });
  const address = await ask(a, subnet, { holder: 'x' });
  const usage = a.ipam.usage();
  await a.restart();
  t.same(a.ipam.usage(), usage);
  t.equal(await ask(a, subnet, { holder: 'x' }), address);
  t.not(await ask(a, subnet), address);
});

void test('a block that the store lost is claimed again, or given up to who has it', async (t) => {
  const { store, a, b } = await open(t);
  const { subnet } = await a.ipam.requestPool({ subnet: '10.3.0.0/24' });
  const address = await ask(a, subnet, { holder: 'x' });
  const key = 'blocks/10.3.0.0_24/15';
  const before = (await store.get(key))!.value;
  await store.txn([], [{ delete: key }]);
  await a.restart();
  t.equal((await store.get(key))?.value, before);
  t.equal(await ask(a, subnet, { holder: 'x' }), address);
  await store.txn([], [{ delete: key }]);
  t.equal(await ask(b, subnet), '10.3.0.254/24');
  await a.restart();
  t.match(a.warnings.at(-1), /belongs to another node/);
  t.equal(await ask(a, subnet, { holder: 'x' }), '10.3.0.239/24');
});
