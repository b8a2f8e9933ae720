import { test } from 'tap';
import { ask, askMany, askUntilRefused, open } from './requests-for-tests.ts';
import type { SceneNode } from './scene-for-tests.ts';

void test('addresses: from the top, a block for each node, none twice', async (t) => {
  const { a, b } = await open(t);
  const { subnet } = await a.ipam.requestPool({});
  await a.ipam.reserve(subnet, { gateway: '10.192.0.1' });
  const first = await askMany(a, subnet, 15);
  t.same(first.slice(0, 3), ['10.192.0.254/24', '10.192.0.253/24', '10.192.0.252/24']);
  t.equal(await ask(b, subnet), '10.192.0.239/24');
  t.same(await askMany(a, subnet, 2), ['10.192.0.223/24', '10.192.0.222/24'], 'the next block down');
  t.same(a.ipam.usage(), [{ subnet, blocks: 2, used: 17, resting: 0, free: 14 }]);
  const [restA, restB] = await Promise.all([askUntilRefused(a, subnet, 'WEFT-POOL-EXHAUSTED', t), askUntilRefused(b, subnet, 'WEFT-POOL-EXHAUSTED', t)]);
  const all = new Set([...first, ...restA!, ...restB!]);
  t.equal(all.size, 15 + restA!.length + restB!.length);
  t.equal(all.size + 3, 253, 'all but network, broadcast and gateway');
});

void test('addresses: at once in one process, none twice, and no more blocks than needed', async (t) => {
  const { a } = await open(t);
  const { subnet } = await a.ipam.requestPool({});
  const found = await Promise.all(Array.from({ length: 40 }, () => ask(a, subnet)));
  t.equal(new Set(found).size, 40);
  t.equal(a.ipam.usage()[0]!.blocks, 3);
  const same = await Promise.all(Array.from({ length: 5 }, () => ask(a, subnet, { holder: 'one' })));
  t.equal(new Set(same).size, 1, 'repeats by one holder get one address');
});

void test('addresses: small pools', async (t) => {
  const { a, b } = await open(t);
  const expected = {
    '10.2.0.0/29': ['10.2.0.6', '10.2.0.5', '10.2.0.4', '10.2.0.3', '10.2.0.2'], '10.2.1.0/30': ['10.2.1.2'],
    '10.2.2.0/31': ['10.2.2.1'], '10.2.3.0/32': [],
  };
  for (const [subnet, addresses] of Object.entries(expected)) {
    await a.ipam.requestPool({ subnet });
    const [base, length] = subnet.split('/') as [string, string];
    const gateway = length === '32' || length === '31' ? base : base.replace(/0$/, '1');
    await a.ipam.reserve(subnet, { gateway });
    const [fromA, fromB] = await Promise.all([askUntilRefused(a, subnet, 'WEFT-POOL-EXHAUSTED', t), askUntilRefused(b, subnet, 'WEFT-POOL-EXHAUSTED', t)]);
    t.same([...fromA!, ...fromB!].sort(), addresses.map((address) => `${address}/${length}`).sort(), subnet);
  }
  await a.ipam.requestPool({ subnet: '10.2.4.0/32' });
  t.equal(await ask(a, '10.2.4.0/32'), '10.2.4.0/32');
});

void test('addresses: a range restricts what is handed out, not what may be asked for', async (t) => {
  const { a, b } = await open(t);
  const { subnet } = await a.ipam.requestPool({ subnet: '10.3.0.0/24', range: '10.3.0.64/30' });
  await b.ipam.requestPool({ subnet, existing: true });
  const found = [...await askUntilRefused(a, subnet, 'WEFT-POOL-EXHAUSTED', t), ...await askUntilRefused(b, subnet, 'WEFT-POOL-EXHAUSTED', t)];
  t.same(found.sort(), [64, 65, 66, 67].map((i) => `10.3.0.${i}/24`));
  t.equal(await ask(b, subnet, { range: '10.3.0.128/25' }), '10.3.0.254/24');
  t.equal(await ask(a, subnet, { address: '10.3.0.70' }), '10.3.0.70/24');
  await t.rejects(ask(a, subnet, { range: '10.4.0.0/25' }), { code: 'WEFT-RANGE-OUTSIDE' });
});

void test('addresses: asked for by name', async (t) => {
  const { a, b } = await open(t);
  const { subnet } = await a.ipam.requestPool({ subnet: '10.3.0.0/24' });
  t.equal(await ask(a, subnet, { address: '10.3.0.40', holder: 'x' }), '10.3.0.40/24');
  t.equal(await ask(a, subnet, { address: '10.3.0.40', holder: 'x' }), '10.3.0.40/24', 'a repeat');
  t.equal(await ask(a, subnet, { holder: 'x' }), '10.3.0.40/24', 'a repeat without it');
  await t.rejects(ask(a, subnet, { address: '10.3.0.40', holder: 'y' }), { code: 'WEFT-ADDRESS-IN-USE', message: /in use by x/ });
  await t.rejects(ask(b, subnet, { address: '10.3.0.41' }), { code: 'WEFT-ADDRESS-FOREIGN', message: /host-0 \(node0\)/ });
  for (const address of ['10.3.0.0', '10.3.0.255', '10.3.1.1']) await t.rejects(ask(a, subnet, { address }), { code: 'WEFT-ADDRESS-OUTSIDE' });
  await t.rejects(ask(a, subnet, { address: '10.3.0.07' }), { code: 'WEFT-ADDRESS-MALFORMED' });
  await t.rejects(ask(a, '10.9.0.0/24'), { code: 'WEFT-POOL-UNKNOWN' });
});

void test('addresses: reserved ones are nobody\'s, on every node', async (t) => {
  const { clock, a, b } = await open(t);
  const { subnet } = await a.ipam.requestPool({ subnet: '10.3.0.0/29' });
  await a.ipam.reserve(subnet, { gateway: '10.3.0.6', 'aux:printer': '10.3.0.5' });
  await a.ipam.reserve(subnet, { gateway: '10.3.0.6' });
  t.equal(await ask(b, subnet), '10.3.0.4/29', 'also where the news has not come yet');
  await t.rejects(ask(b, subnet, { address: '10.3.0.6' }), { code: 'WEFT-ADDRESS-IN-USE', message: /gateway/ });
  t.equal(await ask(b, subnet, { address: '10.3.0.6', holder: 'gateway' }), '10.3.0.6/29');
  await t.rejects(b.ipam.reserve(subnet, { 'aux:late': '10.3.0.4' }), { code: 'WEFT-ADDRESS-IN-USE' });
  await t.rejects(a.ipam.reserve(subnet, { 'aux:late': '10.3.0.4' }), { code: 'WEFT-ADDRESS-IN-USE', message: /host-1/ });
  for (const address of ['10.3.0.7', '10.4.0.1']) await t.rejects(a.ipam.reserve(subnet, { gateway: address }), { code: 'WEFT-ADDRESS-OUTSIDE' });
  await b.ipam.reserve(subnet, { 'aux:more': '10.3.0.3' });
  await clock.advance(0);
  t.same(await askUntilRefused(a, subnet, 'WEFT-POOL-EXHAUSTED', t), ['10.3.0.2/29', '10.3.0.1/29']);
  await b.restart();
  await t.rejects(ask(b, subnet, { address: '10.3.0.3' }), { code: 'WEFT-ADDRESS-IN-USE', message: /aux:more/ });
});

void test('addresses: reserved at once, by one node and by several, none is lost', async (t) => {
  const { store, a, b } = await open(t);
  const { subnet } = await a.ipam.requestPool({ subnet: '10.3.0.0/28' });
  await Promise.all([1, 2, 3, 4, 5, 6].map((i) => (i > 3 ? a : b).ipam.reserve(subnet, { [`aux:${i}`]: `10.3.0.${i}` })));
  const { reserved } = JSON.parse((await store.get('pools/10.3.0.0_28'))!.value) as { reserved: object };
  t.same(Object.keys(reserved).sort(), [1, 2, 3, 4, 5, 6].map((i) => `10.3.0.${i}`));
});

void test('addresses: one that is being reserved is not handed out meanwhile', async (t) => {
  const { store, a, b } = await open(t);
  const { subnet } = await a.ipam.requestPool({ subnet: '10.3.0.0/24' });
  await ask(a, subnet);
  const txn = store.txn.bind(store);
  let letGo = (): void => {};
  store.txn = async (...args) => {
    await new Promise<void>((resolve) => { letGo = resolve; });
    return txn(...args);
  };
  const reserving = a.ipam.reserve(subnet, { 'aux:x': '10.3.0.253' });
  await new Promise((resolve) => { setImmediate(resolve); });
  store.txn = txn;
  await t.rejects(ask(a, subnet, { address: '10.3.0.253' }), { code: 'WEFT-ADDRESS-IN-USE' });
  t.equal(await ask(a, subnet), '10.3.0.252/24');
  await t.rejects(ask(b, subnet, { address: '10.3.0.253' }), { code: 'WEFT-ADDRESS-FOREIGN' });
  letGo();
  await reserving;
  await t.rejects(ask(b, subnet, { address: '10.3.0.253' }), { code: 'WEFT-ADDRESS-IN-USE' });
});

void test('addresses: Docker chooses from the bottom, other nodes from the top, and meet with an error', async (t) => {
  const { a, b } = await open(t);
  const { subnet } = await a.ipam.requestPool({ subnet: '10.3.0.0/24' });
  await a.ipam.reserve(subnet, { gateway: '10.3.0.1' });
  const docker = (node: SceneNode, address: string): Promise<string> => ask(node, subnet, { address, chooser: 'docker', network: 'web' });
  t.equal(await docker(a, '10.3.0.2'), '10.3.0.2/24');
  t.equal(await ask(b, subnet), '10.3.0.254/24');
  t.equal(await docker(a, '10.3.0.3'), '10.3.0.3/24');
  await t.rejects(docker(a, '10.3.0.3'), { code: 'WEFT-ADDRESS-IN-USE' });
  await t.rejects(docker(a, '10.3.0.1'), { code: 'WEFT-ADDRESS-IN-USE' });
  await t.rejects(docker(a, '10.3.0.250'), {
    code: 'WEFT-ADDRESS-ELSEWHERE',
    message: /host-1 \(node1\).*docker network rm web && docker network create -d weft-overlay --ipam-driver weft --subnet 10\.3\.0\.0\/24 --gateway 10\.3\.0\.1 web/,
  });
  t.equal(await ask(a, subnet), '10.3.0.239/24', 'Weft stays out of the blocks that Docker chooses from');
  await a.restart();
  t.equal(await ask(a, subnet), '10.3.0.238/24');
});

void test('IPv6: pools, blocks, addresses by name', async (t) => {
  const { a, b } = await open(t);
  const [first, second] = [await a.ipam.requestPool({ family: 6 }), await b.ipam.requestPool({ family: 6 })];
  t.match(first.subnet, /^fd[0-9a-f:]+::\/64$/);
  t.not(second.subnet, first.subnet);
  t.equal(second.subnet.split(':').slice(0, 3).join(), first.subnet.split(':').slice(0, 3).join(), 'of one prefix in the whole cluster');
  const { subnet } = await a.ipam.requestPool({ subnet: 'fd00:7::9/64', range: 'fd00:7:0:0:8000::/65' });
  t.equal(subnet, 'fd00:7::/64');
  await t.rejects(b.ipam.requestPool({ subnet: 'fd00:7::/72' }), { code: 'WEFT-SUBNET-OVERLAP', message: /fd00:7::\/64/ });
  await a.ipam.reserve(subnet, { gateway: 'FD00:7:0::1' });
  t.equal(await ask(a, subnet), 'fd00:7::ffff:ffff:ffff:ffff/64', 'of the range');
  t.equal(await ask(b, subnet), 'fd00:7::ffff:ffff:fffe:ffff/64');
  t.equal(await ask(b, subnet, { address: 'fd00:7:0:0::0a', holder: 'x' }), 'fd00:7::a/64');
  t.equal(await ask(b, subnet, { holder: 'x' }), 'fd00:7::a/64');
  await t.rejects(ask(b, subnet, { address: 'fd00:7::1' }), { code: 'WEFT-ADDRESS-IN-USE', message: /gateway/ });
  await t.rejects(ask(b, subnet, { address: 'fd00:7::' }), { code: 'WEFT-ADDRESS-OUTSIDE' });
  await t.rejects(ask(b, subnet, { address: '10.0.0.1' }), { code: 'WEFT-ADDRESS-OUTSIDE' });
  await b.restart();
  t.match(b.ipam.usage().find((each) => each.subnet === subnet), { blocks: 2, used: 2 });
  t.equal(await ask(a, first.subnet), first.subnet.replace('::/64', '::ffff:fffe/64'), 'short enough to be read');
  await a.ipam.requestPool({ subnet: 'fd00:9::/126' });
  await a.ipam.reserve('fd00:9::/126', { gateway: 'fd00:9::1' });
  const both = await Promise.all([a, b].map((node) => askUntilRefused(node, 'fd00:9::/126', 'WEFT-POOL-EXHAUSTED', t)));
  t.same(both.flat().sort(), ['fd00:9::2/126', 'fd00:9::3/126']);
});

void test('a /16 and a /8', async (t) => {
  const { a, b } = await open(t);
  await a.ipam.requestPool({ subnet: '10.4.0.0/16' });
  t.equal(await ask(a, '10.4.0.0/16'), '10.4.255.254/16');
  t.equal(await ask(b, '10.4.0.0/16'), '10.4.254.255/16');
  await a.ipam.requestPool({ subnet: '11.0.0.0/8' });
  t.equal(await ask(a, '11.0.0.0/8'), '11.255.255.254/8');
});
