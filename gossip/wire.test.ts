/** Byte for byte what Go peers write, and everything that they write is understood. */
import { type Test, test } from 'tap';
import { seededRandom } from '../base/random.ts';
import { CAPTURED, SEALED_WITH } from './captured-for-tests.ts';
import { compound, messagesOf, openPacket, sealPacket, withChecksum } from './framing.ts';
import { Keyring } from './keyring.ts';
import { decompress } from './lzw.ts';
import {
  decodeAccusation, decodeAck, decodeAlive, decodeIndirectPing, decodePing, decodePushPull, encodeAccusation, encodeAck, encodeAlive, encodeError, encodeIndirectPing, encodeNack, encodePing,
  encodePushPull, encodeUserPacket, encodeUserStream, type Address,
} from './messages.ts';
import { Incomplete, raw, uint } from './msgpack.ts';
import { createStreamReader, sealStream } from './stream-message.ts';

const bytes = (name: keyof typeof CAPTURED): Buffer => Buffer.from(CAPTURED[name], 'hex');
const at = (host: string): Address => ({ host, port: 7946 });
const random = seededRandom(1);
const equal = (t: Test, built: Buffer, name: keyof typeof CAPTURED): void => void t.equal(built.toString('hex'), CAPTURED[name], name);

const ping = { seq: 1, node: 'charlie', sourceNode: 'bravo', source: at('127.0.0.2') };
const indirect = { seq: 11, node: 'charlie', sourceNode: 'alpha', source: at('127.0.0.1'), target: at('127.0.0.3'), nack: true };
const alpha = { incarnation: 1, node: 'alpha', address: at('127.0.0.1'), meta: Buffer.from('ff81a4726f6c65a3776562', 'hex'), versions: [1, 5, 2, 2, 5, 5] as const };
const bravo = { ...alpha, node: 'bravo', address: at('127.0.0.2'), meta: Buffer.from('ff80', 'hex') };
const go1 = { ...alpha, node: 'go1', meta: Buffer.alloc(0), versions: [1, 5, 2, 0, 0, 0] as const, state: 'alive' as const };
const suspect = { incarnation: 1, node: 'charlie', from: 'alpha' };

void test('messages are written as Go writes them', async (t) => {
  equal(t, encodePing(ping), 'ping');
  equal(t, encodeIndirectPing(indirect), 'indirectPing');
  equal(t, encodeNack(11), 'nack');
  equal(t, encodeAck(42), 'ackWithoutPayload');
  equal(t, withChecksum(compound([encodeAlive(alpha), encodeAlive(bravo)])), 'twoAlive');
  equal(t, withChecksum(encodeAccusation('suspect', suspect)), 'suspect');
  equal(t, withChecksum(encodeAccusation('dead', { ...suspect, from: 'bravo' })), 'dead');
  equal(t, withChecksum(encodeAccusation('dead', { incarnation: 2, node: 'bravo', from: 'bravo' })), 'left');
  equal(t, withChecksum(compound([encodePing({ ...ping, seq: 12 }), encodeAccusation('suspect', { ...suspect, from: 'bravo' })])), 'pingAndSuspect');
  const intent = Buffer.concat([Buffer.from('0182a54c54696d6501a44e6f6465a5627261766f', 'hex')]);
  equal(t, withChecksum(compound([encodeAlive(alpha), encodeAlive(bravo), encodeUserPacket(intent)])), 'twoAliveAndUser');
  equal(t, encodePushPull({ join: true, nodes: [go1], userState: Buffer.alloc(0) }), 'pushPull');
  equal(t, encodeUserStream(Buffer.from('hello')), 'userStream');
  equal(t, encodeError('Remote state is encrypted and encryption is not configured'), 'error');
});

void test('and read', async (t) => {
  t.same(decodePing(bytes('ping').subarray(1)), ping);
  t.same(decodeIndirectPing(bytes('indirectPing').subarray(1)), indirect);
  const ack = decodeAck(bytes('ackWithPayload').subarray(1));
  t.equal(ack.seq, 1);
  t.equal(ack.payload.length, 130);
  const [first, second] = messagesOf(bytes('twoAlive'));
  t.same(decodeAlive(first!.subarray(1)), alpha);
  t.same(decodeAlive(second!.subarray(1)), bravo);
  t.same(decodeAccusation(messagesOf(bytes('left'))[0]!.subarray(1)), { incarnation: 2, node: 'bravo', from: 'bravo' });
  t.same(decodePushPull(bytes('pushPull').subarray(1)), { join: true, nodes: [go1], userState: Buffer.alloc(0) });
  const damaged = bytes('suspect');
  damaged[20]! ^= 1;
  t.throws(() => messagesOf(damaged), /checksum/);
  t.same(messagesOf(Buffer.concat([compound([Buffer.of(2, 2), Buffer.of(3, 3)]).subarray(0, -1)])), [Buffer.of(2, 2)], 'the complete part of a cut compound');
});

void test('peers write numbers, text and containers in other ways too', async (t) => {
  const reference = decodePing(bytes('ping').subarray(1));
  const asArray = Buffer.concat([Buffer.of(0x95), raw('charlie'), uint(1), raw(Uint8Array.of(127, 0, 0, 2)), raw('bravo'), uint(7946)]);
  t.same(decodePing(asArray), reference, 'a struct as an array');
  const modern = Buffer.concat([Buffer.of(0xde, 0, 2, 0xd9, 4), Buffer.from('Node'), Buffer.of(0xd9, 3), Buffer.from('abc'), raw('SeqNo'), Buffer.of(0xd1, 0, 200)]);
  t.same(decodePing(modern), { node: 'abc', seq: 200 }, 'map16, str8, int16');
  t.same(decodePing(Buffer.concat([Buffer.of(0x83), raw('Node'), raw('a'), raw('SeqNo'), uint(1), raw('New'), Buffer.of(0xc0)])), { node: 'a', seq: 1 }, 'an unknown field');
  const mapped = Buffer.concat([Buffer.of(0x85), raw('Addr'), raw(Buffer.from('00000000000000000000ffff0a000001', 'hex')), raw('Incarnation'), uint(1), raw('Node'), raw('x'), raw('Port'), uint(7946), raw('Vsn'), raw(Uint8Array.of(1, 5, 2))]);
  t.same(decodeAlive(mapped), { incarnation: 1, node: 'x', address: at('10.0.0.1'), meta: Buffer.alloc(0), versions: [1, 5, 2, 0, 0, 0] }, 'an IPv4 address in 16 bytes, a short Vsn');
  for (const header of ['83a44a6f696ec3a54e6f64657300ac5573657253746174654c656ed10046', '83a44a6f696ec3a54e6f64657300ac5573657253746174654c656ecc46']) {
    t.equal(decodePushPull(Buffer.concat([Buffer.from(header, 'hex'), Buffer.alloc(70)])).userState.length, 70, 'lengths of both dialects');
  }
});

void test('LZW', async (t) => {
  t.equal(decompress(Buffer.from('000302', 'hex'), 10).toString(), '');
  t.equal(decompress(Buffer.from('00830404', 'hex'), 10).toString(), 'A');
  t.equal(decompress(Buffer.from('0083081148504840', 'hex'), 10).toString(), 'ABABABAB');
  t.throws(() => decompress(Buffer.from('0083081148504840', 'hex'), 7), /too large/);
  t.throws(() => decompress(Buffer.from('0083', 'hex'), 7), /early/);
  const parts = messagesOf(bytes('compressedPacket'));
  t.same(parts.map((part) => part[0]), [0, 4, 4, 8], 'ping, alive, alive, user');
  t.same(decodeAlive(parts[1]!.subarray(1)), alpha);
});

void test('seals', async (t) => {
  const keyring = new Keyring(SEALED_WITH);
  t.equal(openPacket(bytes('sealedPacket'), keyring)?.toString('hex'), CAPTURED.twoAlive, 'a sealed packet of a Go peer');
  t.equal(openPacket(bytes('sealedPacket'), new Keyring(Buffer.alloc(32), SEALED_WITH))?.toString('hex'), CAPTURED.twoAlive, 'by the second key');
  t.equal(openPacket(bytes('sealedPacket'), new Keyring(Buffer.alloc(16))), undefined);
  const own = sealPacket(Buffer.from('text'), keyring, random);
  t.equal(openPacket(own, keyring)?.toString(), 'text');
  for (let i = 0; i < own.length; i++) {
    const damaged = Buffer.from(own);
    damaged[i]! ^= 0x40;
    t.equal(openPacket(damaged, keyring), undefined);
  }
  t.throws(() => new Keyring(Buffer.alloc(5)), RangeError);
});

void test('streams in pieces of any size', async (t) => {
  const keyring = new Keyring(SEALED_WITH);
  const state = encodePushPull({ join: false, nodes: Array.from({ length: 50 }, (_, i) => ({ ...go1, node: `node ${i}` })), userState: Buffer.alloc(3000, 7) });
  for (const [data, key, nodes] of [
    [bytes('pushPull'), undefined, 1], [bytes('compressedPushPull'), undefined, 1], [bytes('sealedPushPull'), keyring, 1], [state, undefined, 50], [sealStream(state, keyring, random), keyring, 50],
  ] as const) {
    for (const size of [1, 7, 100, data.length]) {
      const read = createStreamReader(key);
      const results = Array.from({ length: Math.ceil(data.length / size) }, (_, i) => read(data.subarray(i * size, (i + 1) * size)));
      t.match(results.pop(), { type: 'pushPull', nodes: { length: nodes } });
      t.equal(results.find((message) => message !== undefined), undefined, 'nothing before all is there');
    }
  }
  t.match(createStreamReader(undefined)(bytes('userStream')), { type: 'user', payload: Buffer.from('hello') });
  t.throws(() => createStreamReader(undefined)(bytes('error')), /Remote state is encrypted/);
  t.throws(() => createStreamReader(keyring)(bytes('error')), /Remote state is encrypted/);
  t.throws(() => createStreamReader(undefined)(bytes('sealedPushPull')), /this node has no key/);
  t.throws(() => createStreamReader(keyring)(bytes('pushPull')), /this node has a key/);
  t.throws(() => decodePushPull(bytes('pushPull').subarray(1, 60)), Incomplete);
});
