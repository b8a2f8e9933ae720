/**
 * Whatever strangers send: parsers end soon, with a value or with one of the errors they name, and a node goes on.
 * `FUZZ_CASES` of each kind (default: 200,000), the same ones in every run.
 */
import tap, { test } from 'tap';
import { silentLogger as log } from '../base/log.ts';
import { seededRandom } from '../base/random.ts';
import { VirtualClock } from '../base/virtual-clock.ts';
import { CAPTURED, SEALED_WITH } from './captured-for-tests.ts';
import { decodeCoordinate } from './coordinates.ts';
import { createEnvelope } from './envelope.ts';
import { compound, messagesOf } from './framing.ts';
import { createGossip, type Gossip } from './gossip.ts';
import { fuzz } from './hostile-for-tests.ts';
import { Keyring } from './keyring.ts';
import { compress, decompress } from './lzw.ts';
import {
  TYPE, decodeAccusation, decodeAck, decodeAlive, decodeCompressed, decodeError, decodeIndirectPing, decodePing, decodePushPull, decodeUserStream, encodeCompressed, encodePing, encodePushPull,
  type Address,
} from './messages.ts';
import { Incomplete, unpack } from './msgpack.ts';
import type { Stream } from './transport.ts';

const CASES = Number(process.env['FUZZ_CASES'] ?? 200_000);
const SLOWEST_MS = 10;
const GROWN_BYTES = 24 << 20;
tap.setTimeout(Math.max(570_000, CASES));

const captured = Object.values(CAPTURED).map((hex) => Buffer.from(hex, 'hex'));
const random = seededRandom(1);
const here: Address = { host: '127.0.0.1', port: 7946 };

const isNamed = (error: unknown): boolean =>
  error instanceof RangeError || error instanceof Incomplete || (error instanceof Error && error.message.startsWith('the other side says'));

/** Lets through only what is no named error. */
const tame = (parse: (data: Buffer) => unknown) => (data: Buffer): void => {
  try {
    parse(data);
  } catch (error) {
    if (!isNamed(error)) throw error;
  }
};

const lzw = ['', 'A', 'ABABABAB', 'x'.repeat(3_000)].map((text) => compress(Buffer.from(text)));
const inPlain = Object.entries(CAPTURED).filter(([name]) => !/^(sealed|labelled)/.test(name)).map(([, hex]) => Buffer.from(hex, 'hex'));
const MESSAGES = [decodePing, decodeIndirectPing, decodeAck, decodeAccusation, decodeAlive, decodeError, decodeCompressed, decodeCoordinate, (body: Buffer) => unpack(body)];
const PARSERS: Record<string, { samples: readonly Buffer[]; parse: (data: Buffer) => unknown }> = {
  'messages': { samples: [...inPlain.map((each) => each.subarray(1)), decodeAck(Buffer.from(CAPTURED.ackWithPayload, 'hex').subarray(1)).payload], parse: (data) => MESSAGES.forEach((parse) => tame(parse)(data)) },
  'compounds': { samples: [...inPlain, compound(inPlain)], parse: messagesOf },
  'LZW': { samples: lzw, parse: (data) => decompress(data, 1 << 16) },
  'state exchanges and user messages of streams': { samples: inPlain.map((each) => each.subarray(1)), parse: (data) => [decodePushPull, decodeUserStream].forEach((parse) => tame(parse)(data)) },
};
for (const [name, { samples, parse }] of Object.entries(PARSERS)) {
  void test(`${name}: ${CASES} hostile cases`, async (t) => {
    const { slowestMs, grownBytes } = await fuzz(tame(parse), { samples, seed: 1, count: CASES });
    t.ok(slowestMs < SLOWEST_MS, `the slowest took ${slowestMs.toFixed(2)} ms`);
    t.ok(grownBytes < GROWN_BYTES, `the heap grew by ${(grownBytes / 1024).toFixed(0)} KiB`);
  });
}

/** A node whose packets and streams are handed to it by the test; what it sends is kept until `sent` is emptied. */
function victim(key?: Buffer): { node: Gossip; clock: VirtualClock; packet(data: Buffer): void; stream(data: Buffer): void; sent: Buffer[] } {
  const clock = new VirtualClock();
  const sent: Buffer[] = [];
  let onPacket: (packet: Buffer, from: Address) => void = () => {};
  let onStream: (stream: Stream, from: Address) => void = () => {};
  const attacker = { host: '127.0.0.9', port: 7946 };
  const node = createGossip({
    name: 'alpha', clock, random, log, ...(key && { keyring: new Keyring(key) }),
    // Forged members go again soon, so that what grows is a leak.
    tuning: { packetsPerSource: 1e9, streamsPerSource: 1e9, reapTime: 1, pushPullInterval: 1_000, suspicionMult: 1, suspicionMaxTimeoutMult: 1, gossipToTheDeadTime: 0 },
    transport: {
      address: here, send: (packet) => void sent.push(packet), dial: () => Promise.reject(new Error('nobody there')), close: async () => {},
      onPacket: (handler) => void (onPacket = handler), onStream: (handler) => void (onStream = handler),
    },
  });
  return {
    node, clock, sent,
    packet: (data) => onPacket(data, attacker),
    stream: (data) => {
      let ended = (): void => {};
      onStream({
        write: () => {}, close: () => {},
        onEnd: (handler) => void (ended = handler),
        onData: (handler) => {
          const cut = data.length >> 1;
          handler(data.subarray(0, cut));
          handler(data.subarray(cut));
        },
      }, attacker);
      ended();
    },
  };
}

const seal = createEnvelope({ keyring: new Keyring(SEALED_WITH) }, random);
for (const [name, key, door, samples, prepare] of [
  ['packets, in the clear', undefined, 'packet', inPlain, (data: Buffer) => data],
  ['packets that are sealed rightly', SEALED_WITH, 'packet', inPlain, (data: Buffer) => seal.wrapPacket(data)],
  ['packets that are sealed or not', SEALED_WITH, 'packet', captured, (data: Buffer) => data],
  ['streams, in the clear', undefined, 'stream', inPlain, (data: Buffer) => data],
  ['streams that are sealed rightly', SEALED_WITH, 'stream', inPlain, (data: Buffer) => seal.wrapStream(data, true)],
] as const) {
  void test(`a node that gets ${name}: ${CASES} hostile cases`, async (t) => {
    const { node, clock, sent, ...doors } = victim(key);
    const { slowestMs, grownBytes } = await fuzz((data) => doors[door](prepare(data)), {
      samples, seed: 2, count: CASES,
      between: async () => {
        sent.length = 0;
        await clock.advance(1_000);
      },
    });
    t.ok(slowestMs < SLOWEST_MS, `the slowest took ${slowestMs.toFixed(2)} ms`);
    t.ok(grownBytes < GROWN_BYTES, `the heap grew by ${(grownBytes / 1024).toFixed(0)} KiB`);
    const { dropped } = node.stats;
    t.ok(Object.values(dropped).reduce((sum, each) => sum + each, 0) > CASES / 20, `dropped and counted: ${JSON.stringify(dropped)}`);
    sent.length = 0;
    doors.packet(key ? seal.wrapPacket(encodePing({ seq: 4711, node: 'alpha' })) : encodePing({ seq: 4711, node: 'alpha' }));
    const answers = sent.flatMap((packet) => messagesOf(key ? seal.openPacket(packet) : packet)).filter((message) => message[0] === TYPE.ack);
    t.same(answers.map((message) => decodeAck(message.subarray(1)).seq), [4711], 'it still answers');
    await node.shutdown();
  });
}

void test('what is not sealed changes nothing in a node with a key', async (t) => {
  const { node, packet, stream, sent, clock } = victim(SEALED_WITH);
  for (const each of inPlain) {
    packet(each);
    stream(each);
  }
  await clock.advance(1_000);
  t.same(node.members().map(({ name }) => name), ['alpha']);
  t.same(sent, [], 'and is not answered');
  await node.shutdown();
});

/** Bytes that claim or unpack to far more than they are. */
const alive = { incarnation: 1, node: 'x', address: here, meta: Buffer.alloc(0), versions: [1, 5, 2, 0, 0, 0] as const, state: 'alive' as const };
const nested = (levels: number, data: Buffer): Buffer => (levels === 0 ? data : nested(levels - 1, compound([data, data])));
const BOMBS: Record<string, Buffer> = {
  'compression of compression': encodeCompressed(compress(encodeCompressed(compress(Buffer.alloc(1 << 20))))),
  'a megabyte of zeros compressed': encodeCompressed(compress(Buffer.alloc(1 << 20))),
  'compounds in compounds': nested(8, Buffer.alloc(200)),
  '255 empty parts in each of 255 parts, compressed': encodeCompressed(compress(compound(Array.from({ length: 120 }, () => compound(Array.from({ length: 255 }, () => Buffer.of(8))))))),
  'an array of four thousand million': Buffer.from('00ddffffffff', 'hex'),
  'a map of four thousand million': Buffer.from('04dfffffffff', 'hex'),
  'a string of two thousand million': Buffer.from('0081a44e6f6465db7fffffff', 'hex'),
  'negative lengths': Buffer.from('0683a44a6f696ec3a54e6f646573d3ffffffffffffffffac5573657253746174654c656ed3ffffffffffffffff', 'hex'),
  'a state of a thousand million members': Buffer.from('0683a44a6f696ec3a54e6f646573ce3b9aca00ac5573657253746174654c656e00', 'hex'),
  'a user message of a negative length': Buffer.from('0881aa557365724d73674c656ed0ff', 'hex'),
  'a user message of two thousand million bytes': Buffer.from('0881aa557365724d73674c656ece7fffffff', 'hex'),
  'a frame of four thousand million bytes': Buffer.from('0affffffff', 'hex'),
  'many members compressed to little': encodeCompressed(compress(encodePushPull({ join: true, nodes: Array.from({ length: 20_000 }, () => alive), userState: Buffer.alloc(0) }))),
};
for (const [name, bomb] of Object.entries(BOMBS)) {
  void test(`refused: ${name}`, async (t) => {
    for (const door of ['packet', 'stream'] as const) {
      const target = victim();
      let took = Infinity;
      for (let i = 0; i < 5; i++) {
        const start = performance.now();
        target[door](bomb);
        took = Math.min(took, performance.now() - start);
      }
      t.ok(took < SLOWEST_MS, `as a ${door} in ${took.toFixed(2)} ms`);
      t.same(target.node.members().map((member) => member.name), ['alpha']);
      await target.node.shutdown();
    }
  });
}
