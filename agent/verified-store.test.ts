import { test, type Test } from 'tap';
import { systemClock as clock } from '../base/clock.ts';
import { silentLogger as log } from '../base/log.ts';
import { createAuthority } from '../cluster/identity/authority.ts';
import { foundAuthority } from '../cluster/identity/credentials.ts';
import { identityDirectory, writeIdentity } from '../cluster/identity/files.ts';
import type { Network } from '../cnm/model.ts';
import { openEtcdStore } from '../store/etcd.ts';
import { etcdForTests } from '../store/etcd-for-tests.ts';
import { storesForTests } from '../store/stores-for-tests.ts';
import { createNetworkRegistry } from './networks.ts';
import { createVerifiedStore } from './verified-store.ts';

const network = (name: string): Network => ({
  id: name, name, driver: 'overlay', scope: 'cluster', node: 'n', subnets: [], ipam: 'weft', internal: false, options: {}, labels: {}, attachable: false, createdAt: '2026-01-01T00:00:00.000Z',
});
const until = async (isSo: () => boolean): Promise<void> => { while (!isSo()) await new Promise((resolve) => { setTimeout(resolve, 20); }); };

/** A node of a cluster whose store is an etcd of the user's; `others` is another node's, which believes it. */
async function scene(t: Test) {
  // Timers of the code under test do not keep a process alive.
  const awake = setInterval(() => {}, 1000);
  t.teardown(() => clearInterval(awake));
  const etcd = await etcdForTests((end) => t.teardown(end));
  const others = openEtcdStore({ endpoints: [etcd.endpoint], clock, log });
  t.teardown(() => others.close());
  const stores = storesForTests(t, clock);
  const directory = identityDirectory(stores.folder);
  const { certificate: authority } = await foundAuthority(others);
  writeIdentity(directory, { authority, certificate: authority.trim(), key: '-----BEGIN PRIVATE KEY-----\nAA==\n-----END PRIVATE KEY-----', revoked: '' });
  const store = createVerifiedStore({ store: openEtcdStore({ endpoints: [etcd.endpoint], clock, log }), directory, clock, log });
  t.teardown(() => store.close());
  const networks = createNetworkRegistry({ store, local: stores.local(), log });
  t.teardown(networks.follow());
  const names = (): string[] => networks.list().map(({ name }) => name).toSorted();
  await networks.create(network('web'));
  return { etcd, others, store, networks, names, contents: async () => (await others.range('')).entries };
}

void test('a store that comes back empty takes no network away, and is not written to', async (t) => {
  const { etcd, others, store, networks, names, contents } = await scene(t);
  const before = await contents();
  await etcd.wipe();
  await etcd.start();
  await until(() => store.problem !== undefined);
  t.match(store.problem, { code: 'WEFT-STORE-EMPTY', message: /weft restore/ });
  await t.rejects(networks.create(network('late')), { code: 'WEFT-STORE-EMPTY' });
  await t.rejects(networks.remove('web'), { code: 'WEFT-STORE-EMPTY' });
  await t.rejects(store.lease(60), { code: 'WEFT-STORE-EMPTY' });
  t.same(names(), ['web']);
  t.same(await contents(), []);

  await others.txn([], before.map(({ key, value }) => ({ put: key, value })));
  await networks.create(network('late'));
  t.equal(store.problem, undefined, 'it is used as soon as it has its contents again');
  await others.txn([], [{ delete: 'networks/web' }]);
  await until(() => networks.get('web') === undefined);
  t.same(names(), ['late'], 'and what is removed is removed');
});

void test('everything is deleted from a store in use', async (t) => {
  const { others, store, names, contents } = await scene(t);
  await others.txn([], (await contents()).map(({ key }) => ({ delete: key })));
  await until(() => store.problem !== undefined);
  t.match(store.problem, { code: 'WEFT-STORE-EMPTY' });
  t.same(names(), ['web']);
});

void test('what another cluster has in the same place is not this one\'s', async (t) => {
  const { others, store, names, contents } = await scene(t);
  await others.txn([], [
    ...(await contents()).map(({ key }) => ({ delete: key })).filter(({ delete: key }) => key !== 'identity/authority'),
    { put: 'identity/authority', value: JSON.stringify(await createAuthority()) },
  ]);
  await until(() => store.problem !== undefined);
  t.match(store.problem, { code: 'WEFT-NODE-REMOVED' });
  await t.rejects(store.range(''), { code: 'WEFT-NODE-REMOVED' });
  t.same(names(), ['web']);
});

void test('a watch that was stopped while the store is empty stays silent', async (t) => {
  const { etcd, others, store, contents } = await scene(t);
  const before = await contents();
  const seen: string[] = [];
  const stop = store.watch('networks/', ({ type }) => void seen.push(type));
  await until(() => seen.length > 0);
  await etcd.wipe();
  await etcd.start();
  await until(() => store.problem !== undefined);
  stop();
  const after = seen.length;
  await others.txn([], before.map(({ key, value }) => ({ put: key, value })));
  await until(() => store.problem === undefined);
  t.equal(seen.length, after);
  t.same((await store.range('networks/')).entries.map(({ key }) => key), ['networks/web']);
});
