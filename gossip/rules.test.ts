/** What is believed and what is not, one row each; and the formulas. */
import { test } from 'tap';
import { silentLogger as log } from '../base/log.ts';
import { seededRandom } from '../base/random.ts';
import { VirtualClock } from '../base/virtual-clock.ts';
import { createAwareness } from './awareness.ts';
import { createBeliefs, type MemberEvent } from './beliefs.ts';
import { createCoordinates, type Coordinate } from './coordinates.ts';
import { Members, type Member } from './members.ts';
import { decodeAlive, type Accusation, type Address, type Alive } from './messages.ts';
import { BroadcastQueue } from './queue.ts';
import { startSuspicion, suspicionLimits, suspicionTimeout } from './suspicion.ts';
import { createTimers } from './timers.ts';
import { LAN, pushPullScale, retransmitLimit } from './tuning.ts';
import { OWN_VERSIONS, checkVersions } from './versions.ts';

const here: Address = { host: '10.0.0.1', port: 7947 };
const there: Address = { host: '10.0.0.2', port: 7947 };

function setUp() {
  const clock = new VirtualClock(1_000_000);
  const queue = new BroadcastQueue();
  const awareness = createAwareness(8);
  const events: string[] = [];
  const told: Buffer[] = [];
  const timers = createTimers(clock, seededRandom(1), log);
  const beliefs = createBeliefs({
    name: 'self', address: here, meta: Buffer.from('meta'), versions: OWN_VERSIONS, tuning: LAN, clock, timers, log, queue, awareness, known: [],
    notify: ({ type, member }: MemberEvent) => events.push(`${type} ${member.name} ${member.state}`), tell: (_, message) => told.push(message),
    admits: () => true, onConflict: (known, word) => events.push(`conflict ${known.name} ${word.address.host}`),
  });
  const alive = (incarnation: number, more: Partial<Alive> = {}): void => beliefs.alive({ incarnation, node: 'b', address: there, meta: Buffer.alloc(0), versions: OWN_VERSIONS, ...more });
  const accuse = (incarnation: number, from = 'c', node = 'b'): Accusation => ({ incarnation, node, from });
  const state = (name = 'b'): string => {
    const member = beliefs.members.get(name);
    return member ? `${member.state} ${member.incarnation}` : 'unknown';
  };
  return { clock, queue, awareness, events, told, beliefs, alive, accuse, state };
}

void test('words about others: which is believed, and which event comes of it', async (t) => {
  type Setting = ReturnType<typeof setUp>;
  const rows: [what: string, words: (s: Setting) => unknown, state: string, events: string[]][] = [
    ['a new member', (s) => s.alive(5), 'alive 5', ['join b alive']],
    ['the same word again', (s) => (s.alive(5), s.alive(5)), 'alive 5', ['join b alive']],
    ['other meta data', (s) => (s.alive(5), s.alive(6, { meta: Buffer.from('x') })), 'alive 6', ['join b alive', 'update b alive']],
    ['one that cannot be spoken with', (s) => s.alive(5, { versions: [0, 0, 0, 0, 0, 0] }), 'unknown', []],
    ['an old accusation', (s) => (s.alive(5), s.beliefs.suspect(s.accuse(4))), 'alive 5', ['join b alive']],
    ['an accusation', (s) => (s.alive(5), s.beliefs.suspect(s.accuse(5))), 'suspect 5', ['join b alive', 'suspect b suspect']],
    ['twice', (s) => (s.alive(5), s.beliefs.suspect(s.accuse(5)), s.beliefs.suspect(s.accuse(7))), 'suspect 7', ['join b alive', 'suspect b suspect']],
    ['refuted', (s) => (s.alive(5), s.beliefs.suspect(s.accuse(5)), s.alive(6)), 'alive 6', ['join b alive', 'suspect b suspect', 'recover b alive']],
    ['not refuted by an old word', (s) => (s.alive(5), s.beliefs.suspect(s.accuse(5)), s.alive(5)), 'suspect 5', ['join b alive', 'suspect b suspect']],
    ['a stranger accused', (s) => s.beliefs.suspect(s.accuse(5)), 'unknown', []],
    ['dead', (s) => (s.alive(5), s.beliefs.dead(s.accuse(5))), 'dead 5', ['join b alive', 'leave b dead']],
    ['dead twice, the second higher: an old word of life between them does not raise it', (s) => (s.alive(5), s.beliefs.dead(s.accuse(5)), s.beliefs.dead(s.accuse(8)), s.alive(7)), 'dead 8', ['join b alive', 'leave b dead']],
    ['an old death', (s) => (s.alive(5), s.beliefs.dead(s.accuse(4))), 'alive 5', ['join b alive']],
    ['gone by its own word', (s) => (s.alive(5), s.beliefs.dead(s.accuse(5, 'b'))), 'left 5', ['join b alive', 'leave b left']],
    ['dead, then gone by its own word', (s) => (s.alive(5), s.beliefs.dead(s.accuse(5)), s.beliefs.dead(s.accuse(5, 'b'))), 'left 5', ['join b alive', 'leave b dead', 'leave b left']],
    ['back from the dead', (s) => (s.alive(5), s.beliefs.dead(s.accuse(5)), s.alive(6)), 'alive 6', ['join b alive', 'leave b dead', 'join b alive']],
    ['back from the dead at another address', (s) => (s.alive(5), s.beliefs.dead(s.accuse(5)), s.alive(6, { address: here })), 'alive 6', ['join b alive', 'leave b dead', 'join b alive']],
    ['a namesake of a live member', (s) => (s.alive(5), s.alive(6, { address: here })), 'alive 5', ['join b alive', 'conflict b 10.0.0.1']],
    ['an absurd incarnation', (s) => (s.alive(5), s.alive(2 ** 32 - 1), s.beliefs.dead(s.accuse(2 ** 32 - 1))), 'alive 5', ['join b alive']],
  ];
  for (const [what, words, state, events] of rows) {
    const setting = setUp();
    words(setting);
    t.equal(setting.state(), state, what);
    t.same(setting.events, events, `${what}: events`);
  }
});

void test('words about this node that are not its own are outbid, save a namesake\'s', async (t) => {
  const { beliefs, queue, awareness, accuse, state } = setUp();
  t.equal(state('self'), 'alive 1000', 'the clock\'s seconds');
  beliefs.suspect(accuse(999, 'c', 'self'));
  t.equal(queue.length, 0, 'an old accusation needs no answer');
  beliefs.suspect(accuse(1000, 'c', 'self'));
  beliefs.dead(accuse(1007, 'c', 'self'));
  t.equal(state('self'), 'alive 1008');
  t.equal(awareness.score, 2);
  t.equal(decodeAlive(queue.take(1000, { to: 'x', audience: 1, limit: 4 })[0]!.subarray(1)).incarnation, 1008, 'the refutation is passed on');
  const own: Alive = { incarnation: 1008, node: 'self', address: here, meta: Buffer.from('meta'), versions: OWN_VERSIONS };
  beliefs.alive(own);
  beliefs.alive({ ...own, incarnation: 2000, address: there });
  t.equal(state('self'), 'alive 1008', 'a namesake is not outbid');
  beliefs.alive({ ...own, incarnation: 1100 });
  t.equal(state('self'), 'alive 1101', 'what a former life said is outbid');
  beliefs.leave();
  beliefs.dead(accuse(1200, 'c', 'self'));
  t.equal(state('self'), 'left 1101', 'who leaves does not argue');
});

void test('who is thought gone and does not know is told', async (t) => {
  const { beliefs, told, alive, accuse } = setUp();
  alive(5);
  beliefs.dead(accuse(9));
  alive(6);
  t.equal(told.length, 1);
  alive(10);
  t.equal(told.length, 1);
});

void test('another member\'s state: its dead are suspected, strangers among them are remembered as gone', async (t) => {
  const { beliefs, alive, events, state } = setUp();
  const record = (node: string, incarnation: number, state_: 'alive' | 'suspect' | 'dead' | 'left') => ({ node, incarnation, state: state_, address: there, meta: Buffer.alloc(0), versions: OWN_VERSIONS });
  alive(5);
  beliefs.merge([record('b', 5, 'dead'), record('c', 1, 'alive'), record('d', 1, 'dead'), record('e', 1, 'left'), record('self', 1000, 'dead')]);
  t.same(events, ['join b alive', 'suspect b suspect', 'join c alive', 'leave d dead', 'leave e left']);
  t.equal(state(), 'suspect 5', 'not dead on hearsay');
  t.equal(state('self'), 'alive 1001');
  beliefs.merge([record('c', 1, 'left')]);
  t.equal(state('c'), 'left 1');
});

void test('suspicion lasts by the formula, and each new accuser shortens it to what is left of its time', async (t) => {
  const limits = suspicionLimits(LAN, 10);
  t.same(limits, { expected: 2, min: 4000, max: 24000 });
  t.same([0, 1, 2, 3].map((n) => suspicionTimeout(limits, n)), [24000, 11381, 4000, 4000]);
  t.same(suspicionLimits(LAN, 100), { expected: 2, min: 8000, max: 48000 });
  t.same(suspicionLimits(LAN, 3), { expected: 0, min: 4000, max: 24000 });
  t.equal(suspicionTimeout(suspicionLimits(LAN, 3), 0), 4000, 'nobody could confirm it');

  const clock = new VirtualClock();
  const timers = createTimers(clock, seededRandom(1), log);
  let over: number | undefined;
  const suspicion = startSuspicion(limits, 'a', () => clock.now(), timers, () => (over = clock.now()));
  t.notOk(suspicion.confirm('a'), 'its accuser again');
  await clock.advance(1000);
  t.ok(suspicion.confirm('b'));
  t.notOk(suspicion.confirm('b'));
  await clock.advance(5000);
  t.equal(over, undefined);
  t.ok(suspicion.confirm('c'));
  t.notOk(suspicion.confirm('d'), 'enough');
  await clock.advance(1);
  t.equal(over, 6000, 'at once: the least time has passed');
});

void test('the queue: the least often sent first, then the longest, then the newest; a later word replaces the earlier', async (t) => {
  const queue = new BroadcastQueue();
  const done: string[] = [];
  const item = (text: string): Buffer => Buffer.from(text);
  const take = (room: number, to: string): string[] => queue.take(room, { to, audience: 3, limit: 2 }).map(String);
  queue.add(item('old'), { about: 'b', done: () => done.push('old') });
  queue.add(item('new'), { about: 'b', done: () => done.push('new') });
  t.same(done, ['old'], 'replaced');
  queue.add(item('longer'));
  t.same(take(100, 'x'), ['longer', 'new'], 'long before short');
  queue.add(item('fresh'));
  t.same(take(7, 'y'), ['fresh'], 'seldom before often; what has no room waits');
  t.same(take(100, 'z'), ['longer', 'fresh', 'new']);
  t.same(done, ['old', 'new']);
  t.equal(queue.length, 0);
  for (let i = 0; i < 300; i++) queue.add(Buffer.alloc(0));
  t.equal(queue.take(10_000, { to: 'x', audience: 3, limit: 4 }).length, 254, 'no more than a compound takes');
});

void test('the queue: what is said beside others replaces none, and is replaced with them', async (t) => {
  const queue = new BroadcastQueue();
  const done: string[] = [];
  const word = (text: string, beside: boolean): void => queue.add(Buffer.from(text), { about: 'b', beside, done: () => done.push(text) });
  const take = (): string[] => queue.take(100, { to: 'x', audience: 1, limit: 4 }).map(String).sort();
  word('accused by c', false);
  word('accused by d', true);
  t.same([take(), done], [['accused by c', 'accused by d'], []]);
  word('alive', false);
  t.same([take(), done], [['alive'], ['accused by c', 'accused by d']]);
});

void test('the queue: who is thought dead hears each piece once and uses nothing up', async (t) => {
  const queue = new BroadcastQueue();
  const take = (to: string, isDead: boolean): number => queue.take(100, { to, isDead, audience: 2, limit: 2 }).length;
  queue.add(Buffer.from('news'));
  t.same([take('dead', true), take('dead', true), take('b', false), take('dead too', true), take('c', false)], [1, 0, 1, 1, 1]);
  t.equal(queue.length, 0);
});

void test('news is for all, not for the one that asks most', async (t) => {
  const queue = new BroadcastQueue();
  const take = (to: string): number => queue.take(100, { to, audience: 3, limit: 4 }).length;
  queue.add(Buffer.from('d is alive'), { about: 'd', origin: 'd' });
  t.equal(take('d'), 0, 'who said it knows it');
  t.same([take('b'), take('b'), take('b')], [1, 0, 0], 'not twice before the others');
  t.equal(take('c'), 1);
  t.same([take('d'), take('b'), take('c')], [0, 1, 1], 'twice once all were told');
  t.equal(queue.length, 0);
});

void test('how often news is sent and states are exchanged grows with the logarithm of the members', async (t) => {
  t.same([1, 9, 10, 99, 100, 999].map((n) => retransmitLimit(4, n)), [4, 4, 8, 8, 12, 12]);
  t.same([32, 33, 65, 129, 1000].map(pushPullScale), [1, 2, 3, 4, 6]);
});

void test('members at random: none twice, only those that fit, all of a few, and each as likely as the other', async (t) => {
  const random = seededRandom(1);
  for (const size of [3, 10, 200]) {
    const members = new Members();
    for (let i = 0; i < size; i++) members.alive({ incarnation: 1, node: `n${i}`, address: there, meta: Buffer.alloc(0), versions: OWN_VERSIONS }, 0);
    const drawn = new Map<string, number>();
    const odd = ({ name }: Member): boolean => Number(name.slice(1)) % 2 === 1;
    for (let i = 0; i < 4_000; i++) {
      const names = members.sample(3, random, odd).map(({ name }) => name);
      if (new Set(names).size !== Math.min(3, size >> 1)) t.fail(`${names.join()} of ${size}`);
      for (const name of names) drawn.set(name, (drawn.get(name) ?? 0) + 1);
    }
    const counts = [...drawn.values()];
    t.equal(counts.length, size >> 1, `each of the ${size >> 1} that fit, of ${size}`);
    const expected = (4_000 * Math.min(3, size >> 1)) / (size >> 1);
    t.ok(Math.max(...counts) < expected * 1.5 && Math.min(...counts) > expected * 0.5, `${Math.min(...counts)} to ${Math.max(...counts)} times`);
  }
});

void test('coordinates: what cannot be true moves nothing', async (t) => {
  const coordinates = createCoordinates(seededRandom(1));
  const at = (more: Partial<Coordinate> = {}): Coordinate => ({ vector: [0.01, 0, 0, 0, 0, 0, 0, 0], height: 0.001, adjustment: 0, error: 0.5, ...more });
  const before = coordinates.own;
  for (const rogue of [
    at({ vector: [1e9, 0, 0, 0, 0, 0, 0, 0] }), at({ vector: [NaN, 0, 0, 0, 0, 0, 0, 0] }), at({ vector: [0.01] }), at({ vector: [] }), at({ height: -1 }), at({ height: Infinity }), at({ adjustment: 60 }), at({ error: -0.1 }),
  ]) coordinates.observe('rogue', rogue, 0.01);
  for (const seconds of [-1, NaN, 11, Infinity]) coordinates.observe('slow', at(), seconds);
  t.same([coordinates.own, coordinates.of('rogue'), coordinates.of('slow')], [before, undefined, undefined]);
  coordinates.observe('honest', at(), 0.01);
  t.notSame(coordinates.own, before);
  for (let i = 0; i < 1_000; i++) coordinates.observe(`p${i % 7}`, at({ vector: [9.9, -9.9, 9.9, -9.9, 9.9, -9.9, 9.9, -9.9], error: 0 }), i % 2 === 0 ? 0 : 10);
  t.ok(coordinates.own.vector.every((value) => Number.isFinite(value) && Math.abs(value) <= 10), 'and what can be just so keeps it within bounds');
});

void test('versions: members fit where each speaks what all the others do', async (t) => {
  const serf = [1, 5, 2, 2, 5, 5] as const;
  checkVersions([{ name: 'a', versions: serf }, { name: 'b', versions: [1, 5, 2, 2, 5, 4] }]);
  t.throws(() => checkVersions([{ name: 'a', versions: serf }, { name: 'b', versions: OWN_VERSIONS }]), /delegate protocol version 5 of member a/);
});
