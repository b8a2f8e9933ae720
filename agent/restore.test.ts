import { copyFileSync, existsSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import tap, { test } from 'tap';
import { systemClock as clock } from '../base/clock.ts';
import { silentLogger as log } from '../base/log.ts';
import type { Network } from '../cnm/model.ts';
import { openEtcdStore } from '../store/etcd.ts';
import { etcdForTests } from '../store/etcd-for-tests.ts';
import { findEtcd } from '../store/etcd-process.ts';
import { openLocalStore } from '../store/local.ts';
import { openSqliteStore } from '../store/sqlite.ts';
import type { LocalStore, Store } from '../store/store.ts';
import type { Config } from './config.ts';
import { contents, hostsForTests } from './host-for-tests.ts';
import { gossipKeys } from './gossip-keys.ts';
import { nodeId } from './identity.ts';
import { createNetworkRegistry, rememberNetworks } from './networks.ts';
import { memberFolder } from './node-store.ts';
import { restoreStore } from './restore.ts';

tap.setTimeout(120_000);

const options = { id: 'backup', clock, log };
const entries = Array.from({ length: 300 }, (_, i) => ({ key: `n/${i}`, value: String(i) }));
const asBackup = Object.fromEntries(entries.map(({ key, value }) => [key, value]));
const kept = ({ dataDir }: Config): string[] => readdirSync(dataDir).filter((name) => name.startsWith('store-before-restore'));

void test('onto a host alone', async (t) => {
  const host = await (await hostsForTests(t)).host();
  const path = join(host.config.dataDir, 'store.db');
  let node = host.open();
  await node.store.txn([], [{ put: 'later', value: '1' }, { put: 'n/0', value: 'changed' }]);
  await t.rejects(restoreStore(host.config, entries, options), { code: 'WEFT-STORE-LOCKED' }, 'weftd runs');
  // As kill -9 leaves it: the changes are in the log only.
  for (const suffix of ['', '-wal']) copyFileSync(`${path}${suffix}`, `${path}.killed${suffix}`);
  await host.close();
  for (const suffix of ['', '-wal']) copyFileSync(`${path}.killed${suffix}`, `${path}${suffix}`);

  await restoreStore(host.config, entries, options);
  node = host.open();
  t.same(await contents(node.store), asBackup);
  t.equal(kept(host.config).length, 1, 'what was there is kept');
  await host.close();

  writeFileSync(path, 'no database at all, and long enough to be looked at as if it were one '.repeat(10));
  t.throws(() => host.open(), { code: 'WEFT-STORE-UNREACHABLE' });
});

void test('onto a damaged store, and onto a host without any', async (t) => {
  const { host } = await hostsForTests(t);
  for (const damaged of [true, false]) {
    const one = await host();
    const path = join(one.config.dataDir, 'store.db');
    if (damaged) for (const suffix of ['', '-wal']) writeFileSync(`${path}${suffix}`, 'no database at all, and long enough to be looked at as if it were one '.repeat(10));
    await restoreStore(one.config, entries, options);
    t.same(await contents(one.open().store), asBackup);
    t.equal(kept(one.config).length > 0, damaged);
  }
});

void test('onto a host of a cluster: it is alone again, and can begin another cluster', async (t) => {
  const host = await (await hostsForTests(t)).host();
  let node = host.open();
  await node.startCluster();
  await node.store.txn([], [{ put: 'later', value: '1' }]);
  await host.close();
  const before = openLocalStore(join(host.config.dataDir, 'local.db'));
  const id = nodeId(before);
  for (const key of ['cache/networks/x', 'cluster/gossip-keys', 'node/number', 'endpoints/y']) before.put(key, '1');
  before.close();
  t.ok(findEtcd(memberFolder(host.config)), 'etcd runs without weftd');

  mkdirSync(join(host.config.dataDir, 'identity'));
  await restoreStore(host.config, entries, options);
  t.notOk(existsSync(memberFolder(host.config)));
  t.notOk(existsSync(join(host.config.dataDir, 'identity')));
  const local = openLocalStore(join(host.config.dataDir, 'local.db'));
  t.equal(nodeId(local), id);
  t.same(['cache/networks/x', 'cluster/gossip-keys', 'node/number', 'endpoints/y'].map((key) => local.get(key)), [undefined, undefined, undefined, '1'], 'what it knew of the other store is forgotten');
  local.close();
  node = host.open();
  t.equal(node.kind, 'embedded');
  t.same(await contents(node.store), asBackup);
  await node.startCluster();
  t.same(await contents(node.store), asBackup);
});

void test('nobody has rights in it of before, and what this host publishes and hands out is its own', async (t) => {
  const { host } = await hostsForTests(t);
  const one = await host();
  const local = openLocalStore(join(one.config.dataDir, 'local.db'));
  const id = nodeId(local);
  local.put('held/ports/tcp/80', 'shop');
  local.put('held/ports/tcp/81', '');
  local.put('node/fenced', JSON.stringify('WEFT-NODE-REMOVED'));
  const pool = { id: 'p1', subnet: '10.9.0.0/29', made: 0, reserved: {} };
  local.put('ipam/pools/10.9.0.0_29', JSON.stringify(pool));
  local.put('ipam/blocks/10.9.0.0_29/5', JSON.stringify({ chooser: 'weft' }));
  local.close();
  const node = (name: string, of: string) => ({ key: `nodes/${of}`, value: JSON.stringify({ id: of, name, number: 1, address: '10.0.0.9', gossipPort: 7947 }) });
  const claim = (of: string) => JSON.stringify({ node: of, name: 'x', pool: 'p1', chooser: 'weft' });
  const backup = [
    node('me', id), node('b', 'bbbb'), node('a', 'aaaa'),
    ...['node-numbers/1', 'identity/authority', 'identity/certificates/aaaa', 'identity/removed/cccc', 'identity/revoked', 'identity/token', 'gossip-keys', 'instances/aaaa', 'wants/x'].map((key) => ({ key, value: '"old"' })),
    { key: 'ports/tcp/80', value: JSON.stringify({ service: 'other', nodes: ['aaaa'] }) },
    { key: 'ports/tcp/443', value: JSON.stringify({ service: 'other', nodes: ['aaaa'] }) },
    { key: 'pools/10.9.0.0_29', value: JSON.stringify(pool) },
    { key: 'blocks/10.9.0.0_29/5', value: claim('aaaa') },
    { key: 'blocks/10.9.0.0_29/4', value: claim('aaaa') },
    { key: 'networks/n', value: '"web"' },
  ];
  t.same(await restoreStore(one.config, backup, options), { others: [{ id: 'aaaa', name: 'a' }, { id: 'bbbb', name: 'b' }] });
  const restored = await contents(one.open().store);
  t.match(JSON.parse(restored['blocks/10.9.0.0_29/5']!), { node: id, pool: 'p1' }, 'given to this host after the backup');
  t.match(JSON.parse(restored['blocks/10.9.0.0_29/4']!), { node: 'aaaa' });
  t.same(JSON.parse(restored['ports/tcp/80']!), { service: 'shop', nodes: [id] });
  t.same(Object.keys(restored).sort(), ['blocks/10.9.0.0_29/4', 'blocks/10.9.0.0_29/5', 'networks/n', 'pools/10.9.0.0_29', 'ports/tcp/80']);
  await one.close();
  const after = openLocalStore(join(one.config.dataDir, 'local.db'));
  t.equal(after.get('node/fenced'), undefined, 'it was taken out of another cluster');
  after.close();
});

void test('the restored cluster does not gossip with the one that the backup is of', async (t) => {
  const { host } = await hostsForTests(t);
  const [before, after] = [await host(), await host()];
  const keysOf = async (one: typeof before): Promise<string[]> => {
    const { store } = one.open();
    // A copy on the disk would hide what the store says.
    const keys = await gossipKeys(store, { get: () => undefined, put: () => {} } as unknown as LocalStore, 0);
    return keys.map((key) => Buffer.from(key).toString('hex'));
  };
  const old = await keysOf(before);
  await before.close();
  const whole = openSqliteStore(join(before.config.dataDir, 'store.db'), { clock, log });
  const { entries: backup } = await whole.range('');
  await whole.close();
  t.ok(backup.length > 0);
  await restoreStore(after.config, backup, options);
  t.notSame(await keysOf(after), old);
});

void test('into an etcd of the user\'s: only an empty one', async (t) => {
  const { config } = await (await hostsForTests(t)).host();
  const { endpoint } = await etcdForTests((end) => t.teardown(end));
  const external = { ...config, etcd: { endpoints: [endpoint] } };
  const etcd = openEtcdStore({ endpoints: [endpoint], clock, log });
  t.teardown(() => etcd.close());
  await etcd.txn([], [{ put: 'a', value: '1' }]);
  await t.rejects(restoreStore(external, entries, options), { code: 'WEFT-STORE-OCCUPIED' });
  await etcd.txn([], [{ delete: 'a' }]);
  await restoreStore(external, entries, options);
  t.same(await contents(etcd), asBackup);
});

void test('at its start the host knows the networks of the backup before it has asked anybody', async (t) => {
  const { config } = await (await hostsForTests(t)).host();
  const network = (id: string): Network => ({
    id, name: id, driver: 'overlay', scope: 'cluster', node: 'n', subnets: [], ipam: 'weft', internal: false, options: {}, labels: {}, attachable: false, createdAt: '2026-01-01T00:00:00.000Z',
  });
  const stored = (id: string) => ({ key: `networks/${id}`, value: JSON.stringify(network(id)) });
  const within = <T>(act: (local: LocalStore) => T): T => {
    const local = openLocalStore(join(config.dataDir, 'local.db'));
    try {
      return act(local);
    } finally {
      local.close();
    }
  };
  within((local) => rememberNetworks(local, [stored('kept'), stored('made-later')]));
  await restoreStore(config, [...entries, stored('kept'), { key: 'network-names/kept', value: '"kept"' }], options);
  const unreachable = { watch: () => () => {} } as unknown as Store;
  t.same(within((local) => createNetworkRegistry({ store: unreachable, local, log }).list()), [network('kept')]);
});
