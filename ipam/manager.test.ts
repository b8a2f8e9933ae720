import { join } from 'node:path';
import { type Test, test } from 'tap';
import { silentLogger as log } from '../base/log.ts';
import { VirtualClock } from '../base/virtual-clock.ts';
import { openSqliteStore } from '../store/sqlite.ts';
import type { Store } from '../store/store.ts';
import type { AddressManagerOptions } from './manager.ts';
import { type Scene, type SceneNode, scene } from './scene-for-tests.ts';

interface Opened extends Scene { store: Store; a: SceneNode; b: SceneNode }

async function open(t: Test, options: Partial<Omit<AddressManagerOptions, 'clock'>> & { count?: number } = {}): Promise<Opened> {
  const folder = t.testdir();
  const clock = new VirtualClock();
  const store = openSqliteStore(join(folder, 'store.db'), { clock, log });
  const made = await scene(folder, store, { count: 2, clock, ...options });
  t.teardown(async () => {
    made.close();
    await store.close();
  });
  return { ...made, store, a: made.nodes[0]!, b: made.nodes[1]! };
}

let serial = 0;
const ask = (node: SceneNode, subnet: string, more: { address?: string; range?: string; holder?: string; chooser?: 'weft' | 'docker'; network?: string } = {}): Promise<string> =>
  node.ipam.requestAddress({ subnet, holder: `h${serial++}`, chooser: 'weft', ...more });

async function askMany(node: SceneNode, subnet: string, count: number): Promise<string[]> {
  const found: string[] = [];
  for (let i = 0; i < count; i++) found.push(await ask(node, subnet));
  return found;
}

async function askUntilRefused(node: SceneNode, subnet: string, code: string, t: Test): Promise<string[]> {
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

void test('pools: chosen ones differ, asked-for ones must be free', async (t) => {
  const { a, b } = await open(t, { occupied: () => [{ prefix: '10.192.1.0/25', by: 'the route by eth1 on node c' }] });
  const chosen = await Promise.all([a, b, a, b, a].map(({ ipam }) => ipam.requestPool({})));
  t.same(chosen.map(({ subnet }) => subnet).sort(), [0, 2, 3, 4, 5].map((i) => `10.192.${i}.0/24`));
  t.same(await a.ipam.requestPool({ subnet: '172.20.3.9/16', range: '172.20.8.0/21' }), { subnet: '172.20.0.0/16', range: '172.20.8.0/21' });
  for (const subnet of ['172.20.0.0/16', '172.20.9.0/24', '172.0.0.0/8']) {
    await t.rejects(b.ipam.requestPool({ subnet }), { code: 'WEFT-SUBNET-OVERLAP', message: /172\.20\.0\.0\/16 \(a pool made on node host-0\).*10\.192\.6\.0\/24/ });
  }
  await t.rejects(b.ipam.requestPool({ subnet: '10.192.0.0/16' }), { code: 'WEFT-SUBNET-OVERLAP' });
  await t.rejects(b.ipam.requestPool({ subnet: '10.192.1.0/24' }), { message: /the route by eth1 on node c/ });
  t.same(await b.ipam.requestPool({ subnet: '172.20.0.0/16', existing: true }), { subnet: '172.20.0.0/16', range: '172.20.8.0/21' });
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
  t.same(await a.ipam.requestPool({}), { subnet });
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

void test('pools: while the store is away nothing is left half made', async (t) => {
  const { store, clock, a } = await open(t);
  a.link = 'answers-lost';
  await t.rejects(a.ipam.requestPool({ subnet: '10.1.0.0/24' }), { code: 'WEFT-STORE-UNREACHABLE' });
  a.link = 'up';
  t.same(await a.ipam.requestPool({ subnet: '10.1.0.0/24' }), { subnet: '10.1.0.0/24' }, 'repeated');
  await ask(a, '10.1.0.0/24');
  a.link = 'down';
  await t.rejects(a.ipam.releasePool('10.1.0.0/24'), { code: 'WEFT-STORE-UNREACHABLE' });
  t.same(await a.ipam.requestPool({ subnet: '10.1.0.0/24', existing: true }), { subnet: '10.1.0.0/24' });
  await clock.advance(15_000);
  a.link = 'up';
  await clock.advance(15_000);
  t.equal(await store.get('pools/10.1.0.0_24'), undefined, 'made good when the store is back');
  t.same((await store.range('blocks/')).entries, []);
  t.same(a.local.list(''), []);
});

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

void test('rest: a released address is handed out when there is no other, and then only where it was', async (t) => {
  const { clock, a, b } = await open(t, { restMs: 60_000 });
  const { subnet } = await a.ipam.requestPool({ subnet: '10.3.0.0/29' });
  await a.ipam.reserve(subnet, { gateway: '10.3.0.1' });
  const free = (last: number): Promise<void> => a.ipam.releaseAddress(subnet, `10.3.0.${last}`);
  t.same(await askMany(a, subnet, 5), [6, 5, 4, 3, 2].map((last) => `10.3.0.${last}/29`));
  await free(4);
  await free(4);
  await clock.advance(20_000);
  await free(6);
  t.equal(await ask(a, subnet, { address: '10.3.0.6' }), '10.3.0.6/29', 'who had it gets it by name at once');
  await free(6);
  await clock.advance(20_000);
  await t.rejects(ask(b, subnet), { code: 'WEFT-POOL-EXHAUSTED', message: /host-0 has 5/ }, 'not yet another node\'s');
  await t.rejects(ask(b, subnet, { address: '10.3.0.4' }), { code: 'WEFT-ADDRESS-FOREIGN' });
  await a.restart();
  await clock.advance(59_000);
  await t.rejects(ask(b, subnet), { code: 'WEFT-POOL-EXHAUSTED' }, 'a restart begins the rest anew');
  await clock.advance(2_000);
  t.equal(await ask(b, subnet), '10.3.0.4/29');
  t.equal(await ask(a, subnet), '10.3.0.6/29');
  await a.ipam.releaseAddress('10.77.0.0/24', '10.77.0.1');
  await a.ipam.releaseAddress(subnet, 'rubbish');
});

void test('rest: repeats at once by one holder get one address', async (t) => {
  const { a } = await open(t);
  const { subnet } = await a.ipam.requestPool({ subnet: '10.3.0.0/29' });
  for (const address of await askUntilRefused(a, subnet, 'WEFT-POOL-EXHAUSTED', t)) await a.ipam.releaseAddress(subnet, address.split('/')[0]!);
  for (const link of ['up', 'down'] as const) {
    a.link = link;
    const given = await Promise.all(Array.from({ length: 3 }, () => ask(a, subnet, { holder: link })));
    t.equal(new Set(given).size, 1, link);
  }
});

void test('rest: a container that crashes all the time never runs dry', async (t) => {
  const { clock, a, b } = await open(t);
  const { subnet } = await a.ipam.requestPool({ subnet: '10.3.0.0/29' });
  await a.ipam.reserve(subnet, { gateway: '10.3.0.1' });
  const other = await ask(b, subnet);
  const given = new Map<string, number>();
  for (let i = 0; i < 200; i++) {
    if (i === 100) a.link = 'down';
    const address = await ask(a, subnet);
    t.not(address, other);
    const last = given.get(address);
    if (last !== undefined && i < 150 && clock.now() - last < 400) t.fail(`${address} again after ${clock.now() - last} ms while others had rested longer`);
    given.set(address, clock.now());
    if (i === 150) await a.restart();
    await a.ipam.releaseAddress(subnet, address.split('/')[0]!);
    await clock.advance(100);
  }
  t.equal(given.size, 4);
});

void test('addresses are not used again at once although they have rested', async (t) => {
  const { clock, a } = await open(t, { restMs: 0 });
  const { subnet } = await a.ipam.requestPool({ subnet: '10.3.0.0/24' });
  const seen = [];
  for (let i = 0; i < 15; i++) {
    const address = await ask(a, subnet);
    seen.push(address);
    await a.ipam.releaseAddress(subnet, address.split('/')[0]!);
    await clock.advance(1);
  }
  t.equal(new Set(seen).size, 15);
  t.equal(await ask(a, subnet), seen[0]);
});

void test('borrowing: a block that is not in use goes to the node that needs it, and only one', async (t) => {
  const { clock, store, a, b } = await open(t, { count: 3 });
  const { subnet } = await a.ipam.requestPool({ subnet: '10.3.0.0/24' });
  const given = await askUntilRefused(a, subnet, 'WEFT-POOL-EXHAUSTED', t);
  t.equal(given.length, 254);
  await t.rejects(ask(b, subnet), { code: 'WEFT-POOL-EXHAUSTED', message: /host-0 has 16/ });
  for (const address of given.slice(15, 15 + 16 * 2)) await a.ipam.releaseAddress(subnet, address.split('/')[0]!);
  await t.rejects(ask(b, subnet), { code: 'WEFT-POOL-EXHAUSTED' }, 'not before its addresses have rested');
  await clock.advance(60_000);
  t.equal(await ask(b, subnet), '10.3.0.223/24');
  t.match([a.ipam.usage()[0]!.blocks, b.ipam.usage()[0]!.blocks], [15, 1]);
  t.equal(await ask(a, subnet), '10.3.0.239/24', 'it has some left itself');
  await b.restart();
  t.equal(await ask(b, subnet), '10.3.0.222/24');
  t.same((await store.range('wants/')).entries, []);
  t.same([a.warnings, b.warnings], [[], []]);
});

void test('borrowing: an address by name moves with its container to another node', async (t) => {
  const { clock, a, b } = await open(t);
  const { subnet } = await a.ipam.requestPool({ subnet: '10.3.0.0/28' });
  t.equal(await ask(a, subnet, { address: '10.3.0.7' }), '10.3.0.7/28');
  await t.rejects(ask(b, subnet, { address: '10.3.0.7' }), { code: 'WEFT-ADDRESS-FOREIGN', message: /host-0/ });
  await a.ipam.releaseAddress(subnet, '10.3.0.7');
  await clock.advance(60_000);
  t.equal(await ask(b, subnet, { address: '10.3.0.7' }), '10.3.0.7/28');
  await t.rejects(ask(a, subnet, { address: '10.3.0.7' }), { code: 'WEFT-ADDRESS-FOREIGN', message: /host-1/ });
});

void test('borrowing: at once by many, nobody gets what another has', async (t) => {
  const { clock, nodes, a } = await open(t, { count: 5 });
  const { subnet } = await a.ipam.requestPool({ subnet: '10.3.0.0/26' });
  const first = await askUntilRefused(a, subnet, 'WEFT-POOL-EXHAUSTED', t);
  for (const address of first) await a.ipam.releaseAddress(subnet, address.split('/')[0]!);
  await clock.advance(60_000);
  const results = await Promise.allSettled(nodes.flatMap((node) => Array.from({ length: 20 }, () => ask(node, subnet))));
  const given = results.flatMap((result) => (result.status === 'fulfilled' ? [result.value] : []));
  t.equal(new Set(given).size, given.length);
  t.ok(given.length > 62 - 4, `all are found, but for those in a block that is in use (${given.length})`);
});

void test('borrowing: a node that says nothing is waited for 2 s, once', async (t) => {
  const { clock, a, b } = await open(t);
  const { subnet } = await a.ipam.requestPool({ subnet: '10.3.0.0/29' });
  await askUntilRefused(a, subnet, 'WEFT-POOL-EXHAUSTED', t);
  a.link = 'down';
  const refused = t.rejects(ask(b, subnet), { code: 'WEFT-POOL-EXHAUSTED' });
  let settled = false;
  void refused.then(() => { settled = true; });
  await clock.advance(1_900);
  t.notOk(settled);
  await clock.advance(200);
  t.ok(settled);
  await t.rejects(ask(b, subnet), { code: 'WEFT-POOL-EXHAUSTED' }, 'at once');
  await a.ipam.releaseAddress(subnet, '10.3.0.6');
  await clock.advance(60_000);
  a.link = 'up';
  t.equal(await ask(b, subnet), '10.3.0.6/29');
});

void test('borrowing: a gift whose answer was lost, or that comes late, is nobody\'s twice', async (t) => {
  const { clock, store, a, b } = await open(t);
  const { subnet } = await a.ipam.requestPool({ subnet: '10.3.0.0/28' });
  for (const address of await askUntilRefused(a, subnet, 'WEFT-POOL-EXHAUSTED', t)) await a.ipam.releaseAddress(subnet, address.split('/')[0]!);
  await clock.advance(60_000);
  // The gift is held up on its way; its sender hears that the store does not answer.
  const txn = store.txn.bind(store);
  let late: Parameters<Store['txn']> | undefined;
  store.txn = async (...args) => {
    if (!late && args[1].some((write) => 'put' in write && write.put.startsWith('blocks/') && write.value.includes('"node1"'))) {
      late = args;
      throw new Error('cut off');
    }
    return txn(...args);
  };
  const refused = t.rejects(ask(b, subnet), { code: 'WEFT-POOL-EXHAUSTED' });
  await clock.advance(0);
  const given = await askMany(a, subnet, 14);
  t.ok(late);
  t.equal((await txn(...late!)).succeeded, false, 'the block was claimed again meanwhile');
  await clock.advance(2_000);
  await refused;
  t.equal(new Set(given).size, 14);
  store.txn = txn;
});

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
  const folder = t.testdir();
  const clock = new VirtualClock();
  const newer: Store = openSqliteStore(join(folder, 'newer.db'), { clock, log });
  const older: Store = openSqliteStore(join(folder, 'older.db'), { clock, log });
  let current = newer;
  const store: Store = {
    ...newer,
    get: (key) => current.get(key), range: (prefix) => current.range(prefix), txn: (...args) => current.txn(...args), lease: (ttl) => current.lease(ttl),
    watch: (prefix, onEvent) => current.watch(prefix, onEvent),
  };
  const made = await scene(folder, store, { count: 2, clock, usedElsewhere: () => seen });
  const [a, b] = made.nodes as [SceneNode, SceneNode];
  t.teardown(async () => {
    made.close();
    await newer.close();
    await older.close();
  });
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

void test('a /16 and a /8', async (t) => {
  const { a, b } = await open(t);
  await a.ipam.requestPool({ subnet: '10.4.0.0/16' });
  t.equal(await ask(a, '10.4.0.0/16'), '10.4.255.254/16');
  t.equal(await ask(b, '10.4.0.0/16'), '10.4.254.255/16');
  await a.ipam.requestPool({ subnet: '11.0.0.0/8' });
  t.equal(await ask(a, '11.0.0.0/8'), '11.255.255.254/8');
});
