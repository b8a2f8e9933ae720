import { strict as assert } from 'node:assert';
import fc from 'fast-check';
import packet from 'dns-packet';
import { test } from 'tap';
import { parsePrefix } from '../base/prefix.ts';
import { RCODE } from './message.ts';
import { parseQuery, type Query } from './query.ts';
import { belongsTo, hasAddressIn } from './reply.ts';
import { encodeName, encodeRejection, encodeResponse } from './response.ts';
import { A, decode, question } from './testing.ts';

const parsed = (message: Buffer): Query => {
  const query = parseQuery(message);
  if (query === 'silence' || 'rcode' in query) throw new Error(`rejected: ${JSON.stringify(query)}`);
  return query;
};
const out = Buffer.alloc(65_535);
const label = fc.string({ unit: fc.constantFrom(...'abcXYZ019-_'), minLength: 1, maxLength: 63 });
const name = fc.array(label, { minLength: 1, maxLength: 5 }).map((labels) => labels.join('.')).filter((text) => text.length <= 253);

test('questions are read as dns-packet wrote them', async () => {
  fc.assert(fc.property(name, fc.constantFrom('A', 'AAAA', 'PTR', 'MX', 'TXT', 'SRV'), fc.option(fc.integer({ min: 1, max: 65_535 })), (text, type, size) => {
    const additionals = size === null ? [] : [{ type: 'OPT' as const, name: '.' as const, udpPayloadSize: size, flags: 0, options: [] }];
    const message = question(text, type, { additionals } as object);
    const query = parsed(message);
    assert.equal(query.name, text.toLowerCase());
    assert.equal(query.type, { A: 1, AAAA: 28, PTR: 12, MX: 15, TXT: 16, SRV: 33 }[type]);
    assert.equal(query.class, 1);
    assert.equal(query.edns, size !== null);
    assert.equal(query.udpSize, Math.max(size ?? 0, 512));
    assert.equal(message.subarray(0, query.end).length, 12 + text.length + 2 + 4);
  }), { numRuns: 500 });
});

test('names that are not plain', async (t) => {
  t.equal(parsed(question('.')).name, '');
  t.equal(parsed(question('Ärger.WEB')).name, 'ärger.web');
  const dotted = question('a_b');
  dotted[14] = 0x2e;
  t.equal(parsed(dotted).name, undefined, 'a dot inside a label');
  const pointer = Buffer.concat([question('a').subarray(0, 12), Buffer.from([0xc0, 0x0c, 0, 1, 0, 1])]);
  t.same(parseQuery(pointer), { rcode: RCODE.FORMERR }, 'a question that points at itself');
});

test('what is no acceptable query', async (t) => {
  const good = question('a');
  const changed = (change: (message: Buffer) => void): Buffer => {
    const message = Buffer.from(good);
    change(message);
    return message;
  };
  t.equal(parseQuery(good.subarray(0, 11)), 'silence');
  t.equal(parseQuery(changed((m) => m.writeUInt16BE(0x8100, 2))), 'silence', 'a response');
  t.same(parseQuery(changed((m) => m.writeUInt16BE(0x2800, 2))), { rcode: RCODE.NOTIMP }, 'an update');
  t.same(parseQuery(changed((m) => m.writeUInt16BE(2, 4))), { rcode: RCODE.FORMERR }, 'two questions');
  t.same(parseQuery(changed((m) => m.writeUInt16BE(9, 10))), { rcode: RCODE.FORMERR }, 'records that are not there');
  const opt = { type: 'OPT' as const, name: '.' as const, udpPayloadSize: 1232, flags: 0, options: [] };
  t.same(parseQuery(question('a', 'A', { additionals: [opt, opt] } as object)), { rcode: RCODE.FORMERR });
  const newer = question('a', 'A', { additionals: [{ ...opt, ednsVersion: 1 }] } as object);
  t.same(parseQuery(newer), { rcode: RCODE.BADVERS });
  const answer = decode(out.subarray(0, encodeRejection(out, newer, RCODE.BADVERS)));
  t.equal(answer.additionals?.[0]?.type, 'OPT');
  t.equal((answer.additionals![0] as unknown as { extendedRcode: number }).extendedRcode << 4 | ['NOERROR'].indexOf(answer.rcode), RCODE.BADVERS);
  for (let length = 12; length < good.length; length++) t.same(parseQuery(good.subarray(0, length)), { rcode: RCODE.FORMERR }, `cut at ${length}`);
});

test('dns-packet reads what we answer', async (t) => {
  const ips = ['10.0.0.1', '10.0.0.2', '10.0.0.3'];
  for (const edns of [false, true]) {
    const message = question('C1.web', 'A', edns ? { additionals: [{ type: 'OPT', name: '.', udpPayloadSize: 1400, flags: 0, options: [] }] } as object : {});
    const query = parsed(message);
    const length = encodeResponse(out, message, query, RCODE.NOERROR, { kind: 'addresses', ips, first: 1, ttl: 5 }, 512);
    const answer = decode(out.subarray(0, length));
    t.match(answer, { id: message.readUInt16BE(0), type: 'response', flag_rd: true, flag_ra: true, flag_aa: false, flag_tc: false, rcode: 'NOERROR' });
    t.same(answer.questions, [{ name: 'C1.web', type: 'A', class: 'IN' }], 'in the client\'s own case');
    t.same(answer.answers!.map((each) => each.type === 'A' && [each.name, each.data, each.ttl]), [['C1.web', '10.0.0.2', 5], ['C1.web', '10.0.0.3', 5], ['C1.web', '10.0.0.1', 5]]);
    t.equal(answer.additionals!.length, edns ? 1 : 0, 'EDNS is answered with EDNS (RFC 6891 §6.1.1)');
    const empty = decode(out.subarray(0, encodeResponse(out, message, query, RCODE.NOERROR, { kind: 'nodata' }, 512)));
    t.match(empty, { rcode: 'NOERROR', answers: [] });
  }
  const reverse = question('4.3.2.10.in-addr.arpa', 'PTR');
  const pointer = decode(out.subarray(0, encodeResponse(out, reverse, parsed(reverse), RCODE.NOERROR, { kind: 'pointer', name: 'c1.web', ttl: 5 }, 512)));
  t.match(pointer.answers, [{ type: 'PTR', data: 'c1.web', ttl: 5 }]);
  t.equal(encodeName('a..b'), undefined);
  t.equal(encodeName('x'.repeat(64)), undefined);
  t.equal(encodeName(Array(5).fill('x'.repeat(60)).join('.')), undefined);
});

test('what does not fit is left out, and TC says so', async () => {
  const message = question('many');
  const ips = Array.from({ length: 300 }, (_, i) => `10.0.${i >> 8}.${i & 255}`);
  fc.assert(fc.property(fc.integer({ min: 64, max: 5000 }), fc.boolean(), (limit, edns) => {
    const query = { ...parsed(message), edns };
    const length = encodeResponse(out, message, query, RCODE.NOERROR, { kind: 'addresses', ips, first: 7, ttl: 5 }, limit);
    const answer = decode(out.subarray(0, length));
    assert.ok(length <= limit);
    assert.equal(answer.answers!.length, Math.min(300, Math.floor((limit - query.end - (edns ? 11 : 0)) / 16)));
    assert.equal(answer.flag_tc, answer.answers!.length < 300);
  }));
});

test('replies are matched by id and question', async (t) => {
  const query = question('Name.Example', 'A');
  const reply = (change: object = {}): Buffer => packet.encode({ type: 'response', id: query.readUInt16BE(0), questions: [{ name: 'name.example', type: 'A' }], answers: [A('name.example', '1.2.3.4')], ...change });
  const matches = (message: Buffer): boolean => belongsTo(message, query, query.length);
  t.ok(matches(reply()), 'letters compare without case');
  t.notOk(matches(reply({ id: (query.readUInt16BE(0) + 1) & 0xffff })));
  t.notOk(matches(reply({ questions: [{ name: 'name.exampl3', type: 'A' }] })));
  t.notOk(matches(reply({ questions: [{ name: 'name.example', type: 'AAAA' }] })));
  t.notOk(matches(reply({ type: 'query' })));
  t.notOk(matches(reply().subarray(0, 20)));
  t.notOk(matches(reply({ questions: [], answers: [] })), 'no question, yet no error');
  t.ok(matches(reply({ questions: [], answers: [], flags: RCODE.REFUSED })), 'errors may leave the question out');
});

test('addresses of Weft subnets are found in replies', async (t) => {
  const query = question('a');
  const subnets = ['10.1.0.0/24', '10.2.0.0/16', 'fd20::/64'].map((text) => parsePrefix(text)!);
  const found = (answers: packet.Answer[]): boolean =>
    hasAddressIn(packet.encode({ type: 'response', id: 1, questions: [{ name: 'a', type: 'A' }], answers }), query.length, subnets);
  t.ok(found([A('a', '10.1.0.7')]));
  t.ok(found([{ type: 'CNAME', name: 'a', data: 'b.example' }, A('b.example', '10.2.255.1')]));
  t.ok(found([{ type: 'AAAA', name: 'a', data: 'fd20::7' }]));
  t.notOk(found([A('a', '10.1.1.7')]));
  t.notOk(found([{ type: 'AAAA', name: 'a', data: 'fd21::7' }]));
  t.notOk(found([{ type: 'TXT', name: 'a', data: Buffer.from([10, 1, 0]) }]));
  t.notOk(found([]));
});

test('no bytes make the codec throw or read outside', async (t) => {
  const subnets = [parsePrefix('10.0.0.0/8')!];
  const seeds = [question('c1.web'), question('4.3.2.10.in-addr.arpa', 'PTR', { additionals: [{ type: 'OPT', name: '.', udpPayloadSize: 1400, flags: 0, options: [] }] } as object),
    packet.encode({ type: 'response', questions: [{ name: 'a', type: 'A' }], answers: [A('a', '10.1.0.7')] })];
  /** Good messages with some bytes changed, cut or doubled: these get further than noise does. */
  const mutated = fc.tuple(fc.constantFrom(...seeds), fc.array(fc.tuple(fc.nat(80), fc.nat(255)), { maxLength: 6 }), fc.nat(90), fc.boolean()).map(([seed, changes, cut, twice]) => {
    const message = Buffer.from(twice ? Buffer.concat([seed, seed]) : seed);
    for (const [at, value] of changes) if (at < message.length) message[at] = value;
    return message.subarray(0, cut);
  });
  const noise = fc.uint8Array({ maxLength: 80 }).map((bytes) => Buffer.from(bytes));
  let accepted = 0;
  fc.assert(fc.property(fc.oneof({ weight: 3, arbitrary: mutated }, noise), (message) => {
    const query = parseQuery(message);
    if (query === 'silence') return;
    if ('rcode' in query) {
      assert.ok(encodeRejection(out, message, query.rcode) >= 12);
      return;
    }
    accepted++;
    assert.ok(query.end <= message.length && query.udpSize >= 512);
    const theirs = readByDnsPacket(message);
    if (theirs !== undefined && query.name !== undefined) assert.equal(query.name, theirs.toLowerCase());
    const length = encodeResponse(out, message, query, RCODE.NOERROR, { kind: 'addresses', ips: ['10.0.0.1', 'fd00::1'], first: 0, ttl: 5 }, 512);
    assert.ok(out.readUInt16BE(0) === message.readUInt16BE(0) && length <= 512);
    hasAddressIn(message, query.end, subnets);
    belongsTo(message, message, query.end);
  }), { numRuns: 120_000 });
  t.ok(accepted > 5000, `${accepted} of them were queries`);
});

/** The question's name, where dns-packet can read the message. */
function readByDnsPacket(message: Buffer): string | undefined {
  try {
    const name = decode(message).questions?.[0]?.name;
    return name === '.' ? '' : name;
  } catch {
    return undefined;
  }
}

test('what of the header and of EDNS comes back', async (t) => {
  const secure = { additionals: [{ type: 'OPT', name: '.', udpPayloadSize: 1232, flags: packet.DNSSEC_OK, flag_do: true, options: [] }] } as object;
  const message = question('c1', 'A', secure);
  message.writeUInt16BE(message.readUInt16BE(2) | 0x10, 2);
  const query = parsed(message);
  const length = encodeResponse(out, message, query, 0, { kind: 'addresses', ips: ['10.0.0.1'], first: 0, ttl: 5 }, 512);
  t.match(packet.decode(out.subarray(0, length)), { flag_rd: true, flag_cd: true, flag_aa: false, additionals: [{ flag_do: true }] });
  const update = question('c1');
  update.writeUInt16BE(0x2800, 2);
  encodeRejection(out, update, 4);
  t.equal(out.readUInt16BE(2), 0xa884, 'a response of the same opcode');
});

test('a reply without the question is a failure, and nothing else', async (t) => {
  const query = question('c1');
  const reply = (rcode: number): Buffer => {
    const head = Buffer.alloc(12);
    query.copy(head, 0, 0, 2);
    head.writeUInt16BE(0x8180 | rcode, 2);
    return head;
  };
  const taken = Array.from({ length: 16 }, (_, rcode) => rcode).filter((rcode) => belongsTo(reply(rcode), query, query.length));
  t.same(taken, [1, 2, 4, 5]);
});
