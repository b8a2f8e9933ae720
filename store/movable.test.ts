import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { type Test, test } from 'tap';
import { systemClock as clock } from '../base/clock.ts';
import { silentLogger as log } from '../base/log.ts';
import { VirtualClock } from '../base/virtual-clock.ts';
import { COPY_MARK, finishCopy } from './copy.ts';
import { openEtcdStore } from './etcd.ts';
import { etcdForTests } from './etcd-for-tests.ts';
import { createMovableStore } from './movable.ts';
import { openSqliteStore } from './sqlite.ts';
import type { Store } from './store.ts';
import { collect, replay, storeSuite } from './suite.ts';

let folders = 0;

async function scene(t: Test) {
  const { endpoint } = await etcdForTests((end) => t.teardown(end));
  const path = join(t.testdir(), 'store.db');
  const embedded = openSqliteStore(path, { clock, log });
  const target = openEtcdStore({ endpoints: [endpoint], prefix: `/test/${folders++}/`, clock, log });
  const store = createMovableStore(embedded);
  t.teardown(async () => {
    await store.close();
    await embedded.close();
    await target.close();
  });
  return { path, embedded, target, store };
}

const move = { id: 'first', commit: () => {} };

void test('nobody who uses the store notices more than a pause and a snapshot', async (t) => {
  const { store, target, embedded } = await scene(t);
  for (let i = 0; i < 300; i += 100) await store.txn([], Array.from({ length: 100 }, (_, j) => ({ put: `n/${i + j}`, value: '{}' })));
  const { revision: stale } = await store.txn([], [{ put: 'k', value: '1' }]);
  const lease = await store.lease(60);
  await store.txn([], [{ put: 'leased', value: '1', lease }]);
  const watch = collect(store, '');
  await watch.until((events) => events.length === 1);

  let commits = 0;
  const pending = store.txn([{ key: 'just-before', revision: 0 }], [{ put: 'just-before', value: '' }]);
  const moved = store.moveTo(target, { id: 'x', commit: () => { commits++; } });
  await t.rejects(store.moveTo(target, move), RangeError);
  // Counted over the move by compare-and-swap: one lost or doubled step would show.
  let counted = 0;
  const counting = (async () => {
    for (let i = 0; i < 20; i++) {
      const entry = await store.get('count');
      if ((await store.txn([{ key: 'count', revision: entry?.revision ?? 0 }], [{ put: 'count', value: String(Number(entry?.value ?? 0) + 1) }])).succeeded) counted++;
    }
  })();
  t.equal((await store.get('k'))?.value, '1', 'reads do not wait');
  await Promise.all([pending, moved, counting]);
  t.equal(commits, 1);
  t.equal((await store.get('count'))?.value, String(counted));
  t.ok(counted >= 19);
  t.equal(await embedded.get('count'), undefined, 'no write went to the old store');
  t.ok(await store.get('just-before'));
  t.match(store.description, /etcd/);

  const late = await store.txn([{ key: 'k', revision: stale }], [{ put: 'k', value: 'wrong' }]);
  t.equal(late.succeeded, false, 'a guard from before the move does not hold');
  t.ok(late.current[0]!.revision > stale, 'revisions go on rising');
  t.equal((await store.txn([{ key: 'k', revision: late.current[0]!.revision }], [{ put: 'k', value: '2' }])).succeeded, true);
  for (let key = 1; key <= stale; key++) {
    const entry = await target.get(`n/${key}`);
    if (entry && (await store.txn([{ key: entry.key, revision: entry.revision }], [{ delete: entry.key }])).succeeded) t.fail(`${entry.key} went by a revision of the other store`);
  }
  t.ok(await store.get(COPY_MARK));
  await finishCopy(target);
  await watch.until((events) => replay(events)['k'] === '2' && replay(events)[COPY_MARK] === undefined);
  const { entries, revision } = await store.range('');
  t.same(replay(watch.events), Object.fromEntries(entries.map(({ key, value }) => [key, value])));
  t.ok(entries.every((entry) => entry.revision <= revision));
  t.equal(watch.events.filter(({ type }) => type === 'snapshot').length, 2);

  await lease.revoke();
  t.equal(await store.get('leased'), undefined, 'its lease came along');
  await t.rejects(store.txn([], [{ put: 'leased', value: '', lease }]), { message: /has ended/ });
  await t.rejects(store.moveTo(target, move), RangeError);
});

void test('a target that fails or is another\'s leaves everything as it was', async (t) => {
  const { store, target, embedded } = await scene(t);
  await store.txn([], [{ put: 'a', value: '1' }]);
  const lease = await store.lease(60);
  await store.txn([], [{ put: 'b', value: '1', lease }]);
  await target.txn([], [{ put: 'foreign', value: '1' }]);
  await t.rejects(store.moveTo(target, move), { code: 'WEFT-STORE-OCCUPIED' });
  await target.txn([], [{ delete: 'foreign' }]);
  await t.rejects(store.moveTo(target, { id: 'first', commit: () => { throw new Error('disk full'); } }), { message: 'disk full' });
  await store.txn([], [{ delete: 'a' }, { put: 'c', value: '1' }]);
  t.match(store.description, /embedded/);
  await t.rejects(store.moveTo(target, { ...move, id: 'second' }), { code: 'WEFT-STORE-OCCUPIED' }, 'another attempt\'s remains');
  await store.moveTo(target, move);
  await finishCopy(target);
  t.same((await target.range('')).entries.map(({ key }) => key), ['b', 'c'], 'what the first attempt had copied is gone');
  t.same((await embedded.range('')).entries.map(({ key }) => key), ['b', 'c'], 'the old file is as it was');
});

void test('a lease whose holder is gone stays behind with its keys', async (t) => {
  const { path, embedded, target } = await scene(t);
  const lease = await embedded.lease(60);
  await embedded.txn([], [{ put: 'orphan', value: '', lease }, { put: 'kept', value: '' }]);
  await embedded.close();
  const again = openSqliteStore(path, { clock, log });
  t.teardown(() => again.close());
  await createMovableStore(again).moveTo(target, move);
  await finishCopy(target);
  t.same((await target.range('')).entries.map(({ key }) => key), ['kept']);
});

void test('the store, before a move', async (t) => storeSuite(t.test.bind(t), async (each) => {
  const virtual = new VirtualClock();
  const path = join(each.testdir(), 'store.db');
  const open = (): Store => createMovableStore(openSqliteStore(path, { clock: virtual, log }));
  let store = open();
  each.teardown(() => store.close());
  return { store, other: store, pass: (ms) => virtual.advance(ms), reopen: async () => {
    await store.close();
    store = open();
    return store;
  } };
}));

void test('the store, after a move', async (t) => {
  const { endpoint } = await etcdForTests((end) => t.teardown(end));
  storeSuite(t.test.bind(t), async (each) => {
    const prefix = `/test/${folders++}/`;
    const opened: Store[] = [];
    const etcd = (): Store => {
      const store = openEtcdStore({ endpoints: [endpoint], prefix, clock, log });
      opened.push(store);
      return store;
    };
    const embedded = openSqliteStore(join(each.testdir(), 'store.db'), { clock, log });
    opened.push(embedded);
    each.teardown(() => Promise.all(opened.map((store) => store.close())));
    for (let i = 0; i < 30; i++) await embedded.txn([], [{ put: 'x', value: '' }, { delete: 'y' }]);
    await embedded.txn([], [{ delete: 'x' }]);
    const store = createMovableStore(embedded);
    const target = etcd();
    await store.moveTo(target, move);
    await finishCopy(target);
    return { store, other: store, pass: (ms) => delay(ms), reopen: async () => {
      await store.close();
      return etcd();
    } };
  });
});
