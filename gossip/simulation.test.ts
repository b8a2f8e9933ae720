/** Whole clusters on a simulated network and clock. A seed that fails is in the test's name. */
import { type Test, test } from 'tap';
import { silentLogger as log } from '../base/log.ts';
import { shuffle } from '../base/random.ts';
import { createGossip } from './gossip.ts';
import { Keyring } from './keyring.ts';
import { PROFILES } from './tuning.ts';
import { KEY, World, addressOf } from './world-for-tests.ts';

const { fast: FAST, lan: LAN } = PROFILES;

async function within(t: Test, world: World, what: string, limitMs: number, condition: () => boolean): Promise<void> {
  const took = await world.clock.advanceUntil(condition, limitMs);
  t.ok(took <= limitMs, `${what}: ${took} ms`);
}

for (const seed of [1, 2, 3]) {
  void test(`three nodes, seed ${seed}`, async (t) => {
    const world = new World(seed, { tuning: FAST });
    const events: string[] = [];
    world.start(0).watch(({ type, member }) => events.push(`${type} ${member.name}`));
    world.start(1);
    world.start(2);
    await within(t, world, 'they find each other', 1_500, () => world.agreed);
    t.same(events.sort(), ['join n1', 'join n2']);

    await world.clock.advance(10_000);
    await world.crash(1);
    const dead = (): boolean => [...world.nodes.values()].every((node) => node.member('n1')?.state === 'dead');
    await within(t, world, 'a crash is known to all', 5_000, dead);

    world.start(1);
    await within(t, world, 'its return is known to all', 1_000, () => world.agreed);

    const leaver = world.nodes.get(2)!;
    world.nodes.delete(2);
    const left = leaver.leave({ timeoutMs: 1_000 });
    await within(t, world, 'a departure is known to all', 100, () => [...world.nodes.values()].every((node) => node.member('n2')?.state === 'left'));
    await world.clock.advance(1_000);
    await left;
    await leaver.shutdown();
    world.start(2);
    await within(t, world, 'who left may return', 1_000, () => world.agreed);
    await world.stop();
  });

  void test(`ten nodes, a fifth of the packets lost, seed ${seed}`, async (t) => {
    const world = new World(seed, { tuning: FAST });
    world.network.loss = 0.2;
    for (let i = 0; i < 10; i++) world.start(i, { seeds: [0, 1] });
    await within(t, world, 'they find each other', 15_000, () => world.agreed);
    let wronged = 0;
    for (const node of world.nodes.values()) node.watch(({ type }) => void (type === 'leave' && wronged++));
    await world.clock.advance(120_000);
    t.equal(wronged, 0, 'nobody is declared dead within two minutes');
    await world.crash(4);
    await within(t, world, 'a crash is known to all', 20_000, () => world.agreed);
    await world.stop();
  });

  void test(`islands merge by themselves, seed ${seed}`, async (t) => {
    const world = new World(seed, { tuning: FAST });
    const all = [0, 1, 2, 3, 4, 5, 6];
    for (const i of all) world.start(i);
    await within(t, world, 'they find each other', 2_000, () => world.agreed);
    world.network.cut([0, 1, 2].map(addressOf), [3, 4, 5, 6].map(addressOf));
    const apart = (): boolean => all.every((i) => world.nodes.get(i)!.members().filter(({ state }) => state === 'alive').length === (i < 3 ? 3 : 4));
    await within(t, world, 'each side gives the other up', 60_000, apart);
    await world.clock.advance(180_000);
    world.network.heal();
    await within(t, world, 'one cluster again', 40_000, () => world.agreed);
    await world.stop();
  });

  void test(`twenty nodes that crash, return and leave at random, seed ${seed}`, async (t) => {
    const world = new World(seed, { tuning: FAST });
    world.network.loss = 0.05;
    for (let i = 0; i < 20; i++) world.start(i, { seeds: [0, 1, 2] });
    await world.clock.advance(5_000);
    for (let step = 0; step < 15; step++) {
      const i = world.random.int(20);
      const node = world.nodes.get(i);
      if (!node) world.start(i, { seeds: [0, 1, 2] });
      else if (world.random.float() < 0.3) {
        world.nodes.delete(i);
        void node.leave({ timeoutMs: 500 }).then(() => node.shutdown());
      } else await world.crash(i);
      await world.clock.advance(world.random.int(4_000));
    }
    for (const i of shuffle([0, 1, 2], world.random)) if (!world.nodes.has(i)) world.start(i, { seeds: [0, 1, 2] });
    await within(t, world, 'they agree', 60_000, () => world.agreed);
    await world.stop();
  });
}

void test('a member that is reached only through others, or only by streams, stays', async (t) => {
  const world = new World(1, { tuning: FAST });
  for (const i of [0, 1, 2]) world.start(i);
  await world.clock.advanceUntil(() => world.agreed, 5_000);
  let left = 0;
  for (const node of world.nodes.values()) node.watch(({ type }) => void (type === 'leave' && left++));
  world.network.cut([addressOf(0)], [addressOf(1)]);
  await world.clock.advance(30_000);
  t.equal(left, 0, 'through n2');
  world.network.heal();
  world.network.loss = 1;
  await world.clock.advance(30_000);
  t.equal(left, 0, 'by streams');
  await world.stop();
});

void test('who is gone is forgotten by all, although they tell each other, and newcomers, of it', async (t) => {
  const world = new World(1, { tuning: { ...FAST, reapTime: 120_000, pushPullInterval: 5_000 } });
  for (let i = 0; i < 6; i++) world.start(i);
  await world.clock.advanceUntil(() => world.agreed, 5_000);
  await world.crash(5);
  const left = world.nodes.get(4)!;
  void left.leave();
  world.nodes.delete(4);
  await world.clock.advance(10_000);
  await left.shutdown();
  for (let i = 6; i < 10; i++) {
    await world.clock.advance(20_000);
    world.start(i);
  }
  t.ok([...world.nodes.values()].filter((node) => node.member('n5') && node.member('n4')).length >= 4, 'remembered for a while');
  await world.clock.advance(60_000);
  t.same([...world.nodes.values()].flatMap((node) => node.members()).filter(({ state }) => state !== 'alive').map(({ name }) => name), []);
  await world.stop();
});

void test('without seeds, failed members are looked for', async (t) => {
  const world = new World(1, { tuning: FAST });
  world.start(0, { seeds: [] });
  void world.start(1, { seeds: [] }).join([addressOf(0)]);
  await within(t, world, 'joined by hand', 1_000, () => world.agreed);
  world.network.cut([addressOf(0)], [addressOf(1)]);
  await world.clock.advance(120_000);
  t.notOk(world.agreed);
  world.network.heal();
  await within(t, world, 'together again', 10_000, () => world.agreed);
  await world.stop();
});

void test('a node whose clock went back returns', async (t) => {
  const world = new World(1, { tuning: FAST });
  world.start(0);
  world.start(1);
  await world.clock.advanceUntil(() => world.agreed, 5_000);
  await world.crash(1);
  await world.clock.advanceUntil(() => world.nodes.get(0)!.member('n1')?.state === 'dead', 10_000);
  const { clock, random, network } = world;
  const past = { now: () => clock.now(), wallNow: () => 5_000, setTimeout: clock.setTimeout.bind(clock), clearTimeout: clock.clearTimeout.bind(clock) };
  const late = createGossip({ name: 'n1', transport: network.transport(addressOf(1)), clock: past, random, log, keyring: new Keyring(KEY), tuning: FAST });
  late.seekSeeds(async () => [addressOf(0)]);
  world.nodes.set(1, late);
  await within(t, world, 'it outbids what is said of it', 2_000, () => world.agreed);
  await world.stop();
});

void test('messages', async (t) => {
  const world = new World(1, { tuning: LAN });
  const heard: string[] = [];
  world.start(0);
  world.start(1, { delegate: { onMessage: (message) => heard.push(message.toString()), localState: () => Buffer.from('state of n1') } });
  const states: string[] = [];
  const third = world.start(2, { delegate: { mergeState: (state) => states.push(state.toString()), onMessage: () => { throw new Error('a broken handler'); } }, seeds: [1] });
  await world.clock.advanceUntil(() => world.agreed, 5_000);
  t.ok(states.includes('state of n1'));
  const first = world.nodes.get(0)!;

  first.sendBestEffort('n1', Buffer.from('at once'));
  await world.clock.advance(3);
  t.same(heard, ['at once']);
  const large = 'x'.repeat(300_000);
  const sent = first.sendReliable('n1', Buffer.from(large));
  await world.clock.advance(100);
  await sent;
  t.same(heard, ['at once', large]);
  t.throws(() => first.sendBestEffort('n1', Buffer.alloc(first.room + 1)), RangeError);
  first.sendBestEffort('n1', Buffer.alloc(first.room));
  first.sendBestEffort('nobody', Buffer.alloc(1));
  await t.rejects(first.sendReliable('nobody', Buffer.alloc(1)));
  await world.clock.advance(10);

  heard.length = 0;
  first.broadcast(Buffer.from('old'), 'subject');
  first.broadcast(Buffer.from('new'), 'subject');
  await world.clock.advance(1_000);
  t.same([...new Set(heard)], ['new'], 'a broadcast');
  first.sendBestEffort('n2', Buffer.from('to the broken handler'));
  void first.updateNode(Buffer.from('other'));
  await within(t, world, 'meta data', 1_000, () => third.member('n0')?.meta.toString() === 'other');

  await world.crash(1);
  const lost = first.sendReliable('n1', Buffer.from('too late'));
  lost.catch(() => {});
  await world.clock.advance(20_000);
  await t.rejects(lost);
  await world.stop();
});

void test('strangers', async (t) => {
  const { clock, random, network } = new World(1, { tuning: FAST });
  const options = { clock, random, log, tuning: FAST };
  const member = createGossip({ ...options, name: 'member', transport: network.transport(addressOf(0)), keyring: new Keyring(KEY) });
  for (const [i, more, reason] of [
    [1, { keyring: new Keyring(Buffer.alloc(32)) }, /ended early/],
    [2, {}, /the message is not encrypted/],
    [3, { keyring: new Keyring(KEY), versions: [1, 5, 2, 2, 5, 4] as const }, /delegate protocol/],
  ] as const) {
    const stranger = createGossip({ ...options, ...more, name: `stranger ${i}`, transport: network.transport(addressOf(i)) });
    const joining = stranger.join([addressOf(0)]);
    await clock.advance(15_000);
    t.match((await joining).errors[0]?.message, reason);
    t.same(member.members().map(({ name }) => name), ['member']);
    await stranger.shutdown();
  }
  await member.shutdown();
});
