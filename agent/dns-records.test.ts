import { test, type Test } from 'tap';
import { silentLogger as log } from '../base/log.ts';
import type { Network } from '../cnm/model.ts';
import { createOwnRecords } from '../dns/own-records.ts';
import { TYPE } from '../dns/message.ts';
import { until } from '../store/member-for-tests.ts';
import type { LocalStore, Store } from '../store/store.ts';
import { storesForTests } from '../store/stores-for-tests.ts';
import { createDnsRecords } from './dns-records.ts';
import { createNetworkRegistry } from './networks.ts';

const web: Network = {
  id: 'e1'.repeat(32), name: 'web', driver: 'overlay', scope: 'cluster', node: 'n', subnets: [], ipam: 'weft', internal: false, options: {}, labels: {}, attachable: false, createdAt: '2026-01-01T00:00:00.000Z',
};

function scene(t: Test) {
  const stores = storesForTests(t);
  const store = stores.store();
  const disks = new Map<string, LocalStore>();
  const node = (host: string, seen: Store = store) => {
    const local = disks.get(host) ?? stores.local(host);
    disks.set(host, local);
    const registry = createNetworkRegistry({ store: seen, local, log });
    const records = createOwnRecords();
    const commands = createDnsRecords({ store: seen, local, registry, records, log });
    const follow = (): void => {
      const stops = [registry.follow(), commands.follow()];
      t.teardown(() => stops.forEach((stop) => stop()));
    };
    return { ...commands, follow, registry, values: (name: string, type: keyof typeof TYPE = 'A') => records.find([web], name).map((sets) => sets.get(TYPE[type])?.values) };
  };
  return { node, store };
}

test('a record is on every node, and at the next start before the store answers', async (t) => {
  const { node, store } = scene(t);
  const [one, two] = [node('h1'), node('h2')];
  two.follow();
  await one.registry.create(web);
  t.same(await one.add({ name: 'DB.test', type: 'a', value: '10.9.0.1' }), [{ name: 'db.test', type: 'A', value: '10.9.0.1' }]);
  t.same(one.values('db.test'), [['10.9.0.1']], 'at once where it was added');
  await one.add({ name: 'db.test', type: 'A', value: '10.9.0.2', ttl: 60 });
  await one.add({ name: 'db.test', type: 'A', value: '10.9.0.2' });
  await one.add({ name: '*.app.test', type: 'CNAME', value: 'db.test', network: 'web' });
  await until('the other node has them', () => two.list().length === 3);
  t.same(two.values('db.test'), [['10.9.0.1', '10.9.0.2']]);
  t.same(two.list(), [
    { name: '*.app.test', type: 'CNAME', value: 'db.test', network: 'web' },
    { name: 'db.test', type: 'A', value: '10.9.0.1', ttl: 60 },
    { name: 'db.test', type: 'A', value: '10.9.0.2', ttl: 60 },
  ]);
  const silent = node('h2', { ...store, watch: () => () => {} });
  t.same(silent.values('db.test'), [['10.9.0.1', '10.9.0.2']]);
  t.equal(silent.list().length, 3);
});

test('one value, all of a type, all of a name are removed', async (t) => {
  const { node, store } = scene(t);
  const one = node('h1');
  for (const [type, value] of [['A', '10.9.0.1'], ['A', '10.9.0.2'], ['TXT', 'x y'], ['TXT', 'z'], ['AAAA', 'fd09::1']] as const) await one.add({ name: 'db.test', type, value });
  await one.remove({ name: 'db.test', type: 'A', value: '10.9.0.1' });
  t.same(one.values('db.test'), [['10.9.0.2']]);
  t.same((await one.remove({ name: 'DB.test.', type: 'txt' })).map(({ value }) => value), ['x y', 'z']);
  t.same(one.values('db.test', 'TXT'), [undefined]);
  t.equal((await one.remove({ name: 'db.test' })).length, 2);
  t.same(one.values('db.test'), []);
  t.same((await store.range('dns-records/')).entries, []);
  for (const request of [{ name: 'db.test' }, { name: 'db.test', type: 'A', value: '10.0.0.1' }]) await t.rejects(one.remove(request), { code: 'WEFT-RECORD-UNKNOWN' });
});

test('what cannot be', async (t) => {
  const { node } = scene(t);
  const one = node('h1');
  await one.add({ name: 'alias.test', type: 'CNAME', value: 'db.test' });
  await one.add({ name: 'alias.test', type: 'CNAME', value: 'db.test', ttl: 5 });
  await t.rejects(one.add({ name: 'alias.test', type: 'CNAME', value: 'other.test' }), { code: 'WEFT-RECORD-ALONE' });
  await t.rejects(one.add({ name: 'alias.test', type: 'A', value: '10.0.0.1' }), { code: 'WEFT-RECORD-ALONE', message: /it has CNAME already/ });
  await one.add({ name: 'db.test', type: 'A', value: '10.0.0.1' });
  await t.rejects(one.add({ name: 'db.test', type: 'CNAME', value: 'x.test' }), { code: 'WEFT-RECORD-ALONE' });
  await t.rejects(one.add({ name: 'db.test', type: 'A', value: '10.0.0.2', network: 'nowhere' }), { code: 'WEFT-NETWORK-UNKNOWN' });
  for (const ttl of [-1, 0.5, 2 ** 31, NaN]) await t.rejects(one.add({ name: 'db.test', type: 'A', value: '10.0.0.2', ttl }), { code: 'WEFT-RECORD-MALFORMED' });
  for (let i = 2; i <= 64; i++) await one.add({ name: 'db.test', type: 'A', value: `10.0.0.${i}` });
  await t.rejects(one.add({ name: 'db.test', type: 'A', value: '10.0.0.65' }), { code: 'WEFT-RECORD-MANY' });
  t.equal(one.list().length, 65);
});

test('two nodes that add to one name at the same time both do', async (t) => {
  const { node } = scene(t);
  const nodes = [node('h1'), node('h2')];
  await Promise.all(nodes.flatMap((each, n) => [1, 2, 3].map((i) => each.add({ name: 'db.test', type: 'A', value: `10.0.${n}.${i}` }))));
  nodes[0]!.follow();
  await until('all six are there', () => nodes[0]!.list().length === 6);
});

test('records of a network go with it', async (t) => {
  const { node, store } = scene(t);
  const one = node('h1');
  one.follow();
  await one.registry.create(web);
  await one.add({ name: 'here.test', type: 'A', value: '10.0.0.1', network: 'web' });
  await one.add({ name: 'all.test', type: 'A', value: '10.0.0.1' });
  await one.registry.remove(web.id);
  await until('it is gone', async () => (await store.range('dns-records/')).entries.length === 1);
  t.same(one.list().map(({ name }) => name), ['all.test']);
});
