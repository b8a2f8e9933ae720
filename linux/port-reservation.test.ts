import { test } from 'tap';
import { reservePort } from './port-reservation.ts';
import { space } from './testing.ts';

for (const protocol of ['tcp', 'udp', 'sctp'] as const) {
  // SCTP on a kernel without its sockets, too.
  test(`${protocol}: one holder; every address excludes each`, (t) => {
    const { netns, rtnl } = space(t);
    rtnl.addAddress(rtnl.link('lo')!.index, '192.0.2.1/32');
    const all = reservePort(netns, protocol, 8080);
    t.ok(all);
    t.equal(reservePort(netns, protocol, 8080), undefined);
    t.equal(reservePort(netns, protocol, 8080, '192.0.2.1'), undefined);
    const next = reservePort(netns, protocol, 8081);
    t.ok(next);
    all!.release();
    next!.release();
    const one = reservePort(netns, protocol, 8080, '192.0.2.1');
    const other = reservePort(netns, protocol, 8080, '127.0.0.1');
    t.ok(one && other, 'two addresses');
    t.equal(reservePort(netns, protocol, 8080), undefined);
    t.equal(reservePort(netns, protocol, 8080, '127.0.0.1'), undefined);
    one!.release();
    other!.release();
    const again = reservePort(netns, protocol, 8080);
    t.ok(again);
    again!.release();
    t.end();
  });
}

test('an address that the host does not have', (t) => {
  const { netns } = space(t);
  t.throws(() => reservePort(netns, 'tcp', 8080, '192.0.2.9'), { code: 'EADDRNOTAVAIL' });
  t.end();
});
