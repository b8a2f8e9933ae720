/** What tables have to keep whatever happens, and where Docker's networkdb does not. All on the virtual clock. */
import tap, { type Test, test } from 'tap';
import { addressOf } from '../gossip/world-for-tests.ts';
import type { ClusterOptions } from './cluster.ts';
import { World, endpoint, memoryStore } from './world-for-tests.ts';

tap.setTimeout(120_000);

const SECOND = 1_000;
const MINUTE = 60 * SECOND;

async function worldOf(t: Test, count: number, seed = 1, more: Partial<ClusterOptions> = {}): Promise<World> {
  const world = new World(seed);
  t.teardown(() => world.stop());
  for (let i = 1; i <= count; i++) world.start(i, [1], more).state.ready();
  await world.clock.advanceUntil(() => [...world.running.values()].every(({ state }) => state.members().length === count), 10 * SECOND);
  return world;
}

const bytesOf = ({ network }: World): number => network.packetBytes + network.streamBytes;
const stateOf = (world: World, i: number) => world.running.get(i)!.state;
const publish = (world: World, i: number, key: string, ip?: string, networkId?: string): void => stateOf(world, i).publish('endpoint', key, endpoint(key, ip, networkId));

/** Until all running nodes see the same, which is this. */
async function allSee(t: Test, world: World, expected: readonly string[], limitMs: number): Promise<void> {
  const wanted = [...expected].sort().join();
  const took = await world.clock.advanceUntil(() => [...world.running.keys()].every((i) => world.sees(i).join() === wanted), limitMs);
  t.ok(took <= limitMs, `the same everywhere after ${took} ms`);
  if (took > limitMs) for (const i of world.running.keys()) t.equal(world.sees(i).join(), wanted, `node ${i}`);
}

void test('create, update and delete on every node of 25: all tables are equal', async (t) => {
  const world = await worldOf(t, 25);
  for (let i = 1; i <= 25; i++) for (const kind of ['kept', 'changed', 'deleted']) publish(world, i, `${kind}${i}`);
  for (let i = 1; i <= 25; i++) {
    publish(world, i, `changed${i}`, '10.1.0.9');
    stateOf(world, i).withdraw('endpoint', `deleted${i}`);
  }
  const expected = Array.from({ length: 25 }, (_, i) => [`id${i + 1}/kept${i + 1}=10.1.0.2`, `id${i + 1}/changed${i + 1}=10.1.0.9`]).flat();
  await allSee(t, world, expected, SECOND);
});

void test('watchers see what concerns them: one network, with the value before, moves as vanishing and appearing', async (t) => {
  const world = await worldOf(t, 2);
  publish(world, 1, 'early', '10.1.0.2', 'blue');
  publish(world, 1, 'other', '10.1.0.2', 'red');
  await world.clock.advance(SECOND);
  const seen: string[] = [];
  const stop = stateOf(world, 2).watch('endpoint', (change) => seen.push(`${change.type} ${change.record.key}${change.type === 'put' ? ` ${change.previous?.ip}` : ''}`), { networkId: 'blue' });
  const since = async (): Promise<string[]> => {
    await world.clock.advance(10);
    return seen.splice(0);
  };
  t.same(await since(), ['put early undefined'], 'a snapshot first');
  publish(world, 1, 'early', '10.1.0.3', 'blue');
  t.same(await since(), ['put early 10.1.0.2']);
  publish(world, 1, 'other', '10.1.0.3', 'red');
  t.same(await since(), []);
  publish(world, 1, 'early', '10.1.0.3', 'red');
  t.same(await since(), ['delete early']);
  publish(world, 1, 'other', '10.1.0.3', 'blue');
  t.same(await since(), ['put other undefined']);
  stop();
  stateOf(world, 1).withdraw('endpoint', 'other');
  t.same(await since(), []);
});

// networkdb keeps the one that came first, on each side another, for ever: equal Lamport times.
void test('two nodes that write the same key at the same moment have a record each', async (t) => {
  const world = await worldOf(t, 4);
  world.network.cut([1, 2].map(addressOf), [3, 4].map(addressOf));
  publish(world, 1, 'same', '10.1.0.1');
  publish(world, 3, 'same', '10.1.0.3');
  await world.clock.advance(MINUTE);
  world.network.heal();
  await allSee(t, world, ['id1/same=10.1.0.1', 'id3/same=10.1.0.3'], 40 * SECOND);
  stateOf(world, 3).withdraw('endpoint', 'same');
  await allSee(t, world, ['id1/same=10.1.0.1'], SECOND);
});

// networkdb forgets deletions after half an hour: who was away for longer brings the record back.
for (const [what, absenceMs] of [['', undefined], [', nor one that was away for longer than deletions are kept', 10 * MINUTE]] as const) {
  void test(`a member that was away for two hours raises nothing that was deleted meanwhile${what}`, async (t) => {
    const world = await worldOf(t, 3, 1, { ...(absenceMs !== undefined && { absenceMs }) });
    publish(world, 1, 'a');
    publish(world, 1, 'b');
    publish(world, 3, 'c');
    await allSee(t, world, ['id1/a=10.1.0.2', 'id1/b=10.1.0.2', 'id3/c=10.1.0.2'], SECOND);
    await world.crash(3);
    stateOf(world, 1).withdraw('endpoint', 'a');
    await world.clock.advance(120 * MINUTE);
    const kept = absenceMs === undefined ? 1 : 0;
    t.same([1, 2].map((i) => stateOf(world, i).deletionsKept), [kept, kept]);
    const back = world.start(3);
    back.state.publish('endpoint', 'c', endpoint('c'));
    back.state.ready();
    await allSee(t, world, ['id1/b=10.1.0.2', 'id3/c=10.1.0.2'], 10 * SECOND);
  });
}

void test('deletions are kept while one member has not passed them, and then forgotten by all', async (t) => {
  const world = await worldOf(t, 3);
  for (let k = 0; k < 50; k++) publish(world, 1, `e${k}`);
  await world.clock.advance(3 * SECOND);
  world.network.cut([addressOf(3)], [addressOf(1), addressOf(2)]);
  for (let k = 0; k < 50; k++) stateOf(world, 1).withdraw('endpoint', `e${k}`);
  await world.clock.advance(10 * MINUTE);
  t.ok(stateOf(world, 1).deletionsKept > 49 && stateOf(world, 2).deletionsKept > 49, 'told to the one that is away when it returns');
  world.network.heal();
  await world.clock.advanceUntil(() => stateOf(world, 3).list('endpoint').length === 0, MINUTE);
  await world.clock.advance(MINUTE);
  t.same([1, 2, 3].map((i) => stateOf(world, i).deletionsKept), [0, 0, 0]);
  t.ok(world.disks.get(2)!.list('state/').length < 10, 'on the disk as well');
});

// networkdb asks all peers one after the other, 30 s for each that has just died.
void test('a newcomer has everything within two seconds although a third of the members has just died', async (t) => {
  const world = await worldOf(t, 12);
  const expected: string[] = [];
  for (let i = 1; i <= 8; i++) for (let k = 0; k < 40; k++) publish(world, i, `e${i}-${k}`);
  for (let i = 1; i <= 8; i++) for (let k = 0; k < 40; k++) expected.push(`id${i}/e${i}-${k}=10.1.0.2`);
  await allSee(t, world, expected, 5 * SECOND);
  for (let i = 9; i <= 12; i++) await world.crash(i);
  world.start(13, [1]).state.ready();
  const took = await world.clock.advanceUntil(() => world.sees(13).length === expected.length, 30 * SECOND);
  t.ok(took <= 2 * SECOND, `${took} ms`);
});

// networkdb loses the answers to syncs that cross: each newcomer then stands still for 30 s.
void test('eight newcomers at once, each with records of its own, have everything within two seconds', async (t) => {
  const world = await worldOf(t, 4);
  for (let i = 1; i <= 4; i++) for (let k = 0; k < 200; k++) publish(world, i, `e${i}-${k}`);
  await world.clock.advance(3 * SECOND);
  for (let i = 5; i <= 12; i++) {
    world.start(i, [1]);
    for (let k = 0; k < 50; k++) publish(world, i, `e${i}-${k}`);
    stateOf(world, i).ready();
  }
  const took = await world.clock.advanceUntil(() => [...world.running.keys()].every((i) => world.sees(i).length === 4 * 200 + 8 * 50), 30 * SECOND);
  t.ok(took <= 2 * SECOND, `${took} ms`);
});

// networkdb keeps what is too long for a packet in its queue for ever, and only a bulk sync brings it.
void test('a record too long for a packet is with all at once, by stream, and no packet is too long', async (t) => {
  const world = await worldOf(t, 5);
  await world.clock.advance(10 * SECOND);
  const streamed = world.network.streamBytes;
  const names = Array.from({ length: 100 }, (_, i) => `${i}`.padEnd(100, 'x'));
  stateOf(world, 1).publish('name', 'long', { networkId: 'net', networkName: 'net', endpointId: 'long', ip: '10.1.0.2', name: 'long', names, service: '' });
  await world.clock.advance(20);
  for (let i = 2; i <= 5; i++) t.same(stateOf(world, i).list('name').map(({ value }) => value.names.length), [100], `node ${i}, after 20 ms`);
  t.ok(world.network.streamBytes - streamed > 4 * 10_000);
  t.ok(world.network.longest <= 1_400, `no packet over ${world.network.longest} bytes`);
  t.throws(() => stateOf(world, 1).publish('name', 'longer', { networkId: 'net', networkName: 'net', endpointId: 'longer', ip: '10.1.0.2', name: 'longer', names: Array.from({ length: 700 }, () => 'x'.repeat(100)), service: '' }), RangeError);
});

void test('among 45 nodes a change is at once with those on its network, sent to 32 at most, and soon with all', async (t) => {
  const world = await worldOf(t, 45);
  for (let i = 1; i <= 45; i++) publish(world, i, `e${i}`, '10.1.0.2', i % 3 === 0 ? 'blue' : 'red');
  const count = (i: number): number => stateOf(world, i).list('endpoint').length;
  await world.clock.advanceUntil(() => [...world.running.keys()].every((i) => count(i) === 45), 10 * SECOND);
  await world.clock.advance(10 * SECOND);
  const sent: string[] = [];
  const { gossip } = world.running.get(3)!;
  const send = gossip.sendBestEffort.bind(gossip);
  gossip.sendBestEffort = (to, message) => {
    sent.push(to);
    send(to, message);
  };
  publish(world, 3, 'new', '10.1.0.2', 'blue');
  await world.clock.advance(5);
  t.equal(sent.length, 32);
  const blue = [...world.running.keys()].filter((i) => i % 3 === 0);
  t.same(blue.filter((i) => count(i) < 46), [], 'the 15 on its network have it after 5 ms');
  const took = await world.clock.advanceUntil(() => [...world.running.keys()].every((i) => count(i) === 46), 10 * SECOND);
  t.ok(took <= SECOND, `all after ${took + 5} ms`);
});

// networkdb rejects a record that overtakes word of its owner or network, until the next bulk sync: a tail of a minute.
void test('a record that overtakes word of its owner is there as soon as its owner is known', async (t) => {
  for (let seed = 1; seed <= 10; seed++) {
    const world = await worldOf(t, 6, seed);
    // Word of the newcomer and its records take different ways, in any order.
    Object.assign(world.network, { delay: 40, reordered: 0.3 });
    const newcomer = world.start(7, [1]);
    newcomer.state.publish('endpoint', 'new', endpoint('new'));
    newcomer.state.ready();
    const took = await world.clock.advanceUntil(() => [1, 2, 3, 4, 5, 6].every((i) => world.sees(i).length === 1), MINUTE);
    t.ok(took <= 2 * SECOND, `seed ${seed}: ${took} ms`);
    await world.stop();
  }
});

void test('records of a failed node are hidden, also from new watchers; dropped when it leaves; told of when it returns', async (t) => {
  const world = await worldOf(t, 3);
  publish(world, 3, 'c');
  await allSee(t, world, ['id3/c=10.1.0.2'], SECOND);
  const seen: string[] = [];
  stateOf(world, 1).watch('endpoint', ({ type, record }) => seen.push(`${type} ${record.key}`));
  world.network.cut([addressOf(3)], [addressOf(1), addressOf(2)]);
  await world.clock.advanceUntil(() => world.sees(1).length === 0, 20 * SECOND);
  t.same(seen.splice(0), ['put c', 'delete c']);
  const late: string[] = [];
  stateOf(world, 2).watch('endpoint', ({ type, record }) => late.push(`${type} ${record.key}`));
  t.same(late, [], 'not in a snapshot');
  publish(world, 3, 'written while away');
  world.network.heal();
  await allSee(t, world, ['id3/c=10.1.0.2', 'id3/written while away=10.1.0.2'], 40 * SECOND);
  t.same([seen.sort(), late.sort()], [['put c', 'put written while away'], ['put c', 'put written while away']]);
});

void test('a failed node that leaves later is dropped; one that never returns is forgotten in the end, on the disk as well', async (t) => {
  const options = { absenceMs: 60 * MINUTE, tuning: { reapTime: 10 * MINUTE, pushPullInterval: MINUTE } };
  const world = await worldOf(t, 4, 1, options);
  publish(world, 3, 'c');
  publish(world, 4, 'd');
  await allSee(t, world, ['id3/c=10.1.0.2', 'id4/d=10.1.0.2'], SECOND);
  const saved = (): string[] => world.disks.get(1)!.list('state/records/').map(({ key }) => key.split('/')[2]!).sort();
  await world.clock.advance(3 * SECOND);
  await Promise.all([world.crash(3), world.crash(4)]);
  await world.clock.advanceUntil(() => world.sees(1).length === 0, MINUTE);
  t.same(saved(), ['id3', 'id4'], 'hidden, and kept');
  const back = world.start(3, [1], options);
  await world.clock.advance(3 * SECOND);
  const leaving = back.leave();
  world.running.delete(3);
  await world.clock.advance(3 * SECOND);
  await leaving;
  t.same([world.sees(1), saved()], [[], ['id4']], 'what left is gone');
  await world.clock.advance(60 * MINUTE);
  t.same(saved(), ['id4'], 'what failed is waited for');
  await world.clock.advance(15 * MINUTE);
  t.same([world.sees(1), saved()], [[], []], 'and then no longer');
});

void test('a node that joins and leaves ten times leaves nothing behind', async (t) => {
  const world = await worldOf(t, 3);
  publish(world, 1, 'a');
  for (let i = 0; i < 10; i++) {
    const guest = world.start(4, [1 + (i % 3)]);
    guest.state.publish('endpoint', `guest${i}`, endpoint(`guest${i}`));
    guest.state.ready();
    await allSee(t, world, ['id1/a=10.1.0.2', `id4/guest${i}=10.1.0.2`], 3 * SECOND);
    const leaving = guest.leave();
    world.running.delete(4);
    await world.clock.advance(1_100);
    await leaving;
    await allSee(t, world, ['id1/a=10.1.0.2'], SECOND);
  }
});

void test('a node that returns under its name from another address, with an empty disk', async (t) => {
  const world = await worldOf(t, 3);
  publish(world, 3, 'c');
  await allSee(t, world, ['id3/c=10.1.0.2'], SECOND);
  await world.crash(3);
  await world.clock.advanceUntil(() => world.sees(1).length === 0, 20 * SECOND);
  world.disks.set(9, memoryStore());
  const elsewhere = world.start(9, [1], { node: { id: 'id3', name: 'host3' } });
  elsewhere.state.publish('endpoint', 'c', endpoint('c', '10.1.0.33'));
  elsewhere.state.ready();
  await allSee(t, world, ['id3/c=10.1.0.33'], 10 * SECOND);
});

void test('two islands, each with records of its own, are one again when the seeds return', async (t) => {
  const world = await worldOf(t, 8);
  for (let i = 1; i <= 8; i++) publish(world, i, `e${i}`);
  await world.clock.advance(3 * SECOND);
  await world.crash(1);
  world.network.cut([2, 3, 4].map(addressOf), [5, 6, 7, 8].map(addressOf));
  await world.clock.advance(5 * MINUTE);
  for (const i of [2, 5]) {
    stateOf(world, i).withdraw('endpoint', `e${i}`);
    publish(world, i, `later${i}`);
  }
  world.network.heal();
  world.start(1).state.ready();
  const expected = [3, 4, 6, 7, 8].map((i) => `id${i}/e${i}=10.1.0.2`).concat(['id2/later2=10.1.0.2', 'id5/later5=10.1.0.2']);
  await allSee(t, world, expected, MINUTE);
});

/** Milliseconds from each write until all others have it, sorted. */
async function propagation(world: World, writes: number, betweenWrites: () => Promise<void>): Promise<number[]> {
  const missing = new Map<string, { at: number; left: number }>();
  const times: number[] = [];
  const watched = new Set<number>();
  const watchAll = (): void => {
    for (const [i, { state }] of world.running) {
      if (watched.has(i) || i > 25) continue;
      watched.add(i);
      state.watch('endpoint', ({ type, record: { key } }) => {
        const write = type === 'put' ? missing.get(key) : undefined;
        if (write && --write.left === 0) times.push(world.clock.now() - write.at);
      });
    }
  };
  watchAll();
  for (let n = 0; n < writes; n++) {
    const i = 1 + (n % 25);
    missing.set(`w${n}`, { at: world.clock.now(), left: 25 });
    publish(world, i, `w${n}`);
    await betweenWrites();
  }
  await world.clock.advance(MINUTE);
  return times.sort((a, b) => a - b);
}

const quantile = (sorted: readonly number[], q: number): number => sorted[Math.floor(q * sorted.length)] ?? Infinity;

void test('a change is with 25 nodes within 300 ms (99 %) when all is quiet', async (t) => {
  const world = await worldOf(t, 25);
  world.network.delay = 5;
  const times = await propagation(world, 200, () => world.clock.advance(50));
  t.equal(times.length, 200, 'all arrived');
  t.ok(quantile(times, 0.99) <= 300, `p50 ${quantile(times, 0.5).toFixed(0)} ms, p99 ${quantile(times, 0.99).toFixed(0)} ms`);
});

void test('and within a second (90 %) while others crash, return and packets are lost', async (t) => {
  const world = await worldOf(t, 30);
  Object.assign(world.network, { delay: 5, loss: 0.02 });
  const times = await propagation(world, 200, async () => {
    const i = 26 + world.random.int(5);
    if (world.random.float() < 0.1) {
      if (world.running.has(i)) await world.crash(i);
      else world.start(i).state.ready();
    }
    await world.clock.advance(100);
  });
  t.equal(times.length, 200, 'all arrived');
  t.ok(quantile(times, 0.9) <= 1_000, `p50 ${quantile(times, 0.5).toFixed(0)} ms, p90 ${quantile(times, 0.9).toFixed(0)} ms`);
});

const RECORDS = Number(process.env['RECORDS'] ?? 16_000);

void test(`16 nodes with ${RECORDS} records: a newcomer has them all, an unchanged peer costs little, no message is too long`, async (t) => {
  const world = await worldOf(t, 16);
  const memoryBefore = process.memoryUsage().heapUsed;
  const longest: number[] = [];
  for (let i = 1; i <= 16; i++) {
    for (let k = 0; k < RECORDS / 16; k++) publish(world, i, `e${i}-${k}`);
    const { gossip } = world.running.get(i)!;
    const send = gossip.sendReliable.bind(gossip);
    gossip.sendReliable = (to, message, options) => {
      longest.push(message.length);
      return send(to, message, options);
    };
    await world.clock.advance(10);
  }
  const has = (i: number): boolean => stateOf(world, i).list('endpoint').length === RECORDS;
  t.ok(await world.clock.advanceUntil(() => [...world.running.keys()].every(has), 10 * SECOND) <= 10 * SECOND);
  await world.clock.advance(10 * SECOND);
  const perNode = (process.memoryUsage().heapUsed - memoryBefore) / 16;
  t.ok(perNode / RECORDS < 3_000, `${(perNode / (1 << 20)).toFixed(1)} MiB in each node, garbage included`);

  const quiet = bytesOf(world);
  await world.clock.advance(10 * SECOND);
  const perExchange = (bytesOf(world) - quiet) / 10 / 16 * 2;
  t.ok(perExchange < 64 << 10, `${perExchange.toFixed(0)} bytes for each comparison, probes included`);

  const before = bytesOf(world);
  // Of all 17 nodes, in time of the processor: what else the machine does is not theirs.
  const start = process.cpuUsage();
  world.start(17).state.ready();
  const took = await world.clock.advanceUntil(() => has(17), 10 * SECOND);
  const { user, system } = process.cpuUsage(start);
  const computed = (user + system) / 1_000;
  t.ok(took + computed <= 10 * SECOND, `${took} ms, and ${computed.toFixed(0)} ms of computing`);
  await world.clock.advance(5 * SECOND);
  const received = (bytesOf(world) - before) / RECORDS;
  t.ok(received < 600, `${received.toFixed(0)} bytes for each record: not from everybody`);
  t.ok(Math.max(...longest) <= 256 << 10, `no message over ${Math.max(...longest)} bytes`);
  t.ok(world.network.longest <= 1_400, `no packet over ${world.network.longest} bytes`);
});

void test('a cluster that was off as a whole finds itself again although nobody knows a seed any more', async (t) => {
  const world = await worldOf(t, 5);
  publish(world, 2, 'a');
  await world.clock.advance(5 * SECOND);
  for (let i = 1; i <= 5; i++) await world.crash(i);
  await world.clock.advance(MINUTE);
  // The seed of all, node 1, stays away.
  for (let i = 2; i <= 5; i++) world.start(i, []);
  publish(world, 2, 'a');
  for (let i = 2; i <= 5; i++) stateOf(world, i).ready();
  const living = (i: number): number => stateOf(world, i).members().filter(({ state }) => state === 'alive').length;
  const took = await world.clock.advanceUntil(() => [2, 3, 4, 5].every((i) => living(i) === 4), MINUTE);
  t.ok(took <= 10 * SECOND, `${took} ms`);
  await allSee(t, world, ['id2/a=10.1.0.2'], 5 * SECOND);
});
