import { test } from 'tap';
import fc from 'fast-check';
import IPCIDR from 'ip-cidr';
import { bytesToIp, contains4, formatIp4, formatPrefix4, hostOfUrl, hostPort, ipToBytes, last4, macToBytes, mask4, overlaps4, parseIp4, parsePrefix4, size4, splitHostPort } from './ip.ts';

test('addresses: text and number agree, sloppy text is refused', (t) => {
  fc.assert(fc.property(fc.integer({ min: 0, max: 0xffffffff }), (value) => parseIp4(formatIp4(value)) === value));
  for (const text of ['010.0.0.1', '1.2', '1.2.3.4.5', '256.0.0.1', ' 1.2.3.4', '', '1.2.3.4/8']) t.equal(parseIp4(text), undefined, text);
  t.end();
});

test('prefixes: host bits are cleared, lengths are bounded', (t) => {
  t.equal(formatPrefix4(parsePrefix4('10.1.2.3/24')!), '10.1.2.0/24');
  t.equal(formatPrefix4(parsePrefix4('255.255.255.255/0')!), '0.0.0.0/0');
  t.equal(size4(parsePrefix4('10.0.0.0/8')!), 2 ** 24);
  for (const text of ['10.0.0.0/33', '10.0.0.0', '10.0.0.0/', '10.0.0.0/-1', '10.0.0.0/08', 'fd00::/8']) t.equal(parsePrefix4(text), undefined, text);
  t.ok(overlaps4(parsePrefix4('10.0.0.0/8')!, parsePrefix4('10.9.0.0/16')!));
  t.ok(overlaps4(parsePrefix4('10.9.0.0/16')!, parsePrefix4('0.0.0.0/0')!));
  t.notOk(overlaps4(parsePrefix4('10.8.0.0/16')!, parsePrefix4('10.9.0.0/16')!));
  t.ok(contains4(parsePrefix4('192.168.0.0/31')!, parseIp4('192.168.0.1')!));
  t.end();
});

test('prefixes: as the package ip-cidr sees them', (t) => {
  const word = fc.integer({ min: 0, max: 0xffffffff });
  t.doesNotThrow(() => fc.assert(fc.property(word, fc.nat(32), word, fc.nat(32), (base, length, other, otherLength) => {
    const text = `${formatIp4(base)}/${length}`;
    const [ours, theirs] = [parsePrefix4(text)!, new IPCIDR(text)];
    if (formatIp4(ours.base) !== theirs.start() || formatIp4(last4(ours)) !== theirs.end() || size4(ours) !== Number(theirs.size)) return false;
    // An address near enough to be inside now and then.
    const near = length === 32 ? base : (base & mask4(length)) >>> 0 | (other >>> length);
    for (const address of [other, near >>> 0]) if (contains4(ours, address) !== theirs.contains(formatIp4(address))) return false;
    const second = parsePrefix4(`${formatIp4(near >>> 0)}/${otherLength}`)!;
    const overlap = theirs.contains(formatIp4(second.base)) || new IPCIDR(formatPrefix4(second)).contains(theirs.start());
    return overlaps4(ours, second) === overlap;
  })));
  t.end();
});

test('an address with a port, and back', (t) => {
  for (const [ip, port, text] of [['10.0.0.1', 80, '10.0.0.1:80'], ['fd00::1', 8080, '[fd00::1]:8080']] as const) {
    t.equal(hostPort(ip, port), text);
    t.same(splitHostPort(text), { ip, port });
    t.equal(hostOfUrl(`https://${text}`), ip);
  }
  t.end();
});

test('bytes: IPv6 in canonical form', (t) => {
  for (const text of ['::', '::1', 'fd25:5::7', '2001:db8::1:0:0:1', '1:2:3:4:5:6:7:8', 'fe80::', '10.0.0.1']) t.equal(bytesToIp(ipToBytes(text)), text);
  t.equal(bytesToIp(ipToBytes('2001:0DB8:0:0:0:0:0:1')), '2001:db8::1');
  t.equal(bytesToIp(ipToBytes('::ffff:10.0.0.1')), '::ffff:a00:1');
  t.throws(() => ipToBytes('fe80::1%eth0'));
  t.throws(() => ipToBytes('nonsense'));
  t.throws(() => macToBytes('02:42'));
  t.end();
});
