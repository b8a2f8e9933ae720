import { type Test, test } from 'tap';
import { HOST_HOLDER } from './ipam.ts';
import { check, type CheckedEndpoint, type CheckFacts, type Finding } from './check.ts';
import { open } from './requests-for-tests.ts';

const subnet = '10.3.0.0/24';
const [A, B] = [{ id: 'node0', name: 'host-0' }, { id: 'node1', name: 'host-1' }];

async function checked(t: Test) {
  const { store, clock, a, b } = await open(t);
  await a.ipam.requestPool({ subnet });
  return {
    store, clock, a, b,
    facts: async (more?: Partial<CheckFacts>): Promise<CheckFacts> => ({
      now: clock.wallNow(), node: A, survey: await a.ipam.upkeep.survey(), nodes: [A, B], networks: new Map([[subnet, 'web']]), foreign: new Map(),
      endpoints: [], inKernel: new Map(), ...more,
    }),
  };
}

const at = (node: typeof A, id: string, address: string): CheckedEndpoint => ({ id, name: id, node, address });
const kinds = (findings: Finding[]): string[] => findings.map(({ kind }) => kind);

void test('a healthy cluster has no findings', async (t) => {
  const { clock, a, b, facts } = await checked(t);
  await a.ipam.reserve(subnet, { gateway: '10.3.0.1' });
  const [mine, theirs] = [await a.ipam.requestAddress({ subnet, holder: 'x', chooser: 'weft' }), await b.ipam.requestAddress({ subnet, holder: 'y', chooser: 'weft' })];
  await clock.advance(100_000);
  const endpoints = [at(A, 'x', mine.split('/')[0]!), at(B, 'y', theirs.split('/')[0]!), at(B, 'z', '192.168.7.7')];
  t.same(check(await facts({ endpoints, inKernel: new Map([['x', ['127.0.0.1', '10.3.0.254']]]) })), []);
});

void test('leaks: what nobody has is released, and nothing that changed since the report', async (t) => {
  const { clock, a, facts } = await checked(t);
  await a.ipam.requestAddress({ subnet, holder: 'x', chooser: 'weft' });
  t.same(check(await facts()), [], 'its endpoint may be on its way');
  await clock.advance(60_000);
  const [leak] = check(await facts());
  t.match(leak, { kind: 'leak', text: /10\.3\.0\.254/, repair: { do: 'release', address: '10.3.0.254' } });
  t.same(check(await facts({ networks: new Map() })).filter(({ kind }) => kind === 'leak'), [], 'not where endpoints are unknown');
  await a.ipam.releaseAddress(subnet, '10.3.0.254');
  await clock.advance(100_000);
  await a.ipam.requestAddress({ subnet, holder: 'x', address: '10.3.0.254', chooser: 'weft' });
  await clock.advance(60_000);
  t.not(check(await facts())[0]!.id, leak!.id);
  await a.ipam.requestAddress({ subnet, holder: HOST_HOLDER, chooser: 'weft' });
  await clock.advance(60_000);
  t.equal(check(await facts()).length, 1, 'what the node has itself belongs to no endpoint');
});

void test('orphans: pools without a network, blocks without a pool, blocks of nodes that are gone', async (t) => {
  const { store, clock, a, b, facts } = await checked(t);
  await b.ipam.requestAddress({ subnet, holder: 'y', chooser: 'weft' });
  await store.txn([], [{ put: 'blocks/10.9.0.0_24/3', value: JSON.stringify({ node: 'node1', name: 'host-1', pool: 'gone', chooser: 'weft' }) }]);
  await store.txn([], [{ put: 'blocks/10.3.0.0_24/3', value: JSON.stringify({ node: 'node1', name: 'host-1', pool: 'earlier', chooser: 'weft' }) }]);
  const stale = check(await facts());
  t.same(kinds(stale), ['orphan', 'orphan']);
  for (const { repair } of stale) if (repair?.do === 'remove-block') t.ok(await a.ipam.upkeep.removeBlock(repair.block));
  for (const { repair } of stale) if (repair?.do === 'remove-block') t.notOk(await a.ipam.upkeep.removeBlock(repair.block), 'once');
  t.same(check(await facts()), []);
  t.match(check(await facts({ nodes: [A] })), [{ kind: 'orphan', text: /1 blocks of 10\.3\.0\.0\/24 belong to node host-1/, fix: 'weft ipam reclaim node1', repair: undefined }]);
  t.same(check(await facts({ networks: new Map() })), [], 'a network may be on its way');
  await clock.advance(60_000);
  t.match(check(await facts({ networks: new Map() })), [{ kind: 'orphan', repair: { do: 'remove-pool' } }]);
  t.same(check(await facts({ networks: new Map(), foreign: new Map([[subnet, 'macvlan-net']]) })), []);
  t.same(check(await facts({ networks: new Map(), node: B })), [], 'only its maker can tell');
});

void test('blocks: store and node disagree', async (t) => {
  const { store, a, b, facts } = await checked(t);
  await a.ipam.requestAddress({ subnet, holder: 'x', chooser: 'weft' });
  await store.txn([], [{ delete: 'blocks/10.3.0.0_24/15' }, { put: 'blocks/10.3.0.0_24/2', value: JSON.stringify({ node: 'node0', name: 'host-0', pool: (await facts()).survey.pools[0]!.id, chooser: 'weft' }) }]);
  t.match(check(await facts()), [{ kind: 'block', text: /10\.3\.0\.240-10\.3\.0\.255/ }, { kind: 'block', text: /10\.3\.0\.32-10\.3\.0\.47/ }]);
  await a.ipam.upkeep.compare(subnet);
  t.same(check(await facts()), []);
  t.match(a.ipam.usage(), [{ blocks: 2, used: 1 }]);
  t.same(b.warnings, []);
});

void test('endpoints: unclaimed, in another\'s block, twice', async (t) => {
  const { a, b, facts } = await checked(t);
  await a.ipam.reserve(subnet, { gateway: '10.3.0.1' });
  await a.ipam.requestAddress({ subnet, holder: 'x', chooser: 'weft' });
  await b.ipam.requestAddress({ subnet, holder: 'y', chooser: 'weft' });
  t.match(check(await facts({ endpoints: [at(A, 'x', '10.3.0.254'), at(A, 'u', '10.3.0.250')] })), [{ kind: 'unclaimed', repair: { do: 'claim', address: '10.3.0.250', endpointId: 'u' } }]);
  t.match(check(await facts({ endpoints: [at(B, 'e', '10.3.0.251')] })), [{ kind: 'elsewhere', text: /from a block of node host-0/ }]);
  t.match(check(await facts({ endpoints: [at(B, 'e', '10.3.0.20')] })), [{ kind: 'elsewhere', text: /of nobody/ }]);
  const twice = check(await facts({ endpoints: [at(A, 'x', '10.3.0.254'), at(B, 'z', '10.3.0.254')] }));
  t.match(twice, [{ kind: 'duplicate', text: 'x on host-0 and by z on host-1', repair: undefined }, { kind: 'elsewhere' }]);
  t.match(check(await facts({ endpoints: [at(A, 'g', '10.3.0.1')] })).find(({ kind }) => kind === 'duplicate')?.text, /the network itself \(gateway\)/);
});

void test('the kernel: an address that is missing there, and one that was not given', async (t) => {
  const { a, facts } = await checked(t);
  await a.ipam.requestAddress({ subnet, holder: 'x', chooser: 'weft' });
  const endpoints = [at(A, 'x', '10.3.0.254')];
  t.match(check(await facts({ endpoints, inKernel: new Map([['x', ['10.3.0.77', '127.0.0.1']]]) })), [{ text: /does not have it/ }, { text: /10\.3\.0\.77 of 10\.3\.0\.0\/24/ }]);
});

void test('reclaiming: the blocks of a node become free for others, and its return is not overlooked', async (t) => {
  const { store, clock, a, b } = await checked(t);
  for (let i = 0; i < 40; i++) await b.ipam.requestAddress({ subnet, holder: `y${i}`, chooser: 'weft' });
  b.link = 'down';
  t.equal(await a.ipam.upkeep.reclaim('node1'), 3);
  t.equal(await a.ipam.upkeep.reclaim('node1'), 0);
  t.same((await store.range('blocks/')).entries, []);
  t.equal(await a.ipam.requestAddress({ subnet, holder: 'x', chooser: 'weft' }), '10.3.0.254/24');
  b.link = 'up';
  await clock.advance(15_000);
  t.match(b.warnings.join('\n'), /belongs to another node now/);
});
