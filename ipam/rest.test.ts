import { test } from 'tap';
import { ask, askMany, askUntilRefused, open } from './requests-for-tests.ts';

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

void test('rest: an address that becomes the network\'s own does not rest', async (t) => {
  const { a, b } = await open(t, { restMs: 60_000 });
  const { subnet } = await a.ipam.requestPool({ subnet: '10.3.0.0/29' });
  t.equal(await ask(a, subnet, { address: '10.3.0.5' }), '10.3.0.5/29');
  await t.rejects(a.ipam.reserve(subnet, { 'aux:printer': '10.3.0.5' }), { code: 'WEFT-ADDRESS-IN-USE' });
  await a.ipam.releaseAddress(subnet, '10.3.0.5');
  await a.ipam.reserve(subnet, { 'aux:printer': '10.3.0.5' });
  t.match(a.ipam.usage(), [{ used: 0, resting: 0 }]);
  await t.rejects(ask(a, subnet, { address: '10.3.0.5' }), { code: 'WEFT-ADDRESS-IN-USE', message: /aux:printer/ });
  t.same((await askMany(a, subnet, 5)).includes('10.3.0.5/29'), false);
  await a.restart();
  t.match(a.ipam.usage(), [{ used: 5, resting: 0 }], 'also after a restart');
  await t.rejects(ask(b, subnet), { code: 'WEFT-POOL-EXHAUSTED' });
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
