//   host: the endpoint's end        inside: bridge ── port
import { setImmediate as nextTurn } from 'node:timers/promises';
import { test } from 'tap';
import { ipToBytes, macToBytes } from '../base/ip.ts';
import { openPacketSocket, type PacketSocket } from '../linux/packet-socket.ts';
import { writeSysctl } from '../linux/sysctl.ts';
import { space } from '../linux/testing.ts';
import { bridgeEnd, hostEnd } from './names.ts';
import { endpoint, network, passes } from './testbed.ts';
import { createPairs } from './veth.ts';

const ETHERTYPE_ALL = 3;

test('pairs of endpoints', async (t) => {
  const [host, inside] = [space(t).rtnl, space(t).rtnl];
  const pairs = createPairs(host);
  const bridge = inside.addLink({ kind: 'bridge', name: 'br', up: true });
  const web = endpoint('web', network('web', 'overlay', '10.20.0.0/24'), '10.20.0.2/24');
  const [port, outer] = [bridgeEnd(web.id), hostEnd(web.id)];
  const isWhole = (): boolean => inside.link(port)?.up === true && inside.link(port)!.master === bridge && inside.portMacs(inside.link(port)!.index).includes(web.mac) && inside.ingressProgram(inside.link(port)!.index) !== undefined;

  pairs.makeSoon(inside, web, bridge, 1400);
  t.equal(inside.link(port), undefined, 'not before the answer');
  await nextTurn();
  t.ok(isWhole(), 'but right after it');
  const { index } = inside.link(port)!;
  pairs.make(inside, web, bridge, 1400);
  t.equal(inside.link(port)!.index, index, 'Join finds it');
  await pairs.remove(inside, web);
  t.same([inside.link(port), host.link(outer)], [undefined, undefined]);

  pairs.makeSoon(inside, web, bridge, 1400);
  await pairs.remove(inside, web);
  await nextTurn();
  t.equal(inside.link(port), undefined, 'what is removed before it was made is not made');

  pairs.makeSoon(inside, web, 999_999, 1400);
  await nextTurn();
  t.notOk(isWhole(), 'a failure is Join\'s to tell');
  t.throws(() => pairs.make(inside, web, 999_999, 1400), { code: 'EINVAL' });
  pairs.make(inside, web, bridge, 1400);
  t.ok(isWhole(), 'and what was half made is finished');
});

test('an endpoint that is looked after while it goes', async (t) => {
  const [host, inside] = [space(t).rtnl, space(t).rtnl];
  for (const family of ['ip', 'ip6', 'arp']) writeSysctl(inside.netns, `net.bridge.bridge-nf-call-${family}tables`, '0');
  const pairs = createPairs(host);
  t.teardown(() => pairs.close());
  const bridge = inside.addLink({ kind: 'bridge', name: 'br', up: true });
  const web = network('web', 'overlay', '10.20.0.0/24');
  const [asker, goer, other] = [endpoint('asker', web, '10.20.0.2/24'), endpoint('goer', web, '10.20.0.3/24'), endpoint('other', web, '10.20.0.4/24')] as const;
  for (const each of [asker, goer, other]) pairs.make(inside, each, bridge, 1400);
  const [from, to, beside] = [asker, goer, other].map(({ id }) => {
    const { index } = host.link(hostEnd(id))!;
    host.setLink(index, { up: true });
    const socket = openPacketSocket(host.netns, index, ETHERTYPE_ALL);
    t.teardown(() => socket.close());
    return socket;
  }) as [PacketSocket, PacketSocket, PacketSocket];
  const frame = Buffer.concat([macToBytes(goer.mac), macToBytes(asker.mac), Buffer.of(8, 0, 0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0), ipToBytes('10.20.0.2'), ipToBytes('10.20.0.3'), Buffer.alloc(8)]);
  t.ok(await passes(from, to, frame), 'handed over');

  const gone = pairs.remove(inside, goer);
  pairs.ensure(inside, goer, bridge, 1400, []);
  await gone;
  t.ok(await passes(from, beside, frame), 'what is for its address is the bridge\'s again: it may be elsewhere by now');
});
