import fc from 'fast-check';
import { test } from 'tap';
import { attribute, eachAttribute, flag, nested, parseAttributes, readText, readU32, text, u16be, u32 } from './attributes.ts';
import { encodeMessage, errorOf, parseMessages, NLMSG_ERROR } from './netlink-message.ts';

test('what is written is read back, padded to four bytes', (t) => {
  const body = Buffer.concat([text(1, 'weft'), flag(2, true), nested(3, u32(4, 0xfffffffe), u16be(5, 4789))]);
  t.equal(body.length % 4, 0);
  const [message] = parseMessages(encodeMessage({ type: 16, flags: 0x400, body }, 7));
  t.match(message, { type: 16, flags: 0x401, sequence: 7 });
  const attributes = parseAttributes(message!.body);
  t.equal(readText(attributes.get(1)), 'weft');
  t.same(attributes.get(2), Buffer.of(1));
  const inner = parseAttributes(attributes.get(3)!);
  t.equal(readU32(inner.get(4)), 0xfffffffe);
  t.equal(inner.get(5)!.readUInt16BE(0), 4789);
  t.equal(body.readUInt16LE(8 + 4 + 8 + 2) & 0x8000, 0x8000, 'a nest says that it is one: strictly checked families insist');
  t.end();
});

test('an error is told whether or not the message at fault comes back whole, and with the kernel\'s words', (t) => {
  const words = attribute(1, Buffer.from('Unknown device type\0'));
  const fault = encodeMessage({ type: 16, flags: 0, body: u32(9, 1) }, 7);
  const code = Buffer.alloc(4);
  code.writeInt32LE(-95);
  const capped = { type: NLMSG_ERROR, flags: 0x100 | 0x200, sequence: 7, body: Buffer.concat([code, fault.subarray(0, 16), words]) };
  const whole = { ...capped, flags: 0x200, body: Buffer.concat([code, fault, words]) };
  for (const message of [capped, whole]) t.match(errorOf('add a link', message), { code: 'EOPNOTSUPP', detail: 'Unknown device type', message: 'add a link: EOPNOTSUPP (Unknown device type)' });
  t.match(errorOf('x', { ...capped, flags: 0x100 }), { code: 'EOPNOTSUPP', detail: undefined });
  t.equal(errorOf('x', { ...capped, body: Buffer.alloc(20) }), undefined);
  t.end();
});

test('attributes by type: the last one counts, and what is cut is not there', (t) => {
  const data = Buffer.concat([u32(1, 7), text(3, 'eth0'), u32(1, 8), nested(5, u32(2, 9))]);
  const attributes = parseAttributes(data);
  t.equal(readU32(attributes.get(1)), 8);
  t.equal(readText(attributes.get(3)), 'eth0');
  t.equal(readU32(parseAttributes(attributes.get(5)!).get(2)), 9);
  t.same([1, 2, 3].map((type) => attributes.has(type)), [true, false, true]);
  t.equal(attributes.get(2), undefined);
  t.notOk(parseAttributes(data.subarray(0, -1)).has(5));
  t.same(eachAttribute(data).map(([type, { length }]) => [type, length]), [[1, 4], [3, 5], [1, 4], [5, 8]]);
  t.end();
});

test('whatever arrives, reading it ends, and never outside of it', (t) => {
  fc.assert(fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
    const data = Buffer.from(bytes);
    const total = (bodies: Iterable<Buffer>): number => [...bodies].reduce((sum, { length }) => sum + length, 0);
    return total(eachAttribute(data).map(([, payload]) => payload)) <= data.length && total(parseMessages(data).map(({ body }) => body)) <= data.length;
  }), { numRuns: 2_000 });
  t.pass();
  t.end();
});
