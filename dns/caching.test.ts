import packet, { type Answer } from 'dns-packet';
import { test } from 'tap';
import { VirtualClock } from '../base/virtual-clock.ts';
import { createAnswerCache } from './answer-cache.ts';
import { createCachingForwarder, type Found, type NotFound } from './caching.ts';
import type { Failure } from './forwarder.ts';
import { writeKept } from './kept-answer.ts';
import { parseQuery, type Query } from './query.ts';
import { A, decode, outcome, question } from './testing.ts';

interface Reply { answers?: Answer[]; authorities?: Answer[]; rcode?: number; truncated?: boolean; aa?: boolean }
const SOA: Answer = { type: 'SOA', name: 'example', ttl: 300, data: { mname: 'ns.example', rname: 'me.example', serial: 1, refresh: 1, retry: 1, expire: 1, minimum: 40 } };
const OPT = { type: 'OPT', name: '.', udpPayloadSize: 1232, flags: 0, options: [] } as unknown as Answer;
const EDNS = { additionals: [{ ...OPT, udpPayloadSize: 4096 }] } as object;

function scene(options: { maxBytes?: number } = {}) {
  const clock = new VirtualClock();
  const cache = createAnswerCache(options.maxBytes ?? 1 << 20);
  const asked: string[] = [];
  const say: { next: (name: string, transport: string) => Reply | Failure | Promise<Reply | Failure> } = { next: (name) => ({ answers: [A(name, '1.1.1.1')] }) };
  const forwarderOf = (scope: string) => createCachingForwarder({
    cache, scope, clock, discards: (reply) => outcome(reply).startsWith('10.1.'),
    forwarder: {
      close: () => {},
      ask: async (message, _, transport) => {
        const { id, questions, additionals } = decode(message);
        const [{ name, type } = { name: '', type: 'A' }] = questions!;
        asked.push(`${name}/${type}/${transport}/${additionals!.length}`);
        const reply = await say.next(name, transport);
        if (typeof reply === 'string') return reply;
        return packet.encode({
          type: 'response', id: id!, flags: packet.RECURSION_AVAILABLE | (reply.aa ? packet.AUTHORITATIVE_ANSWER : 0) | (reply.truncated ? packet.TRUNCATED_RESPONSE : 0) | (reply.rcode ?? 0),
          questions: questions!, answers: reply.answers ?? [], authorities: reply.authorities ?? [], additionals: [OPT],
        });
      },
    },
  });
  const forwarder = forwarderOf('a');
  const find = async (message: Buffer, by = forwarder): Promise<Found | NotFound> => by.find(message, parseQuery(message) as Query);
  const get = async (name: string, type?: string): Promise<string> => {
    const message = question(name, type);
    const found = await find(message);
    return typeof found === 'string' ? found : `${found.source} ${written(message, found)}`;
  };
  return { clock, cache, asked, say, forwarder, forwarderOf, find, get };
}

function write(message: Buffer, { answer, age }: Found, { limit = 512, shift = 0 } = {}): Buffer {
  const out = Buffer.alloc(65_535);
  return out.subarray(0, writeKept(out, message, parseQuery(message) as Query, answer, age, shift, limit));
}
const written = (message: Buffer, found: Found): string => outcome(write(message, found));
const ttlOf = (message: Buffer, found: Found): number | undefined => (decode(write(message, found)).answers![0] as { ttl?: number }).ttl;

test('what was answered is kept for its time, whoever asks and in whatever letters', async (t) => {
  const { get, find, clock, asked } = scene();
  t.equal(await get('www.example'), 'asked 1.1.1.1');
  t.equal(await get('WWW.Example'), 'cached 1.1.1.1');
  await clock.advance(20_400);
  const message = question('wWw.example', 'A', EDNS);
  const found = await find(message) as Found;
  t.equal(ttlOf(message, found), 40);
  const reply = decode(write(message, found));
  t.match(reply, { id: message.readUInt16BE(0), flag_ra: true, flag_aa: false, flag_rd: true, questions: [{ name: 'wWw.example' }] });
  t.equal(reply.additionals!.length, 1, 'EDNS for those that have it');
  t.equal(decode(write(question('www.example'), found)).additionals!.length, 0);
  t.same(asked, ['www.example/A/udp/1']);
  t.equal(await get('www.example', 'AAAA'), 'asked 1.1.1.1', 'another type is another question');
  await clock.advance(40_000);
  t.equal(await get('www.example'), 'asked 1.1.1.1');
});

test('letters beyond ASCII are not folded: names that differ in bytes have answers of their own', async (t) => {
  const { find, say, asked } = scene();
  /** dns-packet writes text; '#' stands for the bytes. */
  const asking = (bytes: number[]): Buffer => {
    const message = question(`${'#'.repeat(bytes.length)}.example`);
    Buffer.from(bytes).copy(message, 13);
    return message;
  };
  const K = [0x6b];
  const KELVIN = [0xe2, 0x84, 0xaa];
  say.next = (name) => ({ answers: [A(name, name.startsWith('k.') ? '1.1.1.1' : '6.6.6.6')] });
  t.equal((await find(asking(KELVIN)) as Found).source, 'asked');
  const plain = asking(K);
  const found = await find(plain) as Found;
  t.equal(`${found.source} ${written(plain, found)}`, 'asked 1.1.1.1');
  const before = asked.length;
  await Promise.all([[0xff], [0xfe]].map(async (bytes) => find(asking(bytes))));
  t.equal(asked.length, before + 2, 'invalid ones are not the same either');
});

test('what is not there is kept for as long as its zone says, five minutes at most', async (t) => {
  const { get, clock, say, asked } = scene();
  say.next = () => ({ rcode: 3, authorities: [SOA] });
  t.equal(await get('nobody.example'), 'asked NXDOMAIN');
  t.equal(await get('nobody.example'), 'cached NXDOMAIN');
  await clock.advance(40_000);
  t.equal(await get('nobody.example'), 'asked NXDOMAIN');
  say.next = () => ({ rcode: 3, authorities: [{ ...SOA, ttl: 86_400, data: { ...(SOA as { data: object }).data, minimum: 86_400 } } as Answer] });
  t.equal(await get('long.example'), 'asked NXDOMAIN');
  await clock.advance(299_000);
  t.equal(await get('long.example'), 'cached NXDOMAIN');
  await clock.advance(1_000);
  t.equal(await get('long.example'), 'asked NXDOMAIN');
  say.next = () => ({ rcode: 3 });
  await get('silent.example');
  t.equal(await get('silent.example'), 'asked NXDOMAIN', 'where no zone says so it is not kept');
  t.equal(asked.length, 6);
});

test('those who ask the same at the same time wait for one answer', async (t) => {
  const { find, say, asked } = scene();
  const { promise, resolve } = Promise.withResolvers<Reply>();
  say.next = () => promise;
  const answers = Array.from({ length: 100 }, async () => find(question('www.example')));
  resolve({ answers: [A('www.example', '1.1.1.1')] });
  t.equal((await Promise.all(answers)).filter((each) => typeof each !== 'string').length, 100);
  t.equal(asked.length, 1);
});

test('nobody answers: what is past its time is given, with a TTL of 30 s, and nobody is asked for as long', async (t) => {
  const { get, find, clock, say, asked } = scene();
  await get('www.example');
  await clock.advance(60_000);
  for (const failure of ['timeout', 'busy'] as const) {
    say.next = () => failure;
    const before = asked.length;
    t.equal(await get('www.example'), 'stale 1.1.1.1');
    t.equal(await get('www.example'), 'stale 1.1.1.1');
    t.equal(asked.length, before + 1);
    await clock.advance(30_000);
  }
  say.next = () => ({ rcode: 2 });
  const message = question('www.example');
  t.equal(ttlOf(message, await find(message) as Found), 30);
  await clock.advance(30_000);
  say.next = () => ({ rcode: 3, authorities: [SOA] });
  t.equal(await get('www.example'), 'asked NXDOMAIN', 'an answer is an answer');
  say.next = () => 'timeout';
  t.equal(await get('unknown.example'), 'timeout');
});

test('where nobody is there it is said so, for others may know; what is kept is the last resort', async (t) => {
  const { get, forwarder, clock, say, asked } = scene();
  await get('www.example');
  await clock.advance(60_000);
  say.next = () => 'absent';
  for (let i = 0; i < 2; i++) t.equal(await get('www.example'), 'absent');
  t.equal(asked.length, 3);
  const message = question('www.example');
  const found = forwarder.lastResort(message, parseQuery(message) as Query)!;
  t.equal(`${found.source} ${written(message, found)} ${ttlOf(message, found)}`, 'stale 1.1.1.1 30');
  const other = question('other.example');
  t.equal(forwarder.lastResort(other, parseQuery(other) as Query), undefined);
});

test('a client does not wait for 1.8 s where there is something stale; what comes later is kept', async (t) => {
  const { get, clock, say } = scene();
  await get('www.example');
  await clock.advance(61_000);
  const { promise, resolve } = Promise.withResolvers<Reply>();
  say.next = () => promise;
  const slow = get('www.example');
  await clock.advance(1_799);
  t.equal(await Promise.race([slow, 'waiting']), 'waiting');
  await clock.advance(1);
  t.equal(await slow, 'stale 1.1.1.1');
  resolve({ answers: [A('www.example', '2.2.2.2')] });
  await clock.advance(1);
  t.equal(await get('www.example'), 'cached 2.2.2.2');
});

test('after a day nothing is stale any more', async (t) => {
  const { get, clock, say } = scene();
  await get('www.example');
  await clock.advance(60_000 + 86_400_000);
  say.next = () => 'timeout';
  t.equal(await get('www.example'), 'timeout');
});

test('hot names are asked for ahead of time', async (t) => {
  const { get, clock, asked } = scene();
  await get('hot.example');
  await get('cold.example');
  await get('hot.example');
  await clock.advance(55_000);
  t.equal(await get('hot.example'), 'cached 1.1.1.1');
  t.equal(await get('cold.example'), 'cached 1.1.1.1');
  await clock.advance(1);
  t.same(asked.slice(2), ['hot.example/A/udp/1']);
  await clock.advance(10_000);
  t.equal(await get('hot.example'), 'cached 1.1.1.1', 'it never ran out');
  t.equal(await get('cold.example'), 'asked 1.1.1.1');
});

test('an answer too large for UDP comes over TCP, is kept whole, and cut for those that cannot take it', async (t) => {
  const { find, say, asked } = scene();
  const answers = Array.from({ length: 60 }, (_, i) => A('www.example', `1.1.1.${i}`));
  say.next = (_, transport) => (transport === 'udp' ? { answers: answers.slice(0, 5), truncated: true } : { answers });
  const message = question('www.example');
  const found = await find(message) as Found;
  // dns-packet writes names out: 27 bytes for each record.
  found.answer.survey.rotation.push(...Array.from({ length: 60 }, (_, i) => message.length + i * 27 + 23));
  const first = decode(write(message, found, { shift: 50 }));
  t.match([first.flag_tc, first.answers!.length, outcome(write(message, found, { shift: 50 })).split(' ')[16]], [true, 17, '1.1.1.6'], 'as many as fit, others each time');
  const edns = decode(write(question('www.example', 'A', { additionals: [{ ...OPT, udpPayloadSize: 600 }] } as object), found, { limit: 600 }));
  t.match([edns.flag_tc, edns.answers!.length, edns.additionals!.length], [true, 20, 1]);
  const whole = decode(write(message, found, { limit: 65_535 }));
  t.match([whole.flag_tc, whole.answers!.length], [false, 60]);
  t.same(asked.map((each) => each.split('/')[2]), ['udp', 'tcp']);
  say.next = (_, transport) => (transport === 'udp' ? { answers: answers.slice(0, 5), truncated: true } : 'absent');
  const cut = await find(question('b.example'));
  t.equal(cut, 'lied', 'answers about another name');
});

test('answers that are discarded or cannot be believed are not kept', async (t) => {
  const { get, say, cache } = scene();
  say.next = (name) => ({ answers: [A(name, '10.1.0.5')] });
  t.equal(await get('c1'), 'discarded');
  say.next = () => ({ answers: [A('bank.example', '6.6.6.6')] });
  t.equal(await get('www.example'), 'lied');
  say.next = () => ({ rcode: 2 });
  t.equal(await get('www.example'), 'asked SERVFAIL');
  t.equal(cache.size, 0);
});

test('signatures and authentic data are for those that asked for them', async (t) => {
  const { find, asked } = scene();
  const plain = question('www.example');
  const secure = question('www.example', 'A', { additionals: [{ ...OPT, flags: packet.DNSSEC_OK, flag_do: true }] } as object);
  const found = await find(secure) as Found;
  t.equal((await find(plain) as Found).source, 'asked', 'kept apart');
  t.equal(asked.length, 2);
  found.answer.message.writeUInt16BE(found.answer.message.readUInt16BE(2) | 0x20, 2);
  t.match(decode(write(secure, found)), { flag_ad: true, additionals: [{ flag_do: true }] });
  t.match(decode(write(plain, found)), { flag_ad: false, additionals: [] });
});

test('addresses take turns', async (t) => {
  const { find, say } = scene();
  const ips = ['1.1.1.1', '1.1.1.2', '1.1.1.3'];
  say.next = () => ({ answers: ips.map((ip) => A('www.example', ip)) });
  const message = question('www.example');
  const found = await find(message) as Found;
  // dns-packet writes names out; as name servers write them:
  found.answer.survey.rotation.push(...Array.from({ length: 3 }, (_, i) => message.length + i * 27 + 23));
  t.same([0, 1, 2].map((shift) => outcome(write(message, found, { shift }))), ['1.1.1.1 1.1.1.2 1.1.1.3', '1.1.1.2 1.1.1.3 1.1.1.1', '1.1.1.3 1.1.1.1 1.1.1.2']);
});

test('memory is bounded, and a scope that asks for more and more drives out itself alone', async (t) => {
  const { cache, find, forwarderOf } = scene({ maxBytes: 100_000 });
  const modest = forwarderOf('modest');
  for (let i = 0; i < 20; i++) await find(question(`m${i}.example`), modest);
  for (let i = 0; i < 2_000; i++) await find(question(`${i}.${'x'.repeat(i % 60)}.example`));
  t.ok(cache.bytes <= 100_000, `${cache.bytes}`);
  t.ok(cache.size > 100);
  for (let i = 0; i < 20; i++) t.equal((await find(question(`m${i}.example`), modest) as Found).source, 'cached');
  t.equal((await find(question('1999.xxxxxxxxxxxxxxxxxxx.example')) as Found).source, 'cached', 'the newest are kept');
  t.equal((await find(question('1.x.example')) as Found).source, 'asked');
  cache.clear('modest');
  t.equal((await find(question('m1.example'), modest) as Found).source, 'asked');
  for (const scope of ['a', 'modest']) cache.clear(scope);
  t.same([cache.bytes, cache.size], [0, 0]);
});
