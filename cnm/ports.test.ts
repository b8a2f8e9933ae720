import { test } from 'tap';
import type { PortMapping } from './model.ts';
import { addressesOf, choiceOf, distinctPorts, hasNoChoice, portKey, targetsOf } from './ports.ts';

const port = (hostPort: number, containerPort: number, more: Partial<PortMapping> = {}): PortMapping => ({ protocol: 'tcp', hostIp: '', hostPort, containerPort, ...more });

test('what has to be comes before what can be chosen; twice is once, or an error', (t) => {
  const range = port(8000, 81, { hostPortEnd: 8010 });
  t.same(distinctPorts([port(0, 82), range, port(8000, 80)]), [port(8000, 80), range, port(0, 82)]);
  t.same(distinctPorts([port(80, 80, { hostIp: '0.0.0.0' }), port(80, 80, { hostIp: '::' }), port(80, 80)]), [port(80, 80)]);
  t.same(distinctPorts([port(80, 80), port(80, 80, { protocol: 'udp' }), port(80, 81, { hostIp: '192.0.2.1' })]).length, 3);
  t.throws(() => distinctPorts([port(80, 80), port(80, 81)]), { code: 'WEFT-PORT-TWICE', message: /80\/tcp.*80 .*81 / });
  t.same(distinctPorts([range, { ...range, containerPort: 82 }]).length, 2, 'of a range each gets one');
  t.end();
});

test('a port leads to addresses of its own family', (t) => {
  const both = ['10.0.0.2', 'fd00::2'];
  t.same(addressesOf({ address: '10.0.0.2/24', addressIpv6: 'fd00::2/64' }), both);
  t.same(targetsOf(port(80, 80), both), both);
  t.same(targetsOf(port(80, 80, { hostIp: '192.0.2.1' }), both), ['10.0.0.2']);
  t.same(targetsOf(port(80, 80, { hostIp: '2001:db8::1' }), both), ['fd00::2']);
  t.throws(() => targetsOf(port(80, 80, { hostIp: '::1' }), both), { code: 'WEFT-FEATURE-MISSING', message: /127\.0\.0\.1/ });
  t.throws(() => targetsOf(port(80, 80, { hostIp: '2001:db8::1' }), ['10.0.0.2']), { code: 'WEFT-FEATURE-MISSING', message: /2001:db8::1 .* without an IPv6 address.*IPv4 address/ });
  t.end();
});

test('choices and keys', (t) => {
  t.same([port(80, 1), port(80, 1, { hostPortEnd: 80 }), port(80, 1, { hostPortEnd: 81 }), port(0, 1)].map(hasNoChoice), [true, true, false, false]);
  t.same([port(80, 1), port(80, 1, { hostPortEnd: 81 }), port(0, 1)].map(choiceOf), [{ first: 80, last: 80 }, { first: 80, last: 81 }, { first: 49152, last: 65535 }]);
  t.equal(portKey('tcp', '', 80), 'tcp/80');
  t.equal(portKey('sctp', '192.0.2.1', 80), 'sctp/192.0.2.1:80');
  t.equal(portKey('udp', '2001:db8::1', 80), 'udp/[2001:db8::1]:80');
  t.same(distinctPorts([port(80, 80, { hostIp: '2001:DB8:0::1' })]).map(({ hostIp }) => hostIp), ['2001:db8::1']);
  t.end();
});
