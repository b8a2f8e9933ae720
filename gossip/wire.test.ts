/** Byte for byte what Go peers write, and everything that they write is understood. */
import { createCipheriv } from 'node:crypto';
import { type Test, test } from 'tap';
import { seededRandom } from '../base/random.ts';
import { CAPTURED, SEALED_WITH } from './captured-for-tests.ts';
import { Refused } from './counters.ts';
import { createEnvelope, type Envelope } from './envelope.ts';
import { compound, messagesOf, withChecksum } from './framing.ts';
import { Keyring } from './keyring.ts';
import { compress, decompress } from './lzw.ts';
import {
  decodeAccusation, decodeAck, decodeAlive, decodeIndirectPing, decodePing, decodePushPull, encodeAccusation, encodeAck, encodeAlive, encodeError, encodeIndirectPing, encodeNack, encodePing,
  decodeCompressed, encodeCompressed, encodePushPull, encodeUserPacket, encodeUserStream, type Address,
} from './messages.ts';
import { Incomplete, raw, uint } from './msgpack.ts';
import { LATER } from './stream-message.ts';

const bytes = (name: keyof typeof CAPTURED): Buffer => Buffer.from(CAPTURED[name], 'hex');
const at = (host: string): Address => ({ host, port: 7946 });
const random = seededRandom(1);
const sealedWith = (...keys: [Uint8Array, ...Uint8Array[]]): Envelope => createEnvelope({ keyring: new Keyring(...keys) }, random);
const plain = createEnvelope({}, random);
const equal = (t: Test, built: Buffer, name: keyof typeof CAPTURED): void => void t.equal(built.toString('hex'), CAPTURED[name], name);

/** Under which reason it is refused. */
function reasonOf(run: () => unknown): string | undefined {
  try {
    run();
    return undefined;
  } catch (error) {
    return error instanceof Refused ? error.reason : 'malformed';
  }
}

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

void test('what a member says of itself keeps nothing else in memory', async (t) => {
  const { meta } = decodeAlive(encodeAlive({ incarnation: 1, node: 'a', address: { host: '10.0.0.1', port: 1 }, meta: Buffer.from('meta'), versions: [1, 5, 5, 0, 0, 0] }).subarray(1));
  t.same([meta.toString(), meta.buffer.byteLength], ['meta', 4]);
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
  const sealed = sealedWith(SEALED_WITH);
  t.equal(sealed.openPacket(bytes('sealedPacket')).toString('hex'), CAPTURED.twoAlive, 'a sealed packet of a Go peer');
  t.equal(sealedWith(Buffer.alloc(32), SEALED_WITH).openPacket(bytes('sealedPacket')).toString('hex'), CAPTURED.twoAlive, 'by the second key');
  t.equal(reasonOf(() => sealedWith(Buffer.alloc(16)).openPacket(bytes('sealedPacket'))), 'seal');
  for (const version of [0, 1] as const) {
    const envelope = createEnvelope({ keyring: new Keyring(SEALED_WITH), sealVersion: version }, random);
    for (const length of [0, 1, 15, 16, 17, 1300]) {
      const text = Buffer.alloc(length, 'x');
      const own = envelope.wrapPacket(text);
      t.equal(own[0], version);
      t.ok(own.length <= length + envelope.overhead);
      t.same(sealed.openPacket(own), text, 'each version opens both');
      for (let i = 0; i < Math.min(own.length, 60); i++) {
        const damaged = Buffer.from(own);
        damaged[i]! ^= 0x40;
        if (reasonOf(() => sealed.openPacket(damaged)) !== 'seal') t.fail(`changed at ${i}`);
      }
    }
  }
});

void test('a padding that makes no sense is refused, although the seal is right', async (t) => {
  const key = Buffer.alloc(16, 1);
  const open = (text: Buffer): Buffer | undefined => {
    const nonce = Buffer.alloc(12, 3);
    const cipher = createCipheriv('aes-128-gcm', key, nonce);
    return new Keyring(key).open(Buffer.concat([Buffer.of(0), nonce, cipher.update(text), cipher.final(), cipher.getAuthTag()]), Buffer.alloc(0));
  };
  t.same(open(Buffer.concat([Buffer.from('text'), Buffer.alloc(12, 12)])), Buffer.from('text'));
  for (const [what, text] of [['none', Buffer.alloc(0)], ['of 0', Buffer.alloc(16, 0)], ['of 17', Buffer.alloc(32, 17)], ['not of whole blocks', Buffer.alloc(15, 1)]] as const) t.equal(open(text), undefined, what);
});

void test('a compound has up to 255 parts, and one part is sent as it is', async (t) => {
  const parts = (count: number): Buffer[] => Array.from({ length: count }, (_, i) => Buffer.of(8, i & 255));
  t.same(compound(parts(1)), parts(1)[0]);
  t.same(messagesOf(compound(parts(255))), parts(255));
  t.throws(() => compound(parts(256)), RangeError);
});

void test('a keyring', async (t) => {
  const [a, b] = [Buffer.alloc(16, 1), Buffer.alloc(32, 2)];
  t.throws(() => new Keyring(Buffer.alloc(5)), RangeError);
  const keyring = new Keyring(a);
  t.throws(() => keyring.use(b), RangeError, 'not installed');
  t.throws(() => keyring.remove(a), RangeError, 'in use');
  keyring.install(b);
  keyring.install(b);
  t.same(keyring.keys.map((key) => key.length), [16, 32]);
  keyring.use(b);
  keyring.remove(a);
  keyring.remove(a);
  t.same(keyring.keys.map((key) => key.length), [32]);
});

void test('labels', async (t) => {
  const blue = createEnvelope({ label: 'blue' }, random);
  const [go2, go1Alive] = messagesOf(blue.openPacket(bytes('labelledPacket')));
  t.equal(decodeAlive(go2!.subarray(1)).node, 'go2', 'a Go peer\'s packet');
  t.equal(blue.wrapPacket(withChecksum(compound([go2!, go1Alive!]))).toString('hex'), CAPTURED.labelledPacket);
  for (const envelope of [plain, createEnvelope({ label: 'blu' }, random), createEnvelope({ label: 'green' }, random)]) t.equal(reasonOf(() => envelope.openPacket(bytes('labelledPacket'))), 'label');
  for (const cut of ['', 'f4', 'f400', 'f404', 'f404626c75']) t.equal(reasonOf(() => blue.openPacket(Buffer.from(cut, 'hex'))), 'label', cut);
  t.throws(() => createEnvelope({ label: 'x'.repeat(256) }, random), RangeError);

  t.equal(blue.wrapStream(encodePushPull({ join: true, nodes: [{ ...go1, node: 'go2', address: at('127.0.0.2') }], userState: Buffer.alloc(0) }), true).toString('hex'), CAPTURED.labelledPushPull);
  t.match(blue.createReader(false)(bytes('labelledPushPull')), { type: 'pushPull', join: true });
  t.match(blue.createReader(true)(bytes('pushPull')), { type: 'pushPull' }, 'the answer has no label');
  t.equal(reasonOf(() => plain.createReader(false)(bytes('labelledPushPull'))), 'label');
  t.equal(reasonOf(() => blue.createReader(false)(bytes('pushPull'))), 'label');

  const both = (label: string): Envelope => createEnvelope({ label, keyring: new Keyring(SEALED_WITH) }, random);
  const message = encodeUserStream(Buffer.from('x'));
  t.match(both('blue').createReader(false)(both('blue').wrapStream(message, true)), { type: 'user' });
  t.match(both('blue').createReader(true)(both('blue').wrapStream(message, false)), { type: 'user' });
  t.equal(reasonOf(() => both('grey').createReader(true)(both('blue').wrapStream(message, false))), 'seal', 'seals are bound to the label');
});

void test('keys are introduced to a running cluster', async (t) => {
  const keyring = new Keyring(SEALED_WITH);
  const steps = [createEnvelope({}, random), createEnvelope({ keyring, verifyIncoming: false, verifyOutgoing: false }, random), createEnvelope({ keyring, verifyIncoming: false }, random), createEnvelope({ keyring }, random)];
  const text = encodeUserStream(Buffer.from('x'));
  steps.forEach((from, i) => {
    for (const to of steps.slice(Math.max(0, i - 1), i + 2)) {
      t.same(to.openPacket(from.wrapPacket(text)), text);
      t.match(to.createReader(false)(from.wrapStream(text, true)), { type: 'user' });
    }
  });
});

void test('compression', async (t) => {
  for (const name of ['compressedPacket', 'compressedPushPull'] as const) {
    const packed = decodeCompressed(bytes(name).subarray(1));
    t.equal(compress(decompress(packed, 1 << 16)).toString('hex'), packed.toString('hex'), 'the same bytes as a Go peer');
  }
  for (const text of ['', 'A', 'ABABABAB']) t.equal(decompress(compress(Buffer.from(text)), 10).toString(), text);
  t.same(['', 'A', 'ABABABAB'].map((text) => compress(Buffer.from(text)).toString('hex')), ['000302', '00830404', '0083081148504840']);
  for (let i = 0; i < 200; i++) {
    const letters = 1 + random.int(255);
    const data = Buffer.from(Array.from({ length: random.int(i < 20 ? 60_000 : 3_000) }, () => random.int(letters)));
    if (!decompress(compress(data), data.length).equals(data)) t.fail(`${data.length} bytes of ${letters} letters`);
  }
  const envelope = createEnvelope({ compression: true }, random);
  const wrapped = envelope.wrapPacket(Buffer.alloc(1000, encodeAlive(alpha)));
  t.ok(wrapped.length < 500);
  t.equal(wrapped[0], 9);
  t.equal(envelope.wrapPacket(Buffer.from(random.bytes(1000))).length, 1000, 'what does not get smaller stays');
});

void test('a large state takes many turns of the loop to read', async (t) => {
  const sealed = sealedWith(SEALED_WITH);
  const state = encodePushPull({ join: false, nodes: Array.from({ length: 200 }, (_, i) => ({ ...go1, node: `node ${i}` })), userState: Buffer.from('mine') });
  for (const [data, envelope] of [[state, plain], [sealed.wrapStream(state, true), sealed], [encodeCompressed(compress(state)), plain]] as const) {
    const read = envelope.createReader(false);
    let turns = 1;
    let message = read(data);
    for (; message === LATER; turns++) message = read(Buffer.alloc(0));
    t.match(message, { type: 'pushPull', userState: Buffer.from('mine'), nodes: { length: 200 } });
    t.ok(turns >= 8, `${turns} turns`);
  }
  const cut = encodeCompressed(compress(state.subarray(0, -1)));
  const read = plain.createReader(false);
  t.throws(() => { for (let message = read(cut); message === LATER;) message = read(Buffer.alloc(0)); }, RangeError, 'what was compressed and is too short is waited for no longer');
});

void test('streams in pieces of any size', async (t) => {
  const sealed = sealedWith(SEALED_WITH);
  const state = encodePushPull({ join: false, nodes: Array.from({ length: 50 }, (_, i) => ({ ...go1, node: `node ${i}` })), userState: Buffer.alloc(3000, 7) });
  for (const [data, envelope, nodes] of [
    [bytes('pushPull'), plain, 1], [bytes('compressedPushPull'), plain, 1], [bytes('sealedPushPull'), sealed, 1], [state, plain, 50], [sealed.wrapStream(state, true), sealed, 50],
    [createEnvelope({ label: 'blue' }, random).wrapStream(state, true), createEnvelope({ label: 'blue' }, random), 50],
  ] as const) {
    for (const size of [1, 7, 100, data.length]) {
      const read = envelope.createReader(false);
      const results = Array.from({ length: Math.ceil(data.length / size) }, (_, i) => read(data.subarray(i * size, (i + 1) * size)));
      while (results.at(-1) === LATER) results.push(read(Buffer.alloc(0)));
      t.match(results.pop(), { type: 'pushPull', nodes: { length: nodes } });
      t.equal(results.find((message) => message !== undefined && message !== LATER), undefined, 'nothing before all is there');
    }
  }
  t.match(plain.createReader(false)(bytes('userStream')), { type: 'user', payload: Buffer.from('hello') });
  t.throws(() => plain.createReader(true)(bytes('error')), /Remote state is encrypted/);
  t.throws(() => sealed.createReader(true)(bytes('error')), /Remote state is encrypted/);
  t.throws(() => plain.createReader(false)(bytes('sealedPushPull')), /this node has no key/);
  t.throws(() => sealed.createReader(false)(bytes('pushPull')), /this node has a key/);
  t.throws(() => decodePushPull(bytes('pushPull').subarray(1, 60)), Incomplete);
});
