/** Words of life and death as they come over the wire: what one node believes, says, and tells whom. */
import { type Test, test } from 'tap';
import type { GossipOptions } from './gossip.ts';
import { TYPE, decodeAccusation, decodeAlive } from './messages.ts';
import { Stage, dead, suspect, type Played } from './stage-for-tests.ts';
import { LAN } from './tuning.ts';

const SECOND = 1_000;
const OTHER_META = Buffer.from('other');

async function onStage(t: Test, options: Partial<GossipOptions> = {}): Promise<{ stage: Stage; peer: Played; witness: Played }> {
  const stage = new Stage(options);
  t.teardown(() => stage.close());
  const witness = await stage.enter('witness', { helps: 'nack' });
  const peer = await stage.enter('peer');
  await stage.clock.advance(SECOND);
  stage.events.length = 0;
  for (const each of [witness, peer]) each.received.length = 0;
  return { stage, peer, witness };
}

/** Packets of two members sent at once may come in either order. */
const later = (stage: Stage, run: () => void): unknown => stage.clock.setTimeout(run, 50);

type Words = (context: { stage: Stage; peer: Played; witness: Played }) => void;
const WORDS: [what: string, words: Words, state: string, events: string[], said: string[]][] = [
  ['a member\'s newer word is one event and one piece of news', ({ peer }) => peer.send(peer.alive(2, { meta: OTHER_META })), 'alive 2', ['update peer'], ['alive 2']],
  ['the same word twice is neither', ({ peer }) => peer.send(peer.alive(1), peer.alive(1)), 'alive 1', [], []],
  ['an accusation is one event and passed on', ({ witness }) => witness.send(suspect({ node: 'peer', incarnation: 1, from: 'witness' })), 'suspect 1', ['suspect peer'], ['suspect 1 by witness']],
  ['an old accusation is neither', ({ stage, peer, witness }) => (peer.send(peer.alive(5)), later(stage, () => witness.send(suspect({ node: 'peer', incarnation: 4, from: 'witness' })))), 'alive 5', ['update peer'], ['alive 5']],
  ['the same accuser twice counts once', ({ witness }) => [1, 2].forEach(() => witness.send(suspect({ node: 'peer', incarnation: 1, from: 'witness' }))), 'suspect 1', ['suspect peer'], ['suspect 1 by witness']],
  ['a suspect\'s newer word clears it', ({ stage, peer, witness }) => (witness.send(suspect({ node: 'peer', incarnation: 1, from: 'witness' })), later(stage, () => peer.send(peer.alive(2)))), 'alive 2', ['suspect peer', 'recover peer'], ['suspect 1 by witness', 'alive 2']],
  ['a death by another\'s word', ({ witness }) => witness.send(dead({ node: 'peer', incarnation: 1, from: 'witness' })), 'dead 1', ['leave peer'], ['dead 1 by witness']],
  ['a death twice is one event', ({ witness }) => [1, 2].forEach(() => witness.send(dead({ node: 'peer', incarnation: 1, from: 'witness' }))), 'dead 1', ['leave peer'], ['dead 1 by witness']],
  ['an old death is nothing', ({ stage, peer, witness }) => (peer.send(peer.alive(5)), later(stage, () => witness.send(dead({ node: 'peer', incarnation: 4, from: 'witness' })))), 'alive 5', ['update peer'], ['alive 5']],
  ['by its own word it has left', ({ peer }) => peer.send(dead({ node: 'peer', incarnation: 1, from: 'peer' })), 'left 1', ['leave peer'], ['dead 1 by peer']],
];
for (const [what, words, state, events, said] of WORDS) {
  void test(what, async (t) => {
    const context = await onStage(t, { tuning: { probeInterval: 60 * SECOND } });
    words(context);
    await context.stage.clock.advance(SECOND);
    t.equal(context.stage.stateOf('peer'), state);
    t.same(context.stage.events, events);
    t.same(context.stage.said('peer'), said);
  });
}

void test('a new member is one event and one piece of news; one whose versions make no sense is neither', async (t) => {
  const { stage } = await onStage(t, { tuning: { probeInterval: 60 * SECOND } });
  const [sound, broken] = [stage.stranger('sound'), stage.stranger('broken', { versions: [0, 0, 0, 0, 0, 0] })];
  for (const each of [sound, sound, broken]) each.send(each.alive(3));
  await stage.clock.advance(SECOND);
  t.same([stage.events, stage.said('sound'), stage.said('broken')], [['join sound'], ['alive 3'], []]);
});

void test('an old word of life does not raise the dead, and its sender is told', async (t) => {
  const { stage, peer, witness } = await onStage(t);
  witness.send(dead({ node: 'peer', incarnation: 7, from: 'witness' }));
  await stage.clock.advance(5);
  peer.send(peer.alive(3));
  await stage.clock.advance(5);
  t.equal(stage.stateOf('peer'), 'dead 7');
  t.ok(peer.received.some(({ message }) => message[0] === TYPE.dead), 'so that it can outbid it at once');
  peer.send(peer.alive(8));
  await stage.clock.advance(5);
  t.equal(stage.stateOf('peer'), 'alive 8');
});

void test('accusations of the node itself are outbid by one, and cost health', async (t) => {
  const { stage, witness } = await onStage(t);
  const before = stage.node.member('self')!.incarnation;
  witness.send(suspect({ node: 'self', incarnation: before, from: 'witness' }));
  await stage.clock.advance(5);
  t.equal(stage.stateOf('self'), `alive ${before + 1}`);
  t.equal(stage.node.health, 1);
  witness.send(dead({ node: 'self', incarnation: before, from: 'witness' }));
  await stage.clock.advance(SECOND);
  t.equal(stage.stateOf('self'), `alive ${before + 1}`, 'an old one needs no answer');
  t.same(stage.said('self'), [`alive ${before + 1}`]);
});

void test('another node of a live member\'s name changes nothing and is reported', async (t) => {
  const conflicts: string[] = [];
  const { stage, peer } = await onStage(t, { delegate: { onConflict: (known, other) => conflicts.push(`${known.address.host} ${other.address.host}`) } });
  const namesake = stage.stranger('peer');
  namesake.send(namesake.alive(9));
  await stage.clock.advance(5);
  t.same(stage.node.member('peer')!.address, peer.address);
  t.same(conflicts, [`${peer.address.host} ${namesake.address.host}`]);
  t.same(stage.events, []);
});

// Ten members, LAN: 24 s, 11.381 s, 4 s for no, one, two confirmations beside the accuser's word.
for (const [confirmations, limit] of [[0, 24_000], [1, 11_381], [2, 4_000], [3, 4_000]] as const) {
  void test(`a suspect that is silent is dead ${limit} ms after the accusation, with ${confirmations} confirmations`, async (t) => {
    const stage = new Stage({ tuning: { probeInterval: LAN.probeInterval, pushPullInterval: 1e9, probeTimeout: 500 } });
    t.teardown(() => stage.close());
    const helpers: Played[] = [];
    for (let i = 0; i < 8; i++) helpers.push(await stage.enter(`helper${i}`));
    // It answers, so that the node's own probes do not accuse it; it never refutes.
    await stage.enter('peer');
    let since = 0;
    let died = 0;
    stage.node.watch(({ type, member }) => {
      if (member.name === 'peer' && type === 'suspect') since = stage.clock.now();
      if (member.name === 'peer' && type === 'leave') died = stage.clock.now();
    });
    for (let i = 0; i <= confirmations; i++) helpers[i]!.send(...[1, 2].map(() => suspect({ node: 'peer', incarnation: 1, from: `helper${i}` })));
    await stage.clock.advance(30_000);
    t.ok(Math.abs(died - since - limit) <= 10, `${died - since} ms`);
  });
}

void test('news goes to the dead for 30 s, so that they can object, and then no more', async (t) => {
  const { stage, peer, witness } = await onStage(t, { tuning: { probeInterval: 3600 * SECOND } });
  let pieces = 0;
  const heardOver = async (seconds: number): Promise<number> => {
    peer.received.length = 0;
    for (let i = 0; i < seconds; i++) {
      stage.node.broadcast(Buffer.from(`news ${pieces++}`));
      await stage.clock.advance(SECOND);
    }
    return new Set(peer.received.map(({ message }) => message.toString())).size;
  };
  witness.send(dead({ node: 'peer', incarnation: 1, from: 'witness' }));
  t.ok(await heardOver(29) > 20);
  await stage.clock.advance(2 * SECOND);
  t.equal(await heardOver(20), 0);
});

// memberlist counts what the dead are told: after many deaths in a row, word of the last one reaches nobody.
void test('what the dead are told is not taken from the living: each piece of news reaches both of two, beside six that died', async (t) => {
  const { stage, peer, witness } = await onStage(t, { tuning: { probeInterval: 3600 * SECOND } });
  for (let i = 0; i < 6; i++) {
    const gone = await stage.enter(`gone${i}`);
    witness.send(dead({ node: gone.name, incarnation: 1, from: 'witness' }));
  }
  await stage.clock.advance(5 * SECOND);
  const pieces = Array.from({ length: 20 }, (_, i) => `news ${i}`);
  for (const piece of pieces) {
    stage.node.broadcast(Buffer.from(piece));
    await stage.clock.advance(200);
  }
  await stage.clock.advance(8 * SECOND);
  for (const each of [peer, witness]) t.same(pieces.filter((piece) => !each.received.some(({ message }) => message.toString('latin1', 1) === piece)), [], `${each.name} has missed nothing`);
});

// memberlist's queue has room for one word about each member: of two accusers, the second's replaces the first's unsaid.
void test('of two accusers each is passed on, so that those who need both to be sure have both', async (t) => {
  const { stage, witness } = await onStage(t, { tuning: { probeInterval: 3600 * SECOND } });
  for (const name of ['second', 'third']) await stage.enter(name);
  for (const from of ['witness', 'second', 'third']) witness.send(suspect({ node: 'peer', incarnation: 1, from }));
  await stage.clock.advance(SECOND);
  t.same(stage.said('peer').sort(), ['suspect 1 by second', 'suspect 1 by third', 'suspect 1 by witness']);
});

void test('who left gets no news', async (t) => {
  const { stage, peer, witness } = await onStage(t, { tuning: { probeInterval: 3600 * SECOND } });
  peer.send(dead({ node: 'peer', incarnation: 1, from: 'peer' }));
  await stage.clock.advance(5);
  peer.received.length = 0;
  witness.send(witness.alive(2));
  await stage.clock.advance(5 * SECOND);
  t.same(peer.received, []);
});

void test('who is gone is remembered for reapTime, and then forgotten', async (t) => {
  const { stage, peer, witness } = await onStage(t, { tuning: { reapTime: 100 * SECOND } });
  peer.send(dead({ node: 'peer', incarnation: 1, from: 'peer' }));
  await stage.clock.advance(90 * SECOND);
  t.equal(stage.stateOf('peer'), 'left 1');
  t.equal(stage.stateOf('witness'), 'alive 1', witness.name);
  await stage.clock.advance(60 * SECOND);
  t.equal(stage.stateOf('peer'), 'unknown');
});

void test('who leaves does not argue, and is not taken back by an old word', async (t) => {
  const { stage, witness } = await onStage(t);
  const { incarnation } = stage.node.member('self')!;
  const left = stage.node.leave();
  await stage.clock.advance(5 * SECOND);
  await left;
  t.same(stage.said('self'), [`dead ${incarnation} by self`]);
  witness.send(dead({ node: 'self', incarnation: incarnation + 5, from: 'witness' }));
  await stage.clock.advance(SECOND);
  t.match(stage.stateOf('self'), /^left/);
});

void test('a word that was heard before is not old news once something became of its member', async (t) => {
  const { stage, peer, witness } = await onStage(t, { tuning: { probeInterval: 600 * SECOND } });
  const [first, second] = [peer.alive(1), peer.alive(2)];
  const answers = async (message: Buffer): Promise<string[]> => {
    await stage.clock.advance(60 * SECOND);
    peer.received.length = 0;
    peer.send(message);
    await stage.clock.advance(SECOND);
    return [TYPE.suspect, TYPE.dead].flatMap((type) => peer.take(type, decodeAccusation).filter(({ from }) => from === 'self').map(({ incarnation }) => `${type === TYPE.dead ? 'dead' : 'suspect'} ${incarnation}`));
  };
  t.same(await answers(first), [], 'what is believed needs no answer');
  witness.send(suspect({ node: 'peer', incarnation: 1, from: 'witness' }));
  t.same(await answers(first), ['suspect 1']);
  t.same(await answers(second), []);
  t.same(await answers(second), []);
  t.equal(stage.stateOf('peer'), 'alive 2');
  witness.send(dead({ node: 'peer', incarnation: 2, from: 'witness' }));
  t.same(await answers(second), ['dead 2']);
  t.equal(stage.stateOf('peer'), 'dead 2');
  t.same(stage.events, ['suspect peer', 'recover peer', 'leave peer']);
});

void test('a quiet node passes news on at once, and again in the next round', async (t) => {
  const { stage, peer, witness } = await onStage(t, { tuning: { probeInterval: 600 * SECOND } });
  const since = stage.clock.now();
  witness.send(witness.alive(2));
  await stage.clock.advance(SECOND);
  const heard = peer.received.filter(({ message }) => message[0] === TYPE.alive && decodeAlive(message.subarray(1)).node === 'witness').map(({ at }) => at - since);
  t.ok(heard[0]! < 10, `after ${heard[0]} ms`);
  t.ok(heard[1]! - heard[0]! >= LAN.gossipInterval, `and after ${heard[1]} ms`);
});
