import fc from 'fast-check';
import { test } from 'tap';
import { formatPrefix4, overlaps4, parsePrefix4 } from './ip.ts';
import { contains, covers, formatIp, formatPrefix, lastOf, overlaps, parseIp, parsePrefix } from './prefix.ts';

void test('text and number agree, in both families', async (t) => {
  fc.assert(fc.property(fc.bigInt({ min: 0n, max: (1n << 128n) - 1n }), (value) => parseIp(formatIp(6, value))?.value === value));
  fc.assert(fc.property(fc.nat(0xffffffff), (value) => parseIp(formatIp(4, BigInt(value)))?.value === BigInt(value)));
  t.equal(formatIp(6, parseIp('FD00:0:0::0A')!.value), 'fd00::a');
  for (const text of ['fe80::1%eth0', '010.0.0.1', '', 'x', '1::2::3']) t.equal(parseIp(text), undefined, text);
});

void test('prefixes: host bits are cleared, lengths are bounded', async (t) => {
  t.equal(formatPrefix(parsePrefix('fd00:1::dead:beef/64')!), 'fd00:1::/64');
  t.equal(formatPrefix(parsePrefix('10.1.2.3/24')!), '10.1.2.0/24');
  t.equal(formatPrefix(parsePrefix('ffff::1/0')!), '::/0');
  t.equal(formatIp(6, lastOf(parsePrefix('fd00::/64')!)), 'fd00::ffff:ffff:ffff:ffff');
  for (const text of ['fd00::/129', '10.0.0.0/33', 'fd00::', 'fd00::/', 'fd00::/064', '::/-1']) t.equal(parsePrefix(text), undefined, text);
  t.ok(covers(parsePrefix('fd00::/8')!, parsePrefix('fd00:1::/64')!) && !covers(parsePrefix('fd00:1::/64')!, parsePrefix('fd00::/8')!));
  t.ok(contains(parsePrefix('fd00::/64')!, 'fd00::ffff:ffff:ffff:ffff') && !contains(parsePrefix('fd00::/64')!, 'fd00:0:0:1::') && !contains(parsePrefix('0.0.0.0/0')!, 'fd00::'));
  t.notOk(overlaps(parsePrefix('::/0')!, parsePrefix('0.0.0.0/0')!), 'families are apart');
});

void test('prefixes: as the IPv4 arithmetic has them', async (t) => {
  const text = fc.tuple(fc.nat(0xffffffff), fc.nat(32)).map(([base, length]) => `${formatIp(4, BigInt(base))}/${length}`);
  t.doesNotThrow(() => fc.assert(fc.property(text, text, (a, b) =>
    formatPrefix(parsePrefix(a)!) === formatPrefix4(parsePrefix4(a)!)
      && overlaps(parsePrefix(a)!, parsePrefix(b)!) === overlaps4(parsePrefix4(a)!, parsePrefix4(b)!))));
});
