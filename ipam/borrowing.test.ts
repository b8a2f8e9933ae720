import { test } from 'tap';
import type { Store } from '../store/store.ts';
import { ask, askMany, askUntilRefused, open } from './requests-for-tests.ts';

void test('a block that is not in use goes to the node that needs it, and only one', async (t) => {
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

void test('an address by name moves with its container to another node', async (t) => {
  const { clock, a, b } = await open(t);
  const { subnet } = await a.ipam.requestPool({ subnet: '10.3.0.0/28' });
  t.equal(await ask(a, subnet, { address: '10.3.0.7' }), '10.3.0.7/28');
  await t.rejects(ask(b, subnet, { address: '10.3.0.7' }), { code: 'WEFT-ADDRESS-FOREIGN', message: /host-0/ });
  await a.ipam.releaseAddress(subnet, '10.3.0.7');
  await clock.advance(60_000);
  t.equal(await ask(b, subnet, { address: '10.3.0.7' }), '10.3.0.7/28');
  await t.rejects(ask(a, subnet, { address: '10.3.0.7' }), { code: 'WEFT-ADDRESS-FOREIGN', message: /host-1/ });
});

void test('at once by many, nobody gets what another has', async (t) => {
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

void test('a node that says nothing is waited for 2 s, once', async (t) => {
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

void test('a gift whose answer was lost, or that comes late, is nobody\'s twice', async (t) => {
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
