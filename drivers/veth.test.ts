//   host: the endpoint's end        inside: bridge ── port
import { setImmediate as nextTurn } from 'node:timers/promises';
import { test } from 'tap';
import { space } from '../linux/testing.ts';
import { bridgeEnd, hostEnd } from './names.ts';
import { endpoint, network } from './testbed.ts';
import { createPairs } from './veth.ts';

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
