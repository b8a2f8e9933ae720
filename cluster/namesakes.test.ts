import { test } from 'tap';
import { World } from './world-for-tests.ts';

const SECOND = 1_000;
const MINUTE = 60 * SECOND;

void test('a copied host is told of, by itself and by the others that hear of it, until it is gone', async (t) => {
  const world = new World();
  t.teardown(() => world.stop());
  const nodes = await world.startThree();
  t.same(nodes.flatMap((node) => node.problems()), []);
  const copy = world.start(9, [1], { node: { id: 'id2', name: 'host2' } });
  copy.state.ready();
  const told = await world.clock.advanceUntil(() => [nodes[0], nodes[2], copy].every((node) => node.problems().length === 1), MINUTE);
  t.ok(told <= 10 * SECOND, `within ${told} ms`);
  t.match(nodes[0].problems()[0]?.message, /^WEFT-NODE-TWICE: two hosts are node host2: the cluster knows the one at 10\.0\.0\.2, and another is at 10\.0\.0\.9; .*weft down --purge/);
  t.match(copy.problems()[0]?.message, /the one at 10\.0\.0\.9, and another is at 10\.0\.0\.2/, 'each goes by itself');
  await world.crash(9);
  await world.clock.advance(15 * MINUTE);
  t.same(nodes.flatMap((node) => node.problems()), [], 'forgotten when nothing is heard of it any more');
});

void test('a host that moved to another address is no copy of itself', async (t) => {
  const world = new World();
  t.teardown(() => world.stop());
  const [first] = await world.startThree();
  await world.crash(2);
  world.start(9, [1], { node: { id: 'id2', name: 'host2' } }).state.ready();
  await world.clock.advance(MINUTE);
  t.equal(first.gossip.member('id2')?.address.host, '10.0.0.9');
  t.same(first.problems(), []);
});
