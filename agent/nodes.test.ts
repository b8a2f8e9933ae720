import { setImmediate as nextTurn } from 'node:timers/promises';
import { test } from 'tap';
import { VirtualClock } from '../base/virtual-clock.ts';
import { storesForTests } from '../store/stores-for-tests.ts';
import { createNodeDirectory, findNode } from './nodes.ts';

test('a node is known by its id, and by a name that no other has', (t) => {
  const nodes = [{ id: 'a1', name: 'one' }, { id: 'b2', name: 'twin' }, { id: 'c3', name: 'twin' }, { id: 'd4', name: 'a1' }];
  t.equal(findNode(nodes, 'one'), nodes[0]);
  t.equal(findNode(nodes, 'c3'), nodes[2]);
  t.equal(findNode(nodes, 'a1'), nodes[0], 'the id comes first');
  for (const wrong of ['twin', 'nobody']) t.throws(() => findNode(nodes, wrong), { code: 'WEFT-NODE-UNKNOWN' }, wrong);
  t.end();
});

test('the directory says when a node was taken out, also while nobody looked', async (t) => {
  const stores = storesForTests(t, new VirtualClock());
  const store = stores.store();
  const entry = (id: string, number: number) => ({ id, name: id, number, address: `10.0.0.${number}`, gossipPort: 7946 });
  const directory = createNodeDirectory(store, stores.local('a'), 'a');
  for (const [i, id] of ['a', 'b', 'c'].entries()) await directory.announce(entry(id, i + 1));
  const left: string[][] = [];
  const follow = (): (() => void) => directory.follow(() => void left.push(directory.list().map(({ id }) => id).sort()));
  const stop = follow();
  await nextTurn();
  t.same([left, directory.has('b')], [[], true]);
  await store.txn([], [{ delete: 'nodes/b' }]);
  await nextTurn();
  t.same(left.splice(0), [['a', 'c']]);
  stop();
  await store.txn([], [{ delete: 'nodes/c' }]);
  const stopAgain = follow();
  await nextTurn();
  t.same(left, [['a']]);
  stopAgain();
});
