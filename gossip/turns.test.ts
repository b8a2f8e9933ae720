/** No turn of the event loop takes long, on a clock that moves with each look at it. */
import { type Test, test } from 'tap';
import type { Clock } from '../base/clock.ts';
import { silentLogger as log } from '../base/log.ts';
import { seededRandom } from '../base/random.ts';
import { VirtualClock } from '../base/virtual-clock.ts';
import { messagesOf } from './framing.ts';
import { createGossip, type Gossip } from './gossip.ts';
import { MemoryNetwork } from './memory-transport.ts';
import { TYPE, decodeAck, encodePing, type Address } from './messages.ts';
import { createTurns, each, finish, type Turns } from './turns.ts';
import { OWN_VERSIONS } from './versions.ts';

const LOOK_MS = 0.01;
/** The share of a turn, and a step more. */
const LONGEST_MS = 0.3;

interface Ticking { turns: Turns; /** Takes so long. */ spend(ms: number): void; /** The next turn; false when nobody asked for one. */ next(): boolean; readonly now: number }

function ticking(): Ticking {
  let now = 0;
  let asked: (() => void) | undefined;
  return {
    turns: createTurns(() => (now += LOOK_MS), (run) => (asked = run)),
    spend: (ms) => void (now += ms),
    next: () => {
      const run = asked;
      asked = undefined;
      run?.();
      return run !== undefined;
    },
    get now() { return now; },
  };
}

void test('long work takes many turns, none of them long', async (t) => {
  const world = ticking();
  const done: number[] = [];
  const working = world.turns.work(each(Array.from({ length: 1_000 }, (_, i) => i), (i) => {
    done.push(i);
    world.spend(0.003);
  }));
  const turns: number[] = [];
  for (let before = 0; world.next(); before = world.now) turns.push(world.now - before);
  await working;
  t.same(done, Array.from({ length: 1_000 }, (_, i) => i), 'all of it, in order');
  t.ok(turns.length > 20, `${turns.length} turns`);
  t.ok(Math.max(...turns.slice(1)) < LONGEST_MS, `the longest took ${Math.max(...turns.slice(1)).toFixed(2)} ms`);
});

void test('what is short goes first and in order, and long work ends nevertheless', async (t) => {
  const world = ticking();
  const order: string[] = [];
  const short = (name: string) => world.turns.soon(() => {
    order.push(name);
    world.spend(0.15);
  });
  const long = world.turns.work(each(Array.from({ length: 80 }, (_, i) => i), (i) => {
    if (i % 8 === 0) order.push('long');
    world.spend(0.02);
  })).then(() => order.push('end'));
  const second = world.turns.work(() => order.push('second'));
  for (let i = 0; i < 40; i++) {
    short(`${i}`);
    world.next();
  }
  while (world.next());
  await Promise.all([long, second]);
  const names = order.filter((each) => /\d/.test(each));
  t.same(names, Array.from({ length: 40 }, (_, i) => `${i}`));
  t.ok(order.lastIndexOf('long') < order.indexOf('39'), 'not put off until nothing short comes');
  t.ok(order.indexOf('second') > order.lastIndexOf('long'), 'one long work after the other');
});

void test('within a step, what is short runs at once while there is time, else later', async (t) => {
  const world = ticking();
  const order: string[] = [];
  await world.turns.work(() => {
    world.turns.soon(() => order.push('at once'));
    world.spend(1);
    world.turns.soon(() => order.push('later'));
    order.push('end of the step');
  });
  world.next();
  t.same(order, ['at once', 'end of the step', 'later']);
});

void test('more than a thousand wait for no turn', async (t) => {
  const world = ticking();
  let ran = 0;
  world.turns.soon(() => world.spend(1));
  const taken = Array.from({ length: 2_000 }, () => world.turns.soon(() => ran++)).filter(Boolean).length;
  t.equal(taken, 1_024);
  while (world.next());
  t.equal(ran, 1_024);
});

void test('what throws rejects, and the next goes on; what was stopped does nothing', async (t) => {
  const world = ticking();
  const broken = world.turns.work(() => { throw new Error('broken'); });
  await t.rejects(broken, /broken/);
  t.equal(await world.turns.work(async () => 'next'), 'next');
  world.spend(1);
  let ran = false;
  world.turns.soon(() => world.spend(1));
  world.turns.soon(() => (ran = true));
  world.turns.stop();
  world.next();
  t.notOk(ran);
  t.notOk(world.turns.soon(() => (ran = true)));
  t.notOk(ran);
  t.equal(finish(each([1], () => {})), undefined);
});

// A whole node ----------------------------------------------------------------------------------------------------------

const addressOf = (i: number): Address => ({ host: `10.0.${i >> 8}.${i & 255}`, port: 7946 });
const MEMBERS = 200;

interface Watched { node: Gossip; /** Milliseconds of each turn that the node asked for. */ turns: number[] }

/** Two nodes, the second knows 200 members; each look at the clock takes 5 µs. */
function pair(t: Test): { clock: VirtualClock; network: MemoryNetwork; one: Watched; other: Watched } {
  const clock = new VirtualClock(1_000_000);
  const random = seededRandom(1);
  const network = new MemoryNetwork(clock, random);
  let looks = 0;
  const slow: Clock = { now: () => clock.now() + looks++ * LOOK_MS / 2, wallNow: () => clock.wallNow(), setTimeout: clock.setTimeout.bind(clock), clearTimeout: clock.clearTimeout.bind(clock) };
  const known = Array.from({ length: MEMBERS }, (_, i) => ({ name: `n${i + 2}`, address: addressOf(i + 2), meta: Buffer.from(`host ${i}`), versions: OWN_VERSIONS, state: 'alive' as const, incarnation: 1, since: 0 }));
  const watched = (i: number, more: object): Watched => {
    const turns: number[] = [];
    const transport = network.transport(addressOf(i));
    const node = createGossip({
      name: `n${i}`, random, log, clock: slow, ...more,
      transport: {
        ...transport,
        nextTurn: (run) => transport.nextTurn(() => {
          const before = looks;
          run();
          turns.push((looks - before) * LOOK_MS / 2);
        }),
      },
    });
    t.teardown(() => node.shutdown());
    return { node, turns };
  };
  return { clock, network, one: watched(0, {}), other: watched(1, { known }) };
}

void test('an exchange of two hundred members takes many turns, none of them long', async (t) => {
  const { clock, one, other } = pair(t);
  const joining = one.node.join([other.node.address]);
  await clock.advance(200);
  t.match(await joining, { joined: 1 });
  t.equal(one.node.members().length, MEMBERS + 2);
  for (const { turns, node: { name } } of [one, other]) {
    t.ok(turns.length >= 3, `${name}: ${turns.length} turns`);
    t.ok(Math.max(...turns) < LONGEST_MS, `${name}: the longest took ${Math.max(...turns).toFixed(2)} ms`);
  }
});

void test('three hundred packets in one turn are read in many, and all are answered', async (t) => {
  const { clock, network, one } = pair(t);
  const peer = addressOf(1_000);
  const transport = network.transport(peer);
  const acks: number[] = [];
  transport.onPacket((packet) => {
    for (const message of messagesOf(packet)) if (message[0] === TYPE.ack) acks.push(decodeAck(message.subarray(1)).seq);
  });
  network.delay = 0;
  for (let seq = 0; seq < 300; seq++) transport.send(encodePing({ seq, node: 'n0' }), one.node.address);
  await clock.advance(50);
  t.same(acks, Array.from({ length: 300 }, (_, i) => i), 'in order');
  t.ok(one.turns.length >= 5, `${one.turns.length} turns`);
  t.ok(Math.max(...one.turns) < LONGEST_MS, `the longest took ${Math.max(...one.turns).toFixed(2)} ms`);
});
