import { test, type Test } from 'tap';
import type { Store } from '../store/store.ts';
import { storesForTests } from '../store/stores-for-tests.ts';
import { claimNumber, knownNumber, nodeId, releaseNumber } from './identity.ts';

function scene(t: Test) {
  const stores = storesForTests(t);
  const store = stores.store();
  return {
    store,
    /** `joinedWith`: the id that its certificate has. */
    host: (name: string, joinedWith?: string) => {
      const local = stores.local(name);
      const id = nodeId(local, joinedWith);
      return { id, local, claim: (last: number, seen: Store = store) => claimNumber(seen, local, id, last) };
    },
  };
}

void test('an id is for ever', (t) => {
  const { host } = scene(t);
  const { id, local } = host('h1');
  t.match(id, /^[0-9a-f]{16}$/);
  t.equal(nodeId(local, 'f'.repeat(16)), id);
  t.equal(host('h2', 'f'.repeat(16)).id, 'f'.repeat(16), 'the one that it joined with');
  t.end();
});

void test('nodes have different numbers, also when they come at once, and no more of them than there are addresses', async (t) => {
  const { store, host } = scene(t);
  const hosts = Array.from({ length: 6 }, (_, i) => host(`h${i}`));
  const numbers = await Promise.all(hosts.map(({ claim }) => claim(6)));
  t.same(numbers.toSorted(), [1, 2, 3, 4, 5, 6]);
  t.equal(await hosts[0]!.claim(6), numbers[0], 'the same again');
  t.equal(knownNumber(hosts[0]!.local), numbers[0]);
  const late = host('late');
  await t.rejects(late.claim(6), { code: 'WEFT-NODE-NUMBERS', message: /6/ });
  await store.txn([], [{ delete: 'node-numbers/3' }]);
  t.equal(await late.claim(6), 3, 'the number of one that was taken out');
});

void test('whoever always comes second is told so', async (t) => {
  const { store, host } = scene(t);
  const { claim } = host('h1');
  const taken = claim(1000, {
    ...store,
    txn: async (compares, writes) => {
      await store.txn([], [{ put: compares[0]!.key, value: '"another"' }]);
      return store.txn(compares, writes);
    },
  });
  await t.rejects(taken, { code: 'WEFT-STORE-CONFLICT', message: /node numbers/ });
});

void test('a node that leaves gives its number back, and nobody else\'s', async (t) => {
  const { store, host } = scene(t);
  const [one, two] = [host('h1'), host('h2')];
  await one.claim(6);
  await releaseNumber(store, one.id, 1);
  t.same((await store.range('node-numbers/')).entries, []);
  t.equal(await two.claim(6), 1, 'the next one has it');
  await releaseNumber(store, one.id, 1);
  await releaseNumber(store, one.id, undefined);
  t.equal((await store.get('node-numbers/1'))?.value, JSON.stringify(two.id));
});
