import { test } from 'tap';
import { seededRandom } from '../../base/random.ts';
import { VirtualClock } from '../../base/virtual-clock.ts';
import type { EndpointRecord } from '../../cluster/state.ts';
import { KernelError } from '../../linux/types.ts';
import { SharedState, nodeInfo } from '../testbed.ts';
import { nodesInTouch } from './nodes-in-touch.ts';
import { decodePathFrame, encodePathFrame } from './path-frames.ts';
import { createPathProbes, type PathLink, type PathProbes } from './path-probes.ts';

const HEADER = 14;
const endpointOn = (networkId: string, endpointId: string): EndpointRecord => ({ networkId, endpointId, ip: '10.20.0.2', mac: '02:42:0a:14:00:02' });

/** Nodes 1 to `count` with an endpoint each on one network; frames are in the other's queue at once, unless they are lost. */
class World {
  readonly clock = new VirtualClock();
  readonly random = seededRandom(7);
  readonly shared = new SharedState();
  readonly probes: PathProbes[] = [];
  readonly memories: Map<number, number>[] = [];
  readonly said: number[] = [];
  /** Of weft-in, where it is not what is said. */
  linkMtu = Infinity;
  frames = 0;
  /** Whether a frame arrives; `size` as an MTU counts. */
  arrives: (from: number, to: number, size: number) => boolean = () => true;
  readonly #queues = new Map<number, Buffer[]>();
  readonly #infos;

  constructor(count: number) {
    this.#infos = Array.from({ length: count }, (_, i) => nodeInfo(`n${i + 1}`, i + 1, `10.0.0.${i + 1}`));
    for (const { id, number } of this.#infos) {
      this.shared.of(id).publish('endpoint', 'e', endpointOn('web', `e${number}`));
      this.said[number] = 1450;
      this.memories[number] = new Map();
      this.start(number);
    }
  }

  start(number: number): void {
    this.probes[number]?.close();
    const self = this.#infos[number - 1]!;
    this.probes[number] = createPathProbes({
      state: this.shared.of(self.id), self: () => self, peers: () => this.#infos.filter((each) => each !== self), said: () => this.said[number]!, open: () => this.#open(number),
      memory: { load: () => this.memories[number]!, save: (found) => (this.memories[number] = new Map(found)) }, onChange: () => {}, clock: this.clock, random: this.random,
    });
  }

  found(number: number): [number, number][] {
    return [...this.probes[number]!.found()].sort(([a], [b]) => a - b);
  }

  /** Seconds until it is so, of those given at most. */
  async until(condition: () => boolean, seconds: number): Promise<number> {
    for (let waited = 0; waited < seconds; waited += 0.5) {
      if (condition()) return waited;
      await this.clock.advance(500);
    }
    return condition() ? seconds : Infinity;
  }

  #open(from: number): PathLink {
    const queue: Buffer[] = [];
    this.#queues.set(from, queue);
    return {
      send: (frame) => {
        if (frame.length - HEADER > Math.min(this.said[from]!, this.linkMtu)) throw new KernelError('send a frame', 'EMSGSIZE');
        this.frames++;
        const to = frame.readUInt16BE(4);
        if (this.arrives(from, to, frame.length - HEADER)) this.#queues.get(to)?.push(Buffer.from(frame));
      },
      receive: () => queue.splice(0), isCurrent: () => true, close: () => {},
    };
  }
}

test('frames', async (t) => {
  const question = { kind: 'question', round: 4_000_000_000, size: 1450 } as const;
  const frame = Buffer.from(encodePathFrame(1, { ...question, node: 300 }));
  t.equal(frame.length, 1464);
  t.same(decodePathFrame(300, frame), { ...question, node: 1 });
  t.equal(decodePathFrame(2, frame), undefined, 'for another node');
  t.same(decodePathFrame(300, frame.subarray(0, 60)), { ...question, node: 1 }, 'as much of it as is read');
  t.equal(decodePathFrame(300, frame.subarray(0, 59)), undefined);
  const answer = encodePathFrame(300, { ...question, kind: 'answer', node: 1 });
  t.equal(answer.length, 60, 'an answer is small');
  t.match(decodePathFrame(1, answer), { kind: 'answer', node: 300 });
  for (const [offset, value] of [[6, 0xff], [14, 3]] as const) {
    const wrong = Buffer.from(frame);
    wrong.writeUInt8(value, offset);
    t.equal(decodePathFrame(300, wrong), undefined);
  }
});

test('who is in touch', async (t) => {
  const shared = new SharedState();
  const peers = ['b', 'c', 'd'].map((id, i) => nodeInfo(id, i + 2, `10.0.0.${i + 2}`));
  const of = (id: string) => shared.of(id);
  const touched = () => [...nodesInTouch(of('a'), peers)].sort();
  of('b').publish('endpoint', 'e', endpointOn('web', 'b1'));
  t.same(touched(), [], 'no endpoint here');
  of('a').publish('endpoint', 'e', endpointOn('web', 'a1'));
  of('c').publish('endpoint', 'e', endpointOn('dbs', 'c1'));
  t.same(touched(), [2], 'a network of both');
  const backend = { networkId: 'dbs', endpointId: 'c1', ip: '10.20.0.3', protocol: 'tcp', port: 80, targetPort: 80, service: 's', mode: 'ingress' } as const;
  of('c').publish('backend', 'k', backend);
  t.same(touched(), [2, 3], 'a published port is reached from everywhere');
  of('a').publish('backend', 'k', backend);
  t.same(touched(), [2, 3, 4]);
});

test('nothing is found where nothing is wrong, and it costs next to nothing', async (t) => {
  const world = new World(3);
  await world.clock.advance(120_000);
  t.same([1, 2, 3].map((number) => world.found(number)), [[], [], []]);
  t.ok(world.frames / 6 / 120 < 0.25, `${(world.frames / 6 / 120).toFixed(2)} frames a second for each way`);
});

test('a black hole', async (t) => {
  const world = new World(3);
  await world.clock.advance(30_000);
  let limit = 1378;
  world.arrives = (from, to, size) => !(from === 1 && to === 2) || size <= limit;
  const isFound = (size: number) => () => world.found(1).join() === `2,${size}`;
  const took = await world.until(isFound(1378), 60);
  t.ok(took < 25, `found after ${took} s, to the byte`);
  t.same([2, 3].map((number) => world.found(number)), [[], []], 'nowhere else, nor in the other direction');

  limit = 1200;
  t.ok(await world.until(isFound(1200), 60) < 30, 'it gets worse');
  limit = 1300;
  t.ok(await world.until(isFound(1300), 60) < 30, 'and a little better');

  world.start(1);
  t.same(world.found(1), [[2, 1300]], 'weftd remembers it');
  await world.clock.advance(30_000);
  t.same(world.found(1), [[2, 1300]]);

  world.said[1] = 1250;
  await world.clock.advance(15_000);
  t.same(world.found(1), [], 'no black hole where less is said than gets through');
  world.said[1] = 1450;
  t.ok(await world.until(isFound(1300), 60) < 25);

  limit = Infinity;
  t.ok(await world.until(() => world.found(1).length === 0, 60) < 25, 'all is well again');
  await world.clock.advance(60_000);
  t.same(world.found(1), []);
});

test('what is no black hole', async (t) => {
  const world = new World(2);
  await world.clock.advance(30_000);
  const stays = async (what: string): Promise<void> => {
    await world.clock.advance(180_000);
    t.same([world.found(1), world.found(2)], [[], []], what);
  };
  world.arrives = () => false;
  await stays('a node that is away');
  world.arrives = (from) => from === 1;
  await stays('one that does not answer');
  world.arrives = () => world.random.float() > 0.2;
  await stays('a fifth of all packets is lost');
  world.arrives = (_from, _to, size) => size < 100 || world.random.float() > 0.5;
  await stays('half of the large ones are, as where a line is too busy');
  world.arrives = () => Math.floor(world.clock.now() / 4000) % 2 === 0;
  await stays('now and then nothing gets through');
});

test('a node that goes away in the middle of a search', async (t) => {
  const world = new World(2);
  await world.clock.advance(30_000);
  let isAway = false;
  let asked = 0;
  world.arrives = (from, _, size) => {
    // Of a search alone there are sizes between.
    if (from === 1 && size > 100 && size < 1450) isAway ||= ++asked > 4;
    return !isAway && (from === 2 || size < 1000);
  };
  await world.clock.advance(60_000);
  t.ok(isAway);
  t.same(world.found(1), [], 'what was not answered says nothing');
});

test('weft-in with a smaller MTU than it should have', async (t) => {
  const world = new World(2);
  await world.clock.advance(30_000);
  // Until the next repair.
  world.linkMtu = 1000;
  await world.clock.advance(60_000);
  t.same(world.found(1), [], 'what could not be sent is not lost');
});
