/** Soft state of whole clusters on a simulated network and clock. */
import { type Test, test } from 'tap';
import { addressOf } from '../gossip/world-for-tests.ts';
import { World, endpoint, memoryStore } from './world-for-tests.ts';

async function allSee(t: Test, world: World, expected: string[], limitMs: number, what: string): Promise<void> {
  const wanted = [...expected].sort().join();
  const took = await world.clock.advanceUntil(() => [...world.running.keys()].every((i) => world.sees(i).join() === wanted), limitMs);
  t.ok(took <= limitMs, `${what}: ${took} ms`);
  if (took > limitMs) for (const i of world.running.keys()) t.equal(world.sees(i).join(), wanted, `node ${i}`);
}

void test('a change is everywhere after one way through the network', async (t) => {
  const world = new World();
  const [first, second] = await world.startThree();
  const seen: string[] = [];
  second.state.watch('endpoint', (change) => seen.push(`${change.type} ${change.record.owner}/${change.record.key} ${change.type === 'put' ? `${change.record.value.ip} after ${change.previous?.ip}` : ''}${change.local ? ' local' : ''}`));
  const now = async (): Promise<string[]> => {
    await world.clock.advance(3);
    return seen.splice(0);
  };
  first.state.publish('endpoint', 'a', endpoint('a'));
  t.same(await now(), ['put id1/a 10.1.0.2 after undefined']);
  first.state.publish('endpoint', 'a', endpoint('a'));
  t.same(await now(), [], 'the same again is nothing');
  first.state.publish('endpoint', 'a', endpoint('a', '10.1.0.9'));
  t.same(await now(), ['put id1/a 10.1.0.9 after 10.1.0.2']);
  second.state.publish('endpoint', 'mine', endpoint('mine'));
  t.same(await now(), ['put id2/mine 10.1.0.2 after undefined local']);
  first.state.withdraw('endpoint', 'a');
  first.state.withdraw('endpoint', 'a');
  first.state.withdraw('endpoint', 'never was');
  t.same(await now(), ['delete id1/a ']);
  const present: string[] = [];
  const stop = second.state.watch('endpoint', ({ type, record }) => {
    present.push(`${type} ${record.key}`);
    if (record.key === 'mine') second.state.publish('endpoint', 'more', endpoint('more'));
  });
  t.same(present, ['put mine', 'put more'], 'what is there comes first, and what the watcher itself adds once');
  stop();
  t.same(second.state.members().map(({ id, name, state, address }) => `${id} ${name} ${state} ${address}`).sort(), ['id1 host1 alive 10.0.0.1', 'id2 host2 alive 10.0.0.2', 'id3 host3 alive 10.0.0.3']);
  await world.stop();
});

void test('a broken watcher harms nobody', async (t) => {
  const world = new World();
  const [first, second] = await world.startThree();
  second.state.watch('endpoint', () => { throw new Error('broken'); });
  const seen: string[] = [];
  second.state.watch('endpoint', ({ record }) => seen.push(record.key));
  first.state.publish('endpoint', 'a', endpoint('a'));
  await world.clock.advance(3);
  t.same(seen, ['a']);
  await world.stop();
});

for (const seed of [1, 2, 3, 4]) {
  void test(`what is lost is found again, seed ${seed}`, async (t) => {
    const world = new World(seed);
    const [first, second] = await world.startThree();
    world.network.loss = 0.2;
    const expected: string[] = [];
    for (let i = 0; i < 100; i++) {
      const node = i % 2 === 0 ? first : second;
      node.state.publish('endpoint', `e${i}`, endpoint(`e${i}`));
      await world.clock.advance(10);
      if (i % 3 === 0) node.state.withdraw('endpoint', `e${i}`);
      else expected.push(`id${(i % 2) + 1}/e${i}=10.1.0.2`);
    }
    await allSee(t, world, expected, 12_000, 'a fifth of the packets lost');
    await world.stop();
  });

  void test(`crash, return, departure, seed ${seed}`, async (t) => {
    const world = new World(seed);
    const [first, second, third] = await world.startThree();
    const own = ['id1/a=10.1.0.2', 'id2/b=10.1.0.2'];
    first.state.publish('endpoint', 'a', endpoint('a'));
    second.state.publish('endpoint', 'b', endpoint('b'));
    third.state.publish('endpoint', 'c', endpoint('c'));
    third.state.publish('endpoint', 'stale', endpoint('stale'));
    await allSee(t, world, [...own, 'id3/c=10.1.0.2', 'id3/stale=10.1.0.2'], 100, 'all');
    const events: string[] = [];
    first.state.watch('endpoint', ({ type, record }) => events.push(`${type} ${record.key}`));
    events.length = 0;

    await world.clock.advance(2_000);
    await world.crash(3);
    await allSee(t, world, own, 5_000, 'the records of a failed node are hidden');
    t.same(events.splice(0).sort(), ['delete c', 'delete stale']);

    const again = world.start(3);
    again.state.publish('endpoint', 'c', endpoint('c', '10.1.0.3'));
    await world.clock.advanceUntil(() => world.sees(1).includes('id3/stale=10.1.0.2'), 2_000);
    t.ok(world.sees(1).includes('id3/stale=10.1.0.2'), 'shown again with the node, while it has not said all');
    again.state.ready();
    await allSee(t, world, [...own, 'id3/c=10.1.0.3'], 5_000, 'what it did not say again is void');

    const leaving = again.leave();
    world.running.delete(3);
    await allSee(t, world, own, 200, 'the records of a node that left are gone');
    await world.clock.advance(1_500);
    await leaving;
    await world.clock.advance(10_000);
    await allSee(t, world, own, 0, 'for good');
    world.start(3);
    await world.clock.advance(3_000);
    t.same(world.sees(1), own, 'also when it returns');
    await world.stop();
  });

  void test(`apart and together again, seed ${seed}`, async (t) => {
    const world = new World(seed);
    const [first, second, third] = await world.startThree();
    first.state.publish('endpoint', 'a', endpoint('a'));
    third.state.publish('endpoint', 'c', endpoint('c'));
    await world.clock.advance(1_000);
    world.network.cut([addressOf(1), addressOf(2)], [addressOf(3)]);
    await world.clock.advance(30_000);
    t.same(world.sees(1), ['id1/a=10.1.0.2']);
    t.same(world.sees(3), ['id3/c=10.1.0.2']);
    first.state.publish('endpoint', 'a', endpoint('a', '10.1.0.7'));
    second.state.publish('endpoint', 'b', endpoint('b'));
    third.state.withdraw('endpoint', 'c');
    third.state.publish('endpoint', 'd', endpoint('d'));
    await world.clock.advance(30_000);
    world.network.heal();
    await allSee(t, world, ['id1/a=10.1.0.7', 'id2/b=10.1.0.2', 'id3/d=10.1.0.2'], 15_000, 'one state again');
    await world.stop();
  });
}

void test('deletions older than their list', async (t) => {
  const world = new World();
  const [first, , third] = await world.startThree();
  first.state.publish('endpoint', 'a', endpoint('a'));
  first.state.publish('endpoint', 'b', endpoint('b'));
  await world.clock.advance(1_000);
  world.network.cut([addressOf(1), addressOf(2)], [addressOf(3)]);
  first.state.withdraw('endpoint', 'a');
  await world.clock.advance(900_000);
  world.network.heal();
  await allSee(t, world, ['id1/b=10.1.0.2'], 45_000, 'who was away for a quarter of an hour');
  t.equal(third.state.ignored, 0);
  await world.stop();
});

void test('more than a packet holds, to a newcomer', async (t) => {
  const world = new World();
  const first = world.start(1);
  const second = world.start(2);
  const expected: string[] = [];
  for (let i = 0; i < 300; i++) {
    first.state.publish('endpoint', `e${i}`, endpoint(`e${i}`));
    expected.push(`id1/e${i}=10.1.0.2`);
  }
  first.state.ready();
  second.state.ready();
  await allSee(t, world, expected, 3_000, 'two');
  world.start(3).state.ready();
  await allSee(t, world, expected, 2_000, 'three');
  for (let i = 300; i < 600; i++) {
    second.state.publish('endpoint', `e${i}`, endpoint(`e${i}`));
    expected.push(`id2/e${i}=10.1.0.2`);
  }
  await allSee(t, world, expected, 100, 'three hundred in one turn');
  await world.stop();
});

void test('what a newcomer says reaches those whom it did not ask to join', async (t) => {
  const world = new World();
  await world.startThree();
  await world.clock.advance(10_000);
  world.start(4, [1]).state.publish('endpoint', 'd', endpoint('d'));
  await allSee(t, world, ['id4/d=10.1.0.2'], 300, 'at once');
  await world.stop();
});

void test('a node without peers shows what it last knew', async (t) => {
  const world = new World();
  const [first, second] = await world.startThree();
  first.state.publish('endpoint', 'a', endpoint('a'));
  second.state.publish('endpoint', 'b', endpoint('b'));
  await world.clock.advance(3_000);
  for (const i of [1, 2, 3]) await world.crash(i);
  world.start(3);
  const expected = ['id1/a=10.1.0.2', 'id2/b=10.1.0.2'];
  t.same(world.sees(3), expected);
  await world.clock.advance(300_000);
  t.same(world.sees(3), expected, 'for as long as nobody is there to know better');
  const back = world.start(1);
  back.state.publish('endpoint', 'a', endpoint('a'));
  back.state.ready();
  await world.clock.advance(10_000);
  t.same(world.sees(3), expected, 'the other may be on its way');
  await world.clock.advance(90_000);
  t.same(world.sees(3), ['id1/a=10.1.0.2'], 'it is not');
  const late = world.start(2);
  late.state.publish('endpoint', 'b', endpoint('b'));
  late.state.ready();
  await allSee(t, world, expected, 3_000, 'it is back');
  await world.stop();
});

void test('a node that is killed just after it met another knows it', async (t) => {
  const world = new World();
  const [first] = await world.startThree();
  await world.clock.advance(3_000);
  first.state.publish('endpoint', 'a', endpoint('a'));
  first.state.publish('node', 'id1', { id: 'id1', name: 'host1', number: 1, vtep: '192.0.2.1', underlayMtu: 1500, occupied: [], skippedPorts: [] });
  await world.clock.advance(50);
  t.same(world.sees(3), ['id1/a=10.1.0.2']);
  const disk = memoryStore();
  for (const { key, value } of world.disks.get(3)!.list('')) disk.put(key, value);
  for (const i of [1, 2, 3]) await world.crash(i);
  world.disks.set(3, disk);
  const { state } = world.start(3);
  t.same(state.list('node').map(({ owner }) => owner), ['id1']);
  await world.stop();
});

void test('a disk that was put back to an older state', async (t) => {
  const world = new World();
  const [, , third] = await world.startThree();
  third.state.publish('endpoint', 'c', endpoint('c'));
  await world.clock.advance(3_000);
  await world.crash(3);
  // As if its clock had also been in the future.
  world.disks.set(3, memoryStore());
  const epoch = Number(world.disks.get(1)!.get('state/epoch'));
  const future = epoch + 1_000_000;
  world.disks.get(3)!.put('state/epoch', String(future));
  const ahead = world.start(3);
  ahead.state.publish('endpoint', 'c', endpoint('c', '10.1.0.3'));
  ahead.state.ready();
  await allSee(t, world, ['id3/c=10.1.0.3'], 3_000, 'ahead');
  await world.crash(3);
  world.disks.set(3, memoryStore());
  const back = world.start(3);
  back.state.publish('endpoint', 'c', endpoint('c', '10.1.0.4'));
  back.state.ready();
  await allSee(t, world, ['id3/c=10.1.0.4'], 10_000, 'its word counts all the same');
  t.ok(Number(world.disks.get(3)!.get('state/epoch')) > future);
  await world.stop();
});

void test('messages of other versions', async (t) => {
  const world = new World();
  const [first, second] = await world.startThree();
  for (const message of ['', '\u0001{}', '\u0002', '\u0002{"kind":"other"}', '\u0002[1', '\u0003{}']) first.gossip.sendBestEffort('id2', Buffer.from(message));
  const message = { kind: 'records', from: 'id1', shipments: [{ owner: 'id1', epoch: 2e9, from: 0, upTo: 3, completeAt: 0, records: [['volume', 'x', 1, { size: 1 }], ['endpoint', 'bad', 2, { ip: 'nowhere' }], ['endpoint', 'good', 3, endpoint('good')]] }] };
  first.gossip.sendBestEffort('id2', Buffer.from(`\u0002${JSON.stringify(message)}`));
  await world.clock.advance(5);
  t.equal(second.state.ignored, 8);
  t.same(world.sees(2), ['id1/good=10.1.0.2'], 'what this version knows of it counts');
  await world.stop();
});
