/** Whatever containers and name servers send: the codec ends soon and never throws. `FUZZ_CASES` of each kind (default: 200,000), the same ones in every run. */
import packet, { type Answer } from 'dns-packet';
import tap, { test } from 'tap';
import { parsePrefix } from '../base/prefix.ts';
import { fuzz } from '../gossip/hostile-for-tests.ts';
import { encodeAliased, questionFor } from './aliased.ts';
import { keep, keptLength, writeKept } from './kept-answer.ts';
import { HEADER, RCODE } from './message.ts';
import { parseQuery, refusalOf, type Query } from './query.ts';
import { answerTexts } from './record-text.ts';
import { belongsTo, hasAddressIn } from './reply.ts';
import { encodeFailure, encodeRejection, encodeResponse } from './response.ts';
import { surveyReply } from './survey.ts';
import { A, question } from './testing.ts';

const CASES = Number(process.env['FUZZ_CASES'] ?? 200_000);
const SLOWEST_MS = 10;
const GROWN_BYTES = 24 << 20;
tap.setTimeout(Math.max(570_000, CASES));

const out = Buffer.alloc(65_535);
const subnets = [parsePrefix('10.1.0.0/16')!, parsePrefix('fd00::/8')!];
const opt = { type: 'OPT', name: '.', udpPayloadSize: 1232, flags: 0x8000, options: [{ code: 8, data: Buffer.from([0, 1, 24, 0, 1, 2, 3]) }] } as unknown as Answer;
const QUERIES = [question('c1.web'), question('4.3.2.10.in-addr.arpa', 'PTR', { additionals: [opt] }), question('_http._tcp.api.web', 'SRV', { additionals: [opt] }), question('x'.repeat(63), 'ANY')];
const REPLIES: Buffer[] = [
  [A('www.example', '10.1.2.3'), A('www.example', '10.1.2.4')],
  [{ type: 'CNAME', name: 'www.example', data: 'a.b.c.example', ttl: 5 }, { type: 'AAAA', name: 'a.b.c.example', data: 'fd00::1' }] as Answer[],
  [{ type: 'DNAME', name: 'example', data: 'test', ttl: 5 }, { type: 'TXT', name: 'www.example', data: 'x'.repeat(200) }] as Answer[],
].map((answers) => packet.encode({
  type: 'response', questions: [{ name: 'www.example', type: 'A' }], answers, additionals: [A('ns.example', '1.1.1.1'), opt],
  authorities: [{ type: 'SOA', name: 'example', ttl: 300, data: { mname: 'ns.example', rname: 'me.example', serial: 1, refresh: 1, retry: 1, expire: 1, minimum: 30 } }],
}));

function readQuery(message: Buffer): void {
  const query = parseQuery(message);
  if (query === 'silence') return;
  if ('rcode' in query) {
    if (encodeRejection(out, message, query.rcode) < HEADER) throw new Error('no header');
    return;
  }
  if (query.end > message.length || query.udpSize < 512) throw new Error('read outside');
  refusalOf(query);
  encodeFailure(message, query, RCODE.SERVFAIL);
  if ('rcode' in Object(parseQuery(questionFor(message, query, 'www.example')))) throw new Error('a question that cannot be read');
  const length = encodeResponse(out, message, query, RCODE.NOERROR, { kind: 'addresses', ips: ['10.0.0.1', 'fd00::1'], first: 0, ttl: 5 }, 512);
  if (length > 512 || out.readUInt16BE(0) !== message.readUInt16BE(0)) throw new Error('a wrong response');
}

const asked = question('www.example', 'A', { additionals: [opt] } as object);
const client = parseQuery(asked) as Query;
const aliased = question('alias.test', 'A', { additionals: [opt] } as object);
const aliasClient = parseQuery(aliased) as Query;
const { end } = client;
function readReply(message: Buffer): void {
  belongsTo(message, asked, end);
  if (message.length < end) return;
  hasAddressIn(message, end, subnets);
  answerTexts(message, end);
  const answer = encodeAliased(aliased, aliasClient, [{ target: 'www.example', ttl: 5 }], message, end, 1232);
  if (answer.length > 1232 || answer.readUInt16BE(0) !== aliased.readUInt16BE(0)) throw new Error('a wrong answer by an alias');
  const survey = surveyReply(message, end, 1);
  if (!survey) return;
  if (survey.end > message.length || survey.ttl > 0x7fffffff) throw new Error('read outside');
  const kept = keep(message, survey);
  const length = writeKept(out, asked, client, kept, { seconds: 7 }, 1, 1232);
  if (length > Math.max(1232, keptLength(kept)) || out.readUInt16BE(0) !== asked.readUInt16BE(0)) throw new Error('a wrong response');
  for (const at of survey.ttls) if (at + 4 > survey.end) throw new Error('a TTL outside');
}

/** As much as one datagram holds, in records of one kind: each cheap to send, and dear for whoever compares it with all others. */
function datagramOf(record: (i: number) => Buffer): Buffer {
  const head = question('www.example');
  const records: Buffer[] = [];
  for (let length = head.length; length < 65_000; length += records.at(-1)!.length) records.push(record(records.length));
  const message = Buffer.concat([head, ...records]);
  message.writeUInt16BE(0x8180, 2);
  message.writeUInt16BE(records.length, 6);
  return message;
}
const recordOf = (owner: number[], type: number, data: Buffer): Buffer => Buffer.concat([Buffer.from([...owner, 0, type, 0, 1, 0, 0, 0, 9, data.length >>> 8, data.length & 255]), data]);
const LARGE: Buffer[] = [
  datagramOf((i) => recordOf([0xc0, HEADER], 1, Buffer.from([10, 0, i >>> 8, i & 255]))),
  datagramOf((i) => recordOf([2, i >>> 8, i & 255, 0xc0, HEADER], 39, Buffer.from([0xc0, HEADER]))),
  datagramOf((i) => recordOf([2, i >>> 8, i & 255, 0xc0, HEADER], 5, Buffer.from([2, (i + 1) >>> 8, (i + 1) & 255, 0xc0, HEADER]))),
  datagramOf((i) => recordOf([2, i >>> 8, i & 255, 0xc0, HEADER], 39, Buffer.alloc(110, 1))),
];

const KINDS = [['queries', QUERIES, readQuery, CASES], ['replies', REPLIES, readReply, CASES], ['replies of 64 KB', LARGE, readReply, CASES / 20]] as const;
for (const [name, samples, read, count] of KINDS) {
  void test(`${name}: ${count} hostile cases`, async (t) => {
    const { slowestMs, grownBytes } = await fuzz(read, { samples, seed: 1, count });
    t.ok(slowestMs < SLOWEST_MS, `the slowest took ${slowestMs.toFixed(2)} ms`);
    t.ok(grownBytes < GROWN_BYTES, `the heap grew by ${(grownBytes / 1024).toFixed(0)} KiB`);
  });
}
