import { setTimeout as delay } from 'node:timers/promises';
import { test, type Test } from 'tap';
import { weftError } from '../base/errors.ts';
import { silentLogger as log } from '../base/log.ts';
import type { Network } from '../cnm/model.ts';
import type { Store } from '../store/store.ts';
import { storesForTests } from '../store/stores-for-tests.ts';
import { createNetworkRegistry } from './networks.ts';

/** As Docker makes it: its name comes later. */
const nameless = (id: string): Network => ({
  id, name: '', driver: 'overlay', scope: 'cluster', node: 'n', subnets: [], ipam: 'weft', internal: false, options: {}, labels: {}, attachable: false, createdAt: '2026-01-01T00:00:00.000Z',
});
const named = (name: string) => ({ name, labels: {}, attachable: false, ranges: new Map<string, string>() });

async function until(condition: () => Promise<boolean>): Promise<void> {
  for (let i = 0; i < 500 && !await condition(); i++) await delay(10);
}

function scene(t: Test) {
  const stores = storesForTests(t);
  const store = stores.store();
  return { stores, store, registry: (host: string, seen: Store = store) => createNetworkRegistry({ store: seen, local: stores.local(host), log }) };
}

void test('of two networks with one name the first has it, and the other none', async (t) => {
  const { registry } = scene(t);
  const [one, other] = [registry('h1'), registry('h2')];
  await one.create(nameless('a'));
  await other.create(nameless('b'));
  await one.describe('a', named('web'));
  await t.rejects(other.describe('b', named('web')), { code: 'WEFT-NETWORK-EXISTS' });
  t.equal(one.get('a')?.name, 'web');
  t.equal(other.get('b')?.name, '');
});

void test('a network that got its name although nobody was told has it', async (t) => {
  const { store, registry } = scene(t);
  let lost = false;
  const networks = registry('h1', {
    ...store,
    txn: async (compares, writes) => {
      const result = await store.txn(compares, writes);
      if (lost) throw new Error('the answer was lost');
      return result;
    },
  });
  await networks.create(nameless('a'));
  lost = true;
  await t.rejects(networks.describe('a', named('web')), { message: 'the answer was lost' });
  lost = false;
  await networks.describe('a', named('web'));
  t.equal(networks.get('a')?.name, 'web');
});

void test('a network whose making the store did not answer', async (t) => {
  const { store, registry } = scene(t);
  const away = new Error('the store is away');
  let [txn, get] = [async (): Promise<unknown> => undefined, async (): Promise<unknown> => undefined];
  const networks = registry('h1', {
    ...store,
    txn: async (compares, writes) => {
      await txn();
      const result = await store.txn(compares, writes);
      if (result.succeeded && 'put' in writes[0]!) throw away;
      return result;
    },
    get: async (key) => {
      await get();
      return store.get(key);
    },
  });
  await networks.create({ ...nameless('a'), name: 'web' });
  t.equal(networks.get('a')?.name, 'web', 'it is there: it was made');

  get = () => Promise.reject(away);
  await t.rejects(networks.create({ ...nameless('b'), name: 'late' }), away);
  get = async () => undefined;
  t.same((await store.range('networks/')).entries.map(({ key }) => key), ['networks/a', 'networks/b']);
  t.teardown(networks.follow());
  await until(async () => (await store.range('network-names/')).entries.length === 1);
  t.same((await store.range('networks/')).entries.map(({ key }) => key), ['networks/a'], 'nobody knows whether it is there: it goes, as all else of it');
  t.equal(networks.get('b'), undefined);
  get = () => Promise.reject(away);
  await networks.create({ ...nameless('e'), name: 'told' });
  t.equal(networks.get('e')?.name, 'told', 'the watch has told of it');

  txn = () => Promise.reject(away);
  await t.rejects(networks.create({ ...nameless('c'), name: 'never' }), away);
  txn = async () => undefined;
  const again = registry('h2');
  t.equal((await again.create({ ...nameless('d'), name: 'never' })).id, 'd', 'the name is free');
});

void test('a network whose making the store refused may be made later', async (t) => {
  const { stores, store } = scene(t);
  const local = stores.local('h1');
  let txn = (): Promise<unknown> => Promise.reject(weftError('WEFT-STORE-EMPTY', { store: 'etcd' }));
  const networks = createNetworkRegistry({ store: { ...store, txn: async (...all) => txn().then(() => store.txn(...all)) }, local, log });
  await t.rejects(networks.create(nameless('a')), { code: 'WEFT-STORE-EMPTY' });
  t.same(local.list('given-up/'), [], 'it is known that it was not made');
  txn = async () => undefined;
  t.teardown(networks.follow());
  await networks.create(nameless('a'));
  t.same((await store.range('networks/')).entries.map(({ key }) => key), ['networks/a']);
});

void test('a removal gives back the name and the VNI once, and not those of another network since', async (t) => {
  const { store, registry } = scene(t);
  let meanwhile = async (): Promise<void> => {};
  const [one, other, slow] = [registry('h1'), registry('h2'), registry('h3', {
    ...store,
    txn: async (compares, writes) => {
      const act = meanwhile;
      meanwhile = async () => {};
      await act();
      return store.txn(compares, writes);
    },
  })];
  const stopped = [one, other, slow].map((each) => each.follow());
  t.teardown(() => stopped.forEach((stop) => stop()));
  const settled = async (id: string): Promise<void> => {
    while (slow.get(id) === undefined) await new Promise<void>((resolve) => { setImmediate(resolve); });
  };
  const { vni } = await one.create(nameless('a'));
  await settled('a');
  // Its name is not known yet to who removes it.
  meanwhile = async () => one.describe('a', named('web'));
  await slow.remove('a');
  t.same((await store.range('')).entries, [], 'the name goes with it');

  await one.create({ ...nameless('b'), name: 'web' });
  await settled('b');
  meanwhile = async () => {
    await one.remove('b');
    await other.create({ ...nameless('c'), name: 'web' });
  };
  await slow.remove('b');
  t.equal(other.get('c')?.vni, vni, 'the same VNI as before');
  t.same((await store.range('')).entries.map(({ key }) => key).toSorted(), ['network-names/web', 'networks/c', `vnis/${vni}`]);
  await slow.remove('b');
  t.equal(slow.get('b'), undefined);
});

void test('a network that somebody else changes all the time', async (t) => {
  const { store, registry } = scene(t);
  const { create, describe, remove } = registry('h1', {
    ...store,
    txn: async (compares, writes) => {
      const entry = await store.get('networks/a');
      if (entry) await store.txn([], [{ put: entry.key, value: entry.value }]);
      return store.txn(compares, writes);
    },
  });
  await create(nameless('a'));
  await t.rejects(describe('a', named('web')), { code: 'WEFT-STORE-CONFLICT', message: /network web/ });
  await t.rejects(remove('a'), { code: 'WEFT-STORE-CONFLICT', message: /network a/ });
});
