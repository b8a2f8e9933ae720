import packet, { type Answer } from 'dns-packet';
import { test } from 'tap';
import { HEADER } from './message.ts';
import { surveyReply, type Survey } from './survey.ts';
import { A, question } from './testing.ts';

const SOA = (ttl: number, minimum: number): Answer => ({ type: 'SOA', name: 'example', ttl, data: { mname: 'ns.example', rname: 'me.example', serial: 1, refresh: 1, retry: 1, expire: 1, minimum } });
const CNAME = (name: string, data: string, ttl = 60): Answer => ({ type: 'CNAME', name, data, ttl });
const END = question('www.example').length;

interface Parts { answers?: Answer[]; authorities?: Answer[]; additionals?: object[]; rcode?: number; flags?: number }
function survey({ answers = [], authorities = [], additionals = [], rcode = 0, flags = 0 }: Parts, type = 1): Survey | undefined {
  return surveyReply(packet.encode({ type: 'response', flags: flags | rcode, questions: [{ name: 'www.example', type: 'A' }], answers, authorities, additionals: additionals as Answer[] }), END, type);
}

test('how long a reply may be kept', async (t) => {
  const ttl = (parts: Parts, type?: number): number | undefined => survey(parts, type)?.ttl;
  t.equal(ttl({ answers: [A('www.example', '1.2.3.4')] }), 60);
  t.equal(ttl({ answers: [CNAME('www.example', 'b.example', 7), A('b.example', '1.2.3.4')] }), 7, 'the lowest of its answers');
  t.equal(ttl({ answers: [{ ...A('www.example', '1.2.3.4'), ttl: 0xffffffff } as Answer] }), 0, 'RFC 2181 §8');
  t.equal(ttl({ rcode: 3, authorities: [SOA(300, 30)] }), 30, 'NXDOMAIN: what the zone says');
  t.equal(ttl({ rcode: 3, authorities: [SOA(20, 30)] }), 20);
  t.equal(ttl({ authorities: [SOA(300, 30)] }), 30, 'no such records');
  t.equal(ttl({ answers: [CNAME('www.example', 'b.example', 7)], authorities: [SOA(300, 30)] }), 7, 'an alias of what is not there');
  t.equal(ttl({ answers: [CNAME('www.example', 'b.example')] }), 0, 'no zone says for how long');
  t.equal(ttl({ answers: [CNAME('www.example', 'b.example')] }, 5), 60, 'it is the alias that was asked for');
  t.equal(ttl({ rcode: 3 }), 0);
  t.equal(ttl({}), 0);
  t.equal(ttl({ rcode: 2, authorities: [SOA(300, 30)] }), 0, 'failures are not kept');
  t.equal(ttl({ flags: packet.TRUNCATED_RESPONSE, answers: [A('www.example', '1.2.3.4')] }), 0);
  t.equal(survey({ rcode: 3, authorities: [SOA(300, 30)] })?.negative, true);
  t.equal(survey({ answers: [A('www.example', '1.2.3.4')] })?.negative, false);
});

test('answers that nobody asked for', async (t) => {
  t.equal(survey({ answers: [A('bank.example', '6.6.6.6')] }), undefined);
  t.equal(survey({ answers: [A('www.example', '1.2.3.4'), A('bank.example', '6.6.6.6')] }), undefined);
  t.equal(survey({ answers: [CNAME('www.example', 'b.example'), A('c.example', '6.6.6.6')] }), undefined);
  t.ok(survey({ answers: [A('c.example', '1.2.3.4'), CNAME('b.example', 'c.example'), CNAME('www.example', 'b.example')] }), 'aliases in any order');
  t.ok(survey({ answers: [A('WWW.Example', '1.2.3.4')] }), 'whatever the case');
  t.ok(survey({ answers: [{ type: 'DNAME', name: 'example', data: 'test', ttl: 60 }, CNAME('www.example', 'www.test'), A('www.test', '1.2.3.4')] }));
  t.ok(survey({ answers: [CNAME('www.example', 'b.example'), CNAME('b.example', 'www.example')] }), 'a loop of aliases ends');
  const long = Array.from({ length: 40 }, (_, i) => CNAME(i === 0 ? 'www.example' : `a${i}.example`, `a${i + 1}.example`));
  t.equal(survey({ answers: long }), undefined, 'forty aliases in a row');
});

test('the OPT record, and what comes after it', async (t) => {
  const opt = { type: 'OPT', name: '.', udpPayloadSize: 1232, flags: 0, options: [] };
  const without = survey({ answers: [A('www.example', '1.2.3.4')], additionals: [A('ns.example', '1.1.1.1')] })!;
  const withOpt = survey({ answers: [A('www.example', '1.2.3.4')], additionals: [A('ns.example', '1.1.1.1'), opt, A('x.example', '1.1.1.2')] })!;
  t.same(withOpt, without);
  t.equal(without.additional, 1);
  t.equal(without.ttls.length, 2);
});

test('addresses that may change places', async (t) => {
  const ips = ['1.1.1.1', '1.1.1.2', '1.1.1.3'];
  const compressed = Buffer.concat([
    packet.encode({ type: 'response', questions: [{ name: 'www.example', type: 'A' }] }),
    ...ips.map((ip) => Buffer.from([0xc0, HEADER, 0, 1, 0, 1, 0, 0, 0, 9, 0, 4, ...ip.split('.').map(Number)])),
  ]);
  compressed.writeUInt16BE(3, 6);
  const found = surveyReply(compressed, END, 1)!;
  t.same(found.rotation.map((at) => compressed.subarray(at, at + 4).join('.')), ips);
  t.same(found.ttls.map((at) => compressed.readUInt32BE(at)), [9, 9, 9]);
  t.same(survey({ answers: ips.map((ip) => A('www.example', ip)) })!.rotation, [], 'names that are written out are left alone');
});

test('bombs: thousands of records whose names cost far more than their bytes', async (t) => {
  const name = Buffer.concat([...Array.from({ length: 3 }, () => Buffer.concat([Buffer.of(63), Buffer.alloc(63, 'x')])), Buffer.from([1, 0x78, 0])]);
  const head = question('www.example');
  head.writeUInt16BE(0x8180, 2);
  /** A TXT record that has the long name in it, then records that are each owned by a label of their own on top of it. */
  const base = head.length + 12;
  const text = Buffer.concat([Buffer.from([0xc0, HEADER, 0, 16, 0, 1, 0, 0, 0, 9, 0, name.length]), name]);
  const owned = Array.from({ length: 4000 }, () => Buffer.from([1, 0x79, 0xc0 | (base >> 8), base & 255, 0, 1, 0, 1, 0, 0, 0, 9, 0, 0]));
  const bomb = Buffer.concat([head, text, ...owned]);
  bomb.writeUInt16BE(1 + owned.length, 6);
  t.equal(surveyReply(bomb, head.length, 1), undefined);
  const loop = Buffer.concat([head, Buffer.from([0xc0, head.length, 0, 1, 0, 1, 0, 0, 0, 9, 0, 0])]);
  loop.writeUInt16BE(1, 6);
  t.equal(surveyReply(loop, head.length, 1), undefined, 'a name that points at itself');
});

test('a reply has 512 records at most', async (t) => {
  const head = question('www.example');
  const reply = (count: number): Buffer => {
    const message = Buffer.concat([head, ...Array.from({ length: count }, (_, i) => Buffer.from([0xc0, HEADER, 0, 1, 0, 1, 0, 0, 0, 9, 0, 4, 10, 0, i >> 8, i & 255]))]);
    message.writeUInt16BE(0x8180, 2);
    message.writeUInt16BE(count, 6);
    return message;
  };
  t.equal(surveyReply(reply(512), head.length, 1)?.ttls.length, 512);
  t.equal(surveyReply(reply(513), head.length, 1), undefined);
  t.equal(surveyReply(reply(4_000), head.length, 1), undefined);
});

test('a DNAME stands above a whole label of the name', async (t) => {
  const dname = (name: string): Answer => ({ type: 'DNAME', name, data: 'test', ttl: 60 });
  t.ok(survey({ answers: [dname('example'), CNAME('www.example', 'www.test'), A('www.test', '1.2.3.4')] }));
  t.equal(survey({ answers: [dname('ample'), CNAME('www.example', 'www.test'), A('www.test', '1.2.3.4')] }), undefined);
  t.equal(survey({ answers: [dname('other'), A('www.example', '1.2.3.4')] }), undefined);
  t.equal(survey({ answers: [A('example', '6.6.6.6'), A('www.example', '1.2.3.4')] }), undefined, 'what stands there without one was not asked for');
});
