/** Probes, as the other side sees them: what is sent when, to whom, and what follows from answers and silence. */
import { type Test, test } from 'tap';
import { compound, withChecksum } from './framing.ts';
import { TYPE, decodeAck, decodeIndirectPing, decodePing, encodeAck, encodeIndirectPing, encodePing, type IndirectPing, type Ping } from './messages.ts';
import { Stage, suspect, type Played, type PlayedOptions } from './stage-for-tests.ts';
import type { Tuning } from './tuning.ts';
import type { Versions } from './versions.ts';

const PROTOCOL_2: Versions = [1, 2, 2, 0, 0, 0];
const PROTOCOL_3: Versions = [1, 3, 2, 0, 0, 0];

async function onStage(t: Test, tuning: Partial<Tuning> = {}): Promise<Stage> {
  const stage = new Stage({ tuning });
  t.teardown(() => stage.close());
  return stage;
}

/** Until the node has probed `target` and the probe's interval is over. */
async function afterProbe(stage: Stage, target: Played): Promise<void> {
  for (let i = 0; i < 100 && target.take(TYPE.ping, decodePing).length === 0; i++) await stage.clock.advance(50);
  await stage.clock.advance(950);
}

const acks = (played: Played): number[] => played.take(TYPE.ack, decodeAck).map(({ seq }) => seq);

void test('three pings in a compound are answered by three acks with their numbers', async (t) => {
  const stage = await onStage(t);
  const peer = stage.stranger('peer');
  peer.send(...[1, 2, 3].map((seq) => encodePing({ seq, node: 'self' })));
  await stage.clock.advance(5);
  t.same(acks(peer).sort(), [1, 2, 3]);
});

void test('a ping for another name is not answered, one for no name is', async (t) => {
  const stage = await onStage(t);
  const peer = stage.stranger('peer');
  peer.send(encodePing({ seq: 1, node: 'other' }), encodePing({ seq: 2, node: '' }));
  await stage.clock.advance(5);
  t.same(acks(peer), [2]);
});

void test('a ping on a stream is answered on it; one for another name is closed without a word', async (t) => {
  const stage = await onStage(t);
  for (const [node, expected] of [['self', [5]], ['', [5]], ['other', []]] as const) {
    const stream = await Promise.all([stage.network.transport({ host: '10.0.0.77', port: 7946 }).dial(stage.node.address, 1_000), stage.clock.advance(5)]).then(([opened]) => opened);
    const answered: Buffer[] = [];
    let ended = false;
    stream.onData((data) => answered.push(data));
    stream.onEnd(() => (ended = true));
    stream.write(encodePing({ seq: 5, node }));
    await stage.clock.advance(20);
    t.same([answered.map((data) => decodeAck(data.subarray(1)).seq), ended], [expected, true], `for "${node}"`);
  }
});

void test('an ack goes where the ping says, else to where it came from', async (t) => {
  const stage = await onStage(t);
  const [peer, elsewhere] = [stage.stranger('peer'), stage.stranger('elsewhere')];
  peer.send(encodePing({ seq: 1, node: 'self', sourceNode: 'elsewhere', source: elsewhere.address }));
  peer.send(encodePing({ seq: 2, node: 'self' }));
  await stage.clock.advance(5);
  t.same([acks(elsewhere), acks(peer)], [[1], [2]]);
});

void test('a packet with a wrong checksum, or cut short, changes nothing and is counted', async (t) => {
  const stage = await onStage(t);
  const peer = stage.stranger('peer');
  const packet = withChecksum(peer.alive(1));
  packet[20]! ^= 1;
  peer.sendRaw(packet);
  peer.sendRaw(peer.alive(1).subarray(0, 12));
  await stage.clock.advance(5);
  t.equal(stage.stateOf('peer'), 'unknown');
  t.match(stage.node.stats.dropped, { checksum: 1, malformed: 1 });
});

for (const [helper, expected] of [['the target answers', TYPE.ack], ['the target is silent', TYPE.nack]] as const) {
  void test(`who is asked to ping another reports under the asker's number: ${helper}`, async (t) => {
    const stage = await onStage(t);
    const asker = stage.stranger('asker');
    const target = stage.stranger('target', { packets: expected === TYPE.ack });
    const request: IndirectPing = { seq: 77, node: 'target', sourceNode: 'asker', source: asker.address, target: target.address, nack: true };
    asker.send(encodeIndirectPing(request));
    await stage.clock.advance(450);
    t.equal(target.take(TYPE.ping, decodePing).length, 1);
    t.same(asker.take(expected, decodeAck), [{ seq: 77, payload: Buffer.alloc(0) }]);
  });
}

void test('no refusal is sent to who did not ask for one', async (t) => {
  const stage = await onStage(t);
  const asker = stage.stranger('asker');
  asker.send(encodeIndirectPing({ seq: 77, node: 'target', source: asker.address, target: { host: '10.0.0.99', port: 7946 }, nack: false }));
  await stage.clock.advance(2_000);
  t.same(asker.received, []);
});

void test('an answer after the refusal is passed on as well', async (t) => {
  const stage = await onStage(t);
  const [asker, target] = [stage.stranger('asker'), stage.stranger('target', { packets: false })];
  asker.send(encodeIndirectPing({ seq: 77, node: 'target', source: asker.address, target: target.address, nack: true }));
  await stage.clock.advance(600);
  for (const { seq } of target.take(TYPE.ping, decodePing)) target.send(encodeAck(seq));
  await stage.clock.advance(5);
  t.same(asker.received.map(({ message }) => message[0]), [TYPE.nack, TYPE.ack]);
});

void test('a suspect is pinged together with the accusation, in one packet', async (t) => {
  const stage = await onStage(t);
  const peer = await stage.enter('peer', { packets: false, streams: false });
  const other = await stage.enter('other');
  other.send(suspect({ node: 'peer', incarnation: 1, from: 'other' }));
  await stage.clock.advance(2_500);
  const together = peer.received.find(({ message, packet }) => message[0] === TYPE.ping && packet.length === 2 && packet[1]![0] === TYPE.suspect);
  t.ok(together, 'ping and suspect');
});

const SILENCE: [what: string, target: PlayedOptions, tuning: Partial<Tuning>, state: string][] = [
  ['a member that answers packets stays', {}, {}, 'alive 1'],
  ['a member that answers streams only stays', { packets: false }, {}, 'alive 1'],
  ['a member that answers streams only is suspected where streams are not used', { packets: false }, { streamPings: false }, 'suspect 1'],
  ['a member that answers streams only is suspected when its protocol has no pings on streams', { packets: false, versions: PROTOCOL_2 }, {}, 'suspect 1'],
  ['a member that answers nothing is suspected', { packets: false, streams: false }, {}, 'suspect 1'],
];
for (const [what, target, tuning, state] of SILENCE) {
  void test(what, async (t) => {
    const stage = await onStage(t, tuning);
    await afterProbe(stage, await stage.enter('peer', target));
    await stage.clock.advance(200);
    t.equal(stage.stateOf('peer'), state);
  });
}

void test('three others are asked, and the word of one that reached it is enough', async (t) => {
  const stage = await onStage(t);
  const helpers = await Promise.all([1, 2, 3, 4].map((i) => stage.enter(`helper${i}`, { helps: i === 1 ? 'ack' : 'nack' })));
  const target = await stage.enter('target', { packets: false, streams: false });
  await afterProbe(stage, target);
  const asked = helpers.flatMap((helper) => helper.take(TYPE.indirectPing, decodeIndirectPing));
  t.equal(asked.length, 3);
  t.match(asked[0], { node: 'target', target: target.address, nack: true });
});

/** Times of the pings and requests for help that came, and of the suspicion, counted from the ping. */
async function failing(stage: Stage, target: Played, helpers: readonly Played[]): Promise<{ asked: number; suspected: number }> {
  let suspected = 0;
  stage.node.watch(({ type, member }) => void (type === 'suspect' && member.name === 'target' && (suspected = stage.clock.now())));
  target.received.length = 0;
  for (const helper of helpers) helper.received.length = 0;
  for (let i = 0; i < 1_000 && suspected === 0; i++) await stage.clock.advance(10);
  const [ping] = target.received.filter(({ message }) => message[0] === TYPE.ping);
  const asked = helpers.flatMap(({ received }) => received).find(({ message }) => message[0] === TYPE.indirectPing);
  return { asked: asked!.at - ping!.at, suspected: suspected - ping!.at };
}

for (const [what, streams, helps, bounds] of [
  ['nobody listens there and all helpers say no: then', 'refused', 'nack', [490, 530]],
  ['nobody listens there, helpers are silent: at the end of the interval', 'refused', 'not', [990, 1_030]],
  ['all helpers say no, the stream hangs: at the end of the interval', false, 'nack', [990, 1_030]],
] as const) {
  void test(`others are asked soon where answers come fast; when is the member suspected: ${what}`, async (t) => {
    const stage = await onStage(t);
    const helpers = await Promise.all([1, 2, 3].map((i) => stage.enter(`helper${i}`, { helps })));
    await stage.clock.advance(3_000);
    const { asked, suspected } = await failing(stage, await stage.enter('target', { packets: false, streams }), helpers);
    t.ok(asked > 95 && asked < 110, `asked after ${asked} ms`);
    t.ok(suspected > bounds[0] && suspected < bounds[1], `suspected after ${suspected} ms`);
  });
}

void test('a helper that knows fast answers says no soon', async (t) => {
  const stage = await onStage(t);
  const asker = await stage.enter('asker');
  await stage.clock.advance(2_000);
  asker.received.length = 0;
  const start = stage.clock.now();
  asker.send(encodeIndirectPing({ seq: 77, node: 'target', source: asker.address, target: { host: '10.0.0.99', port: 7946 }, nack: true }));
  await stage.clock.advance(200);
  const refusal = asker.received.find(({ message }) => message[0] === TYPE.nack);
  t.ok(refusal && refusal.at - start > 80 && refusal.at - start < 90, `after ${refusal && refusal.at - start} ms`);
});

/** Helpers of a probe that fails, and by how much this node's own health gets worse. */
const BLAME: [what: string, helpers: PlayedOptions[], health: number][] = [
  ['nobody to ask', [], 1],
  ['all say that they could not reach it either', [{ helps: 'nack' }, { helps: 'nack' }, { helps: 'nack' }], 0],
  ['one of three is silent', [{ helps: 'nack' }, { helps: 'nack' }, {}], 1],
  ['all are silent', [{}, {}, {}], 3],
  ['those who never refuse', [{ versions: PROTOCOL_3 }, { versions: PROTOCOL_3 }, { versions: PROTOCOL_3 }], 1],
];
for (const [what, helpers, health] of BLAME) {
  void test(`health after a failed probe: ${what}`, async (t) => {
    const stage = await onStage(t);
    let then: number | undefined;
    // At once: the next probe, of a helper, improves it again.
    stage.node.watch(({ type }) => void (type === 'suspect' && (then = stage.node.health)));
    const target = stage.stranger('target', { packets: false, streams: false });
    for (const [i, options] of helpers.entries()) await stage.enter(`helper${i}`, options);
    target.send(target.alive(1));
    for (let i = 0; i < 400 && then === undefined; i++) await stage.clock.advance(25);
    t.equal(then, health);
  });
}

void test('health improves with every answered probe, and probes slow down while it is bad', async (t) => {
  const stage = await onStage(t);
  const peer = await stage.enter('peer', { packets: false, streams: false });
  await afterProbe(stage, peer);
  await stage.clock.advance(100);
  t.equal(stage.node.health, 1);
  peer.options = {};
  peer.send(peer.alive(2));
  peer.received.length = 0;
  await stage.clock.advance(2_100);
  t.equal(stage.node.health, 0);
  const slow = await onStage(t);
  const silent = await slow.enter('peer', { packets: false, streams: false });
  await slow.clock.advance(20_000);
  const pings = silent.received.filter(({ message }) => message[0] === TYPE.ping).map(({ at }) => at);
  const gaps = pings.slice(1).map((at, i) => Math.round((at - pings[i]!) / 1000));
  t.same(gaps.slice(0, 2), [1, 2], 'each unanswered probe takes an interval longer');
});

void test('a relay\'s or stranger\'s ack with a wrong number saves nobody', async (t) => {
  const stage = await onStage(t);
  const peer = await stage.enter('peer', { packets: false, streams: false });
  let ping: Ping | undefined;
  while (!ping) {
    await stage.clock.advance(50);
    [ping] = peer.take(TYPE.ping, decodePing);
  }
  peer.sendRaw(compound([encodeAck(ping.seq + 1), encodeAck(0)]));
  await stage.clock.advance(1_100);
  t.equal(stage.stateOf('peer'), 'suspect 1');
});
