/** Whatever strangers send: parsers end, with a value or with one of the errors they name, and a node goes on. */
import fc from 'fast-check';
import { test } from 'tap';
import { silentLogger as log } from '../base/log.ts';
import { seededRandom } from '../base/random.ts';
import { VirtualClock } from '../base/virtual-clock.ts';
import { CAPTURED, SEALED_WITH } from './captured-for-tests.ts';
import { messagesOf } from './framing.ts';
import { createGossip } from './gossip.ts';
import { Keyring } from './keyring.ts';
import { decompress } from './lzw.ts';
import { MemoryNetwork } from './memory-transport.ts';
import { TYPE, decodeAccusation, decodeAck, decodeAlive, decodeCompressed, decodeError, decodeIndirectPing, decodePing, decodePushPull, decodeUserStream, encodePing } from './messages.ts';
import { Incomplete, unpack } from './msgpack.ts';
import { createEnvelope } from './envelope.ts';

const captured = Object.values(CAPTURED).map((hex) => Buffer.from(hex, 'hex'));
const LIMIT = 1 << 16;
const random = seededRandom(1);

/** Noise, and real messages that were cut, changed and joined: those get further in. */
const hostile = fc.oneof(
  { weight: 1, arbitrary: fc.uint8Array({ maxLength: 200 }).map((bytes) => Buffer.from(bytes)) },
  { weight: 4, arbitrary: fc.tuple(fc.constantFrom(...captured), fc.constantFrom(...captured), fc.array(fc.tuple(fc.nat(400), fc.integer({ min: 0, max: 255 })), { maxLength: 6 }), fc.nat(6), fc.nat(700), fc.nat(8)).map(
    ([first, second, changes, skip, keep, join]) => {
      const bytes = Buffer.concat([first.subarray(skip), ...(join === 0 ? [second] : [])]);
      for (const [at, value] of changes) if (at < bytes.length) bytes[at] = value;
      return join < 3 ? bytes.subarray(0, keep) : bytes;
    },
  ) },
);

const PARSERS: Record<string, (data: Buffer) => unknown> = {
  unpack, messagesOf, decodePing, decodeIndirectPing, decodeAck, decodeAccusation, decodeAlive, decodePushPull, decodeUserStream, decodeError, decodeCompressed,
  decompress: (data) => decompress(data, LIMIT),
  plainStream: (data) => createEnvelope({}, random).createReader(false)(data),
  sealedStream: (data) => createEnvelope({ keyring: new Keyring(SEALED_WITH) }, random).createReader(false)(data),
};

void test('parsers', async (t) => {
  let runs = 0;
  fc.assert(fc.property(hostile, (data) => {
    for (const [name, parse] of Object.entries(PARSERS)) {
      runs++;
      try {
        parse(data);
      } catch (error) {
        const named = error instanceof RangeError || error instanceof Incomplete || (error instanceof Error && error.message.startsWith('the other side says'));
        if (!named) throw new Error(`${name} threw ${String(error)}`, { cause: error });
      }
    }
  }), { numRuns: 5_000 });
  t.ok(runs >= 50_000, `${runs} inputs`);
});

void test('a node that is sent packets and streams of all kinds', async (t) => {
  const clock = new VirtualClock();
  const network = new MemoryNetwork(clock, random);
  const target = { host: '127.0.0.1', port: 7946 };
  const victim = createGossip({ name: 'alpha', transport: network.transport(target), clock, random, log, tuning: { packetsPerSource: 1e9, streamsPerSource: 1e9 } });
  const attacker = network.transport({ host: '127.0.0.9', port: 7946 });
  const samples = fc.sample(hostile, 10_000);
  for (const [i, data] of samples.entries()) {
    attacker.send(data, target);
    if (i % 10 === 0) void attacker.dial(target, 1000).then((stream) => stream.write(data));
    if (i % 100 === 0) await clock.advance(20);
  }
  let answer: number | undefined;
  attacker.onPacket((packet) => {
    for (const message of messagesOf(packet)) if (message[0] === TYPE.ack && decodeAck(message.subarray(1)).seq === 4711) answer = 4711;
  });
  attacker.send(encodePing({ seq: 4711, node: 'alpha' }), target);
  await clock.advance(100);
  t.equal(answer, 4711, 'it still answers');
  await victim.shutdown();
});
