/** What a program that uses the library can rely on. */
import { type Test, test } from 'tap';
import type { Clock } from '../base/clock.ts';
import type { Delegate, GossipOptions } from './gossip.ts';
import { Keyring } from './keyring.ts';
import type { Member } from './members.ts';
import { PROFILES } from './tuning.ts';
import { OWN_VERSIONS, type Versions } from './versions.ts';
import { KEY, World, addressOf } from './world-for-tests.ts';

const SECOND = 1_000;
const NO_KEY = { keyring: undefined };

/** Nodes that know each other by one join each, and do not look for anybody by themselves. */
async function joined(t: Test, count: number, options: Partial<GossipOptions> = {}, each: (i: number) => Partial<GossipOptions> = () => ({})): Promise<World> {
  const world = new World(1, options);
  t.teardown(() => world.stop());
  for (let i = 0; i < count; i++) {
    const node = world.start(i, { seeds: null, ...each(i) });
    if (i > 0) void node.join([addressOf(0)]);
  }
  t.ok(await world.clock.advanceUntil(() => world.agreed, 10 * SECOND) < 10 * SECOND, 'all know all');
  return world;
}

/** Resolves with how a promise ended after the virtual time has passed. */
async function after<T>(world: World, ms: number, promise: Promise<T>): Promise<PromiseSettledResult<T>> {
  promise.catch(() => {});
  await world.clock.advance(ms);
  const late = Promise.reject<T>(new Error('not settled'));
  const [result] = await Promise.allSettled([Promise.race([promise, late])]);
  return result;
}

void test('join: a dead address fails, a live one beside it counts', async (t) => {
  const world = await joined(t, 1);
  const node = world.start(1, { seeds: null });
  const result = await after(world, 15 * SECOND, node.join([addressOf(9), addressOf(0)]));
  t.match(result, { value: { joined: 1, errors: [/10\.0\.0\.9:7947/] } });
});

void test('join: an abort before and during rejects what is still open with its reason', async (t) => {
  const world = await joined(t, 1);
  const node = world.start(1, { seeds: null });
  const reason = new Error('changed my mind');
  t.match(await after(world, 5, node.join([addressOf(0)], { signal: AbortSignal.abort(reason) })), { value: { joined: 0, errors: [reason] } });
  const controller = new AbortController();
  const joining = node.join([addressOf(9)], { signal: controller.signal });
  await world.clock.advance(SECOND);
  controller.abort(reason);
  t.match(await after(world, 5, joining), { value: { joined: 0, errors: [reason] } });
  t.equal(world.nodes.get(0)!.members().length, 1);
});

void test('join: after a shutdown nothing happens', async (t) => {
  const world = await joined(t, 2);
  const node = world.nodes.get(1)!;
  await world.crash(1);
  t.match(await after(world, 20 * SECOND, node.join([addressOf(0)])), { reason: /not settled/ }, 'its timers ended with it, and it hears nothing');
});

void test('leave: others see left at once, it sees itself as left, and its name may come from elsewhere', async (t) => {
  const world = await joined(t, 3);
  const node = world.nodes.get(2)!;
  const left = node.leave();
  await world.clock.advance(5);
  t.equal(world.nodes.get(0)!.member('n2')!.state, 'left');
  t.equal(node.member('n2')!.state, 'left');
  t.match(await after(world, 5 * SECOND, left), { status: 'fulfilled' });
  await world.crash(2);
  const heir = world.start(7, { name: 'n2', seeds: null });
  void heir.join([addressOf(0)]);
  await world.clock.advance(SECOND);
  t.match(world.nodes.get(1)!.member('n2'), { state: 'alive', address: addressOf(7) });
});

void test('leave: alone it ends at once', async (t) => {
  const world = await joined(t, 1);
  t.match(await after(world, 1, world.nodes.get(0)!.leave()), { status: 'fulfilled' });
});

void test('leave and updateNode: an abort rejects, the time-out does not', async (t) => {
  const world = await joined(t, 2);
  const node = world.nodes.get(0)!;
  world.network.cut([addressOf(0)], [addressOf(1)]);
  const controller = new AbortController();
  const update = node.updateNode(Buffer.from('a'), { signal: controller.signal, timeoutMs: 60 * SECOND });
  controller.abort(new Error('enough'));
  t.match(await after(world, 1, update), { reason: /enough/ });
  t.match(await after(world, 60 * SECOND, node.updateNode(Buffer.from('b'), { timeoutMs: SECOND })), { status: 'fulfilled' });
});

void test('meta data: up to 512 bytes, seen by all as an update', async (t) => {
  const world = await joined(t, 3);
  const updates: string[] = [];
  world.nodes.get(2)!.watch(({ type, member }) => updates.push(`${type} ${member.name} ${member.meta.length}`));
  t.match(await after(world, 3 * SECOND, world.nodes.get(0)!.updateNode(Buffer.alloc(512))), { status: 'fulfilled' });
  t.same(updates, ['update n0 512']);
  await t.rejects(world.nodes.get(0)!.updateNode(Buffer.alloc(513)), RangeError);
  t.throws(() => world.start(9, { meta: Buffer.alloc(513) }), RangeError);
});

void test('messages: to one, to one for sure, to all; too large ones are refused at once', async (t) => {
  const heard: string[] = [];
  const world = await joined(t, 3, {}, (i) => ({ delegate: { onMessage: (message) => heard.push(`n${i} ${message.toString()}`) } }));
  const node = world.nodes.get(0)!;
  node.sendBestEffort('n1', Buffer.from('packet'));
  t.match(await after(world, 50, node.sendReliable('n2', Buffer.from('stream'))), { status: 'fulfilled' });
  node.broadcast(Buffer.from('news'));
  await world.clock.advance(2 * SECOND);
  t.same([...new Set(heard)].sort(), ['n1 news', 'n1 packet', 'n2 news', 'n2 stream']);
  t.throws(() => node.sendBestEffort('n1', Buffer.alloc(node.room + 1)), RangeError);
  t.throws(() => node.broadcast(Buffer.alloc(node.room + 1)), RangeError, 'it would wait in the queue for ever');
  await t.rejects(node.sendReliable('n1', Buffer.alloc((20 << 20) + 1)), RangeError);
  await t.rejects(node.sendReliable('nobody', Buffer.alloc(1)), /not a member/);
});

void test('state exchange: both sides get the other\'s user state, and whether it is a join', async (t) => {
  const merged: string[] = [];
  const delegate = (name: string): Delegate => ({ localState: () => Buffer.from(`of ${name}`), mergeState: (state, join) => merged.push(`${name} gets ${state.toString()}${join ? ', joining' : ''}`) });
  await joined(t, 2, {}, (i) => ({ delegate: delegate(`n${i}`) }));
  t.same(merged.sort(), ['n0 gets of n1, joining', 'n1 gets of n0, joining']);
});

void test('state exchange: five hundred members are written and taken in over many turns of the loop, packets being heard between them', async (t) => {
  const turns = [0, 0];
  const counting = (world: World, i: number): Clock => ({
    now: () => world.clock.now(), wallNow: () => world.clock.wallNow(), clearTimeout: (timer) => world.clock.clearTimeout(timer),
    setTimeout: (run, ms) => (ms === 0 && turns[i]!++, world.clock.setTimeout(run, ms)),
  });
  const world = new World(1, NO_KEY);
  t.teardown(() => world.stop());
  const known = Array.from({ length: 500 }, (_, i): Member => ({ name: `k${i}`, address: addressOf(1_000 + i), meta: Buffer.alloc(0), versions: OWN_VERSIONS, state: 'alive', incarnation: 1, since: 0 }));
  world.start(0, { seeds: null, known, clock: counting(world, 0) });
  const joining = world.start(1, { seeds: null, clock: counting(world, 1) }).join([addressOf(0)]);
  t.match(await after(world, 100, joining), { value: { joined: 1 } });
  t.equal(world.nodes.get(1)!.members().length, 502);
  t.ok(turns[0]! >= 20, `written in ${turns[0]} turns`);
  t.ok(turns[1]! >= 20, `taken in in ${turns[1]} turns`);
});

void test('vetoes: a merge is refused on both sides, a member on one', async (t) => {
  const world = await joined(t, 1, {}, () => ({ delegate: { mayAdd: ({ name }) => { if (name === 'n3') throw new Error('not this one'); } } }));
  const wary = world.start(2, { seeds: null, delegate: { mayMerge: () => { throw new Error('no strangers'); } } });
  t.match(await after(world, SECOND, wary.join([addressOf(0)])), { value: { errors: [/no strangers/] } });
  t.notOk(wary.member('n0'));
  const third = world.start(3, { seeds: null });
  await after(world, SECOND, third.join([addressOf(0)]));
  t.notOk(world.nodes.get(0)!.member('n3'));
  t.ok(world.nodes.get(0)!.stats.dropped.refused > 0);
});

void test('vetoes: a merge that only the other side refuses leaves the joiner unknown there', async (t) => {
  const asked: string[] = [];
  const mayMerge: Delegate['mayMerge'] = (candidates) => {
    asked.push(candidates.map(({ name }) => name).join());
    if (asked.length > 1) throw new Error('no more');
  };
  const world = await joined(t, 2, { tuning: { gossipInterval: 60 * SECOND, probeInterval: 60 * SECOND } }, (i) => (i === 0 ? { delegate: { mayMerge } } : {}));
  const joiner = world.start(2, { seeds: null });
  await after(world, SECOND, joiner.join([addressOf(0)]));
  t.same(asked, ['n1', 'n2'], 'asked of those that join, and not of each other');
  t.equal(world.nodes.get(0)!.member('n2'), undefined);
  t.equal(world.nodes.get(0)!.stats.dropped.refused, 1, 'and it is counted');
});

void test('versions: a joiner that does not fit is told, although the other side answered', async (t) => {
  const old: Versions = [1, 5, 2, 0, 0, 0];
  const fitting: Versions = [1, 5, 2, 2, 5, 4];
  const world = await joined(t, 1, { versions: [1, 5, 2, 2, 5, 5] });
  for (const [i, versions, joinedCount] of [[1, old, 0], [2, fitting, 1]] as const) {
    t.match(await after(world, SECOND, world.start(i, { versions, seeds: null }).join([addressOf(0)])), { value: { joined: joinedCount } });
    t.equal(world.nodes.get(0)!.member(`n${i}`)?.state, joinedCount === 1 ? 'alive' : undefined);
  }
});

void test('ping: milliseconds of the way there and back; answers to probes carry what the delegate says', async (t) => {
  const pinged: string[] = [];
  const world = await joined(t, 2, {}, (i) => ({ delegate: i === 0 ? { onPinged: ({ name }, ms, payload) => pinged.push(`${name} ${ms > 2 && ms < 4} ${payload.toString()}`) } : { ackPayload: () => Buffer.from('well') } }));
  const result = await after(world, 10, world.nodes.get(0)!.ping('n1'));
  t.match(result, { status: 'fulfilled' });
  if (result.status === 'fulfilled') t.ok(result.value > 2 && result.value < 4, `${result.value} ms at 1 to 2 ms each way`);
  t.ok(pinged.includes('n1 true well'));
  await world.crash(1);
  t.match(await after(world, 2 * SECOND, world.nodes.get(0)!.ping('n1')), { reason: /does not answer/ });
});

void test('coordinates: round trips between others are estimated', async (t) => {
  const world = await joined(t, 5, { coordinates: true, tuning: { probeInterval: 200 } });
  world.network.delay = 20;
  await world.clock.advance(300 * SECOND);
  const estimate = world.nodes.get(0)!.roundTrip('n1', 'n2');
  t.ok(estimate !== undefined && estimate > 30 && estimate < 90, `${estimate?.toFixed(1)} ms at 40 to 80`);
  t.equal(world.nodes.get(0)!.roundTrip('nobody'), undefined);
});

for (const keyring of [undefined, new Keyring(KEY)]) {
  void test(`labels: the same label joins, another or none never does${keyring ? ', encrypted as well' : ''}`, async (t) => {
    const world = await joined(t, 2, { keyring, label: 'blue' });
    for (const [i, label] of [[2, 'green'], [3, 'blu'], [4, '']] as const) {
      const stranger = world.start(i, { label, seeds: null });
      t.match(await after(world, 15 * SECOND, stranger.join([addressOf(0)])), { value: { joined: 0 } }, `"${label}"`);
      t.same(stranger.members().map(({ name }) => name), [`n${i}`]);
    }
    t.same(world.nodes.get(0)!.members().map(({ name }) => name), ['n0', 'n1']);
    t.ok(world.nodes.get(0)!.stats.dropped.label > 0);
  });
}

void test('keys are introduced to a running cluster without losing a member', async (t) => {
  const world = await joined(t, 3, { ...NO_KEY, tuning: PROFILES.fast });
  const lost = { value: 0 };
  const steps: Partial<GossipOptions>[] = [{ verifyIncoming: false, verifyOutgoing: false }, { verifyIncoming: false }, {}];
  for (const step of steps) {
    for (const i of [0, 1, 2]) {
      await world.crash(i);
      world.start(i, { seeds: [0, 1, 2], keyring: new Keyring(KEY), ...step });
      t.ok(await world.clock.advanceUntil(() => world.agreed, 10 * SECOND) < 10 * SECOND, `n${i} is back`);
      for (const node of world.nodes.values()) node.watch(({ type }) => void (type === 'leave' && lost.value++));
      await world.clock.advance(10 * SECOND);
      t.equal(lost.value, 0);
    }
  }
  const stranger = world.start(9, { seeds: null, ...NO_KEY });
  t.match(await after(world, 15 * SECOND, stranger.join([addressOf(0)])), { value: { joined: 0 } }, 'from now on a key is asked for');
});

void test('keys are rotated without a flap, while all keep probing', async (t) => {
  const rings = [0, 1, 2, 3].map(() => new Keyring(KEY));
  const world = await joined(t, 4, { tuning: PROFILES.fast }, (i) => ({ keyring: rings[i] }));
  const [suspected, failed] = [world.count('suspect'), world.count('leave')];
  const next = Buffer.alloc(16, 9);
  for (const step of [(ring: Keyring) => ring.install(next), (ring: Keyring) => ring.use(next), (ring: Keyring) => ring.remove(KEY)]) {
    for (const ring of rings) {
      step(ring);
      await world.clock.advance(5 * SECOND);
    }
  }
  t.same([suspected.value, failed.value], [0, 0]);
  t.ok(world.agreed);
  t.equal([...world.nodes.values()].reduce((sum, { stats }) => sum + stats.dropped.seal, 0), 0, 'not one packet was lost by it');
  t.match(await after(world, 15 * SECOND, world.start(9, { seeds: null }).join([addressOf(0)])), { value: { joined: 0 } }, 'the old key opens nothing');
});

void test('a flood from one address is limited, and others are still heard', async (t) => {
  const world = await joined(t, 2, { tuning: { packetsPerSource: 100 } });
  const attacker = world.network.transport(addressOf(66));
  const failed = world.count('leave');
  for (let second = 0; second < 20; second++) {
    for (let i = 0; i < 1_000; i++) attacker.send(Buffer.of(0, 1, 2), addressOf(0));
    await world.clock.advance(SECOND);
  }
  const { dropped } = world.nodes.get(0)!.stats;
  t.ok(dropped.flood > 15_000, `${dropped.flood} dropped unread`);
  t.equal(failed.value, 0);
});

void test('streams from one address are limited, and others are still served', async (t) => {
  const world = await joined(t, 2, { tuning: { streamsPerSource: 5, streamTimeout: 2 * SECOND } });
  const attacker = world.network.transport(addressOf(66));
  for (let i = 0; i < 100; i++) void attacker.dial(addressOf(0), SECOND).then((stream) => stream.write(Buffer.of(6)));
  await world.clock.advance(SECOND);
  t.equal(world.nodes.get(0)!.stats.dropped.flood, 95, 'closed unread');
  t.match(await after(world, SECOND, world.nodes.get(1)!.sendReliable('n0', Buffer.from('still heard'))), { status: 'fulfilled' });
  await world.clock.advance(3 * SECOND);
  void attacker.dial(addressOf(0), SECOND);
  await world.clock.advance(SECOND);
  t.equal(world.nodes.get(0)!.stats.dropped.flood, 95, 'those that stood still have ended, and there is room again');
});
