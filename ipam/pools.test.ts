import { test } from 'tap';
import type { AddressManager, Pool } from './ipam.ts';
import { ask, askMany, open } from './requests-for-tests.ts';

/** A pool as it is answered, but for the id of its making, which is not the same twice. */
async function asked({ ipam }: { ipam: AddressManager }, request: Parameters<AddressManager['requestPool']>[0]): Promise<Omit<Pool, 'id'>> {
  const { id, ...pool } = await ipam.requestPool(request);
  if (!id) throw new Error(`pool ${pool.subnet} has no id`);
  return pool;
}

void test('pools: chosen ones differ, asked-for ones must be free', async (t) => {
  const { a, b } = await open(t, { occupied: () => [{ prefix: '10.192.1.0/25', by: 'the route by eth1 on node c' }] });
  const chosen = await Promise.all([a, b, a, b, a].map(({ ipam }) => ipam.requestPool({})));
  t.same(chosen.map(({ subnet }) => subnet).sort(), [0, 2, 3, 4, 5].map((i) => `10.192.${i}.0/24`));
  t.same(await asked(a, { subnet: '172.20.3.9/16', range: '172.20.8.0/21' }), { subnet: '172.20.0.0/16', range: '172.20.8.0/21' });
  for (const subnet of ['172.20.0.0/16', '172.20.9.0/24', '172.0.0.0/8']) {
    await t.rejects(b.ipam.requestPool({ subnet }), { code: 'WEFT-SUBNET-OVERLAP', message: /172\.20\.0\.0\/16 \(a pool made on node host-0\).*10\.192\.6\.0\/24/ });
  }
  await t.rejects(b.ipam.requestPool({ subnet: '10.192.0.0/16' }), { code: 'WEFT-SUBNET-OVERLAP' });
  await t.rejects(b.ipam.requestPool({ subnet: '10.192.1.0/24' }), { message: /the route by eth1 on node c/ });
  t.same(await asked(b, { subnet: '172.20.0.0/16', existing: true }), { subnet: '172.20.0.0/16', range: '172.20.8.0/21' });
  await t.rejects(b.ipam.requestPool({ subnet: '172.21.0.0/16', existing: true }), { code: 'WEFT-POOL-UNKNOWN' });
  for (const subnet of ['10.0.0.0', '10.0.0.0/33', 'fd00::/63', 'x', '10.0.0.0/7']) await t.rejects(a.ipam.requestPool({ subnet }), { code: 'WEFT-SUBNET-MALFORMED' });
  for (const range of ['10.50.0.0/23', '10.51.0.0/25', 'x']) await t.rejects(a.ipam.requestPool({ subnet: '10.50.0.0/24', range }), { code: 'WEFT-RANGE-OUTSIDE' });
  await t.rejects(a.ipam.requestPool({ range: '10.50.0.0/25' }), { code: 'WEFT-RANGE-OUTSIDE' });
});

void test('pools: of overlapping ones asked for at once, one is made', async (t) => {
  const { a, b } = await open(t);
  const results = await Promise.allSettled([a, b, a, b].map(({ ipam }, i) => ipam.requestPool({ subnet: `10.60.0.0/${20 + i}` })));
  t.equal(results.filter(({ status }) => status === 'fulfilled').length, 1);
  for (const result of results) if (result.status === 'rejected') t.match(result.reason, { code: 'WEFT-SUBNET-OVERLAP' });
});

void test('pools: the default pools run out', async (t) => {
  const { a } = await open(t, { defaultPools: ['10.192.0.0/23'] });
  await a.ipam.requestPool({});
  const { subnet } = await a.ipam.requestPool({});
  await t.rejects(a.ipam.requestPool({}), { code: 'WEFT-POOLS-EXHAUSTED' });
  await a.ipam.releasePool(subnet);
  t.same(await asked(a, {}), { subnet });
});

void test('pools: a release takes blocks and addresses with it, on every node', async (t) => {
  const { store, clock, a, b } = await open(t);
  const { subnet } = await a.ipam.requestPool({ subnet: '10.1.0.0/16' });
  await askMany(a, subnet, 300);
  await ask(b, subnet);
  await a.ipam.releasePool(subnet);
  await a.ipam.releasePool(subnet);
  await clock.advance(0);
  t.same((await store.range('')).entries.map(({ key, value }) => [key, value]), [['pools-index', '[]']]);
  for (const { local, ipam, warnings } of [a, b]) {
    t.same(local.list(''), []);
    t.same(ipam.usage(), []);
    t.match(warnings, [/in use here/]);
  }
  await t.rejects(ask(b, subnet), { code: 'WEFT-POOL-UNKNOWN' });
  await a.ipam.releasePool('rubbish');
});

void test('pools: one that was made anew while this node was away is another one', async (t) => {
  const { a, b } = await open(t);
  const { subnet } = await a.ipam.requestPool({});
  t.equal(await ask(b, subnet), '10.192.0.254/24');
  b.ipam.close();
  await a.ipam.releasePool(subnet);
  await a.ipam.requestPool({ subnet });
  t.equal(await ask(a, subnet), '10.192.0.254/24', 'the block of the old pool counts as free');
  await b.restart();
  t.equal(await ask(b, subnet), '10.192.0.239/24');
});

void test('pools: the release of an earlier making, come late, leaves the later one', async (t) => {
  const { store, clock, a, b } = await open(t);
  const { subnet, id } = await a.ipam.requestPool({ subnet: '10.1.0.0/24' });
  t.equal((await b.ipam.requestPool({ subnet, existing: true })).id, id);
  t.equal(b.ipam.poolId(subnet), id);
  await a.ipam.releasePool(subnet, id);
  const next = await a.ipam.requestPool({ subnet });
  t.not(next.id, id);
  await ask(a, subnet);
  await b.ipam.releasePool(subnet, id);
  b.link = 'down';
  await t.rejects(b.ipam.releasePool(subnet, id), { code: 'WEFT-STORE-UNREACHABLE' });
  b.link = 'up';
  await clock.advance(15_000);
  t.same([a, b].map(({ ipam }) => ipam.poolId(subnet)), [next.id, next.id]);
  t.equal((await store.range('blocks/')).entries.length, 1);
  await b.ipam.releasePool(subnet, next.id);
  t.same((await store.range('')).entries.map(({ key, value }) => [key, value]), [['pools-index', '[]']]);
});

void test('pools: while the store is away nothing is left half made', async (t) => {
  const { store, clock, a } = await open(t);
  a.link = 'answers-lost';
  await t.rejects(a.ipam.requestPool({ subnet: '10.1.0.0/24' }), { code: 'WEFT-STORE-UNREACHABLE' });
  a.link = 'up';
  t.same(await asked(a, { subnet: '10.1.0.0/24' }), { subnet: '10.1.0.0/24' }, 'repeated');
  await ask(a, '10.1.0.0/24');
  a.link = 'down';
  await t.rejects(a.ipam.releasePool('10.1.0.0/24'), { code: 'WEFT-STORE-UNREACHABLE' });
  t.same(await asked(a, { subnet: '10.1.0.0/24', existing: true }), { subnet: '10.1.0.0/24' });
  await clock.advance(15_000);
  a.link = 'up';
  await clock.advance(15_000);
  t.equal(await store.get('pools/10.1.0.0_24'), undefined, 'made good when the store is back');
  t.same((await store.range('blocks/')).entries, []);
  t.same(a.local.list(''), []);
});

void test('pools: a subnet that hosts have as well, for a network on their LAN', async (t) => {
  const { a } = await open(t, { occupied: () => [{ prefix: '192.168.50.0/24', by: 'the route by eth1' }] });
  await t.rejects(a.ipam.requestPool({ subnet: '192.168.50.0/24' }), { code: 'WEFT-SUBNET-OVERLAP' });
  t.same(await asked(a, { subnet: '192.168.50.0/24', shared: true }), { subnet: '192.168.50.0/24' });
  await t.rejects(a.ipam.requestPool({ subnet: '192.168.50.128/25', shared: true }), { code: 'WEFT-SUBNET-OVERLAP' }, 'another pool\'s is another network\'s');
  t.equal((await a.ipam.requestPool({ shared: true })).subnet, '10.192.0.0/24', 'one that is chosen is nobody\'s');
});

void test('a network without addresses', async (t) => {
  const { store, a } = await open(t);
  for (const subnet of ['0.0.0.0/0', '::/0']) {
    t.same(await a.ipam.requestPool({ subnet }), { subnet });
    await a.ipam.reserve(subnet, { gateway: '10.0.0.1' });
    t.equal(await ask(a, subnet), subnet);
    await t.rejects(ask(a, subnet, { address: '10.0.0.7' }), { code: 'WEFT-ADDRESS-OUTSIDE' });
    await a.ipam.releaseAddress(subnet, subnet.split('/')[0]!);
    await a.ipam.releasePool(subnet);
  }
  t.same((await store.range('')).entries, []);
});
