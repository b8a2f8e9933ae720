/** What is believed and what is not, one row each; and the formulas. */
import { test } from 'tap';
import { silentLogger as log } from '../base/log.ts';
import { seededRandom } from '../base/random.ts';
import { VirtualClock } from '../base/virtual-clock.ts';
import { createAwareness } from './awareness.ts';
import { createBeliefs, type MemberEvent } from './beliefs.ts';
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

void test('words about others', async (t) => {
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

void test('words about this node', async (t) => {
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

void test('another member\'s state', async (t) => {
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

void test('suspicion', async (t) => {
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

void test('the queue of news', async (t) => {
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

void test('the queue: who is told beside the others hears each piece once and uses nothing up', async (t) => {
  const queue = new BroadcastQueue();
  const take = (to: string, beside: boolean): number => queue.take(100, { to, beside, audience: 2, limit: 2 }).length;
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

void test('formulas', async (t) => {
  t.same([1, 9, 10, 99, 100, 999].map((n) => retransmitLimit(4, n)), [4, 4, 8, 8, 12, 12]);
  t.same([32, 33, 65, 129, 1000].map(pushPullScale), [1, 2, 3, 4, 6]);
});

void test('versions', async (t) => {
  const serf = [1, 5, 2, 2, 5, 5] as const;
  checkVersions([{ name: 'a', versions: serf }, { name: 'b', versions: [1, 5, 2, 2, 5, 4] }]);
  t.throws(() => checkVersions([{ name: 'a', versions: serf }, { name: 'b', versions: OWN_VERSIONS }]), /delegate protocol version 5 of member a/);
});
