import { test } from 'tap';
import { reservePort } from './port-reservation.ts';
import { space } from './testing.ts';

for (const protocol of ['tcp', 'udp', 'sctp'] as const) {
  // SCTP on a kernel without its sockets, too.
  test(`${protocol}: one holder; every address excludes each`, (t) => {
    const { netns, rtnl } = space(t);
    rtnl.addAddress(rtnl.link('lo')!.index, '192.0.2.1/32');
    const all = reservePort(netns, protocol, 8080, '0.0.0.0');
    t.ok(all);
    t.equal(reservePort(netns, protocol, 8080, '0.0.0.0'), undefined);
    t.equal(reservePort(netns, protocol, 8080, '192.0.2.1'), undefined);
    const next = reservePort(netns, protocol, 8081, '0.0.0.0');
    t.ok(next);
    all!.release();
    next!.release();
    const one = reservePort(netns, protocol, 8080, '192.0.2.1');
    const other = reservePort(netns, protocol, 8080, '127.0.0.1');
    t.ok(one && other, 'two addresses');
    t.equal(reservePort(netns, protocol, 8080, '0.0.0.0'), undefined);
    t.equal(reservePort(netns, protocol, 8080, '127.0.0.1'), undefined);
    one!.release();
    other!.release();
    const again = reservePort(netns, protocol, 8080, '0.0.0.0');
    t.ok(again);
    again!.release();
    t.end();
  });
}

for (const protocol of ['tcp', 'udp', 'sctp'] as const) {
  test(`${protocol}: the families do not exclude each other`, (t) => {
    const { netns, rtnl } = space(t);
    rtnl.addAddress(rtnl.link('lo')!.index, '2001:db8::1/128');
    const ipv4 = reservePort(netns, protocol, 8080, '0.0.0.0');
    const one = reservePort(netns, protocol, 8080, '2001:db8::1');
    t.ok(ipv4 && one);
    t.equal(reservePort(netns, protocol, 8080, '::'), undefined);
    t.equal(reservePort(netns, protocol, 8080, '2001:db8::1'), undefined);
    one!.release();
    const all = reservePort(netns, protocol, 8080, '::');
    t.ok(all);
    t.equal(reservePort(netns, protocol, 8080, '::1'), undefined);
    for (const each of [ipv4, all]) each!.release();
    t.end();
  });
}

test('an address that the host does not have', (t) => {
  const { netns } = space(t);
  for (const ip of ['192.0.2.9', '2001:db8::9']) t.throws(() => reservePort(netns, 'tcp', 8080, ip), { code: 'EADDRNOTAVAIL' });
  t.end();
});
