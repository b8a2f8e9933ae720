import { test } from 'tap';
import { findNode } from './nodes.ts';

test('a node is known by its id, and by a name that no other has', (t) => {
  const nodes = [{ id: 'a1', name: 'one' }, { id: 'b2', name: 'twin' }, { id: 'c3', name: 'twin' }, { id: 'd4', name: 'a1' }];
  t.equal(findNode(nodes, 'one'), nodes[0]);
  t.equal(findNode(nodes, 'c3'), nodes[2]);
  t.equal(findNode(nodes, 'a1'), nodes[0], 'the id comes first');
  for (const wrong of ['twin', 'nobody']) t.throws(() => findNode(nodes, wrong), { code: 'WEFT-NODE-UNKNOWN' }, wrong);
  t.end();
});
