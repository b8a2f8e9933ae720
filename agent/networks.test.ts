import { join } from 'node:path';
import { test, type Test } from 'tap';
import { silentLogger as log } from '../base/log.ts';
import { VirtualClock } from '../base/virtual-clock.ts';
import type { Network } from '../cnm/model.ts';
import { openLocalStore } from '../store/local.ts';
import { openSqliteStore } from '../store/sqlite.ts';
import type { Store } from '../store/store.ts';
import { createNetworkRegistry } from './networks.ts';

/** As Docker makes it: its name comes later. */
const nameless = (id: string): Network => ({
  id, name: '', driver: 'overlay', scope: 'cluster', node: 'n', subnets: [], ipam: 'weft', internal: false, options: {}, labels: {}, attachable: false, createdAt: '2026-01-01T00:00:00.000Z',
});
const named = (name: string) => ({ name, labels: {}, attachable: false, ranges: new Map<string, string>() });

function scene(t: Test) {
  const folder = t.testdir();
  const store = openSqliteStore(join(folder, 'store.db'), { clock: new VirtualClock(), log });
  t.teardown(() => store.close());
  return {
    store,
    registry: (host: string, seen: Store = store) => {
      const local = openLocalStore(join(folder, `${host}.db`));
      t.teardown(() => local.close());
      return createNetworkRegistry({ store: seen, local, log });
    },
  };
}

void test('of two networks with one name the first has it, and the other none', async (t) => {
  const { registry } = scene(t);
  const [one, other] = [registry('h1'), registry('h2')];
  await one.create(nameless('a'));
  await other.create(nameless('b'));
  await one.describe('a', named('web'));
  await t.rejects(other.describe('b', named('web')), { code: 'WEFT-NETWORK-EXISTS' });
  t.equal(one.get('a')?.name, 'web');
  t.equal(other.get('b')?.name, '');
});

void test('a network that got its name although nobody was told has it', async (t) => {
  const { store, registry } = scene(t);
  let lost = false;
  const networks = registry('h1', {
    ...store,
    txn: async (compares, writes) => {
      const result = await store.txn(compares, writes);
      if (lost) throw new Error('the answer was lost');
      return result;
    },
  });
  await networks.create(nameless('a'));
  lost = true;
  await t.rejects(networks.describe('a', named('web')), { message: 'the answer was lost' });
  lost = false;
  await networks.describe('a', named('web'));
  t.equal(networks.get('a')?.name, 'web');
});
