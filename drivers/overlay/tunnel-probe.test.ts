// By way of WireGuard: encrypted-network.test.ts.
//   host a 10.99.1.1 ── router ── host b 10.99.2.2
//   [fabric: weft-in]             [fabric: weft-in]
import { test } from 'tap';
import { systemClock as clock } from '../../base/clock.ts';
import { SharedState, Underlay, until } from '../testbed.ts';
import { Node } from './testbed.ts';
import { openTunnelProbe } from './tunnel-probe.ts';

test('a frame through the real tunnel tells whether the port is open, each way by itself', async (t) => {
  const underlay = new Underlay();
  t.teardown(() => underlay.remove());
  const shared = new SharedState();
  const [a, b] = [new Node(underlay, shared, [], 'a', 1, 1), new Node(underlay, shared, [], 'b', 2, 2)];
  t.teardown(() => Promise.all([a, b].map((node) => node.purge())));
  for (const node of [a, b]) await node.driver.ensureFabric();
  let probes = 0;
  const probe = async (wait: (a: boolean, b: boolean) => boolean): Promise<{ a: boolean; b: boolean }> => {
    const nonce = (probes++).toString(16).padStart(16, '0');
    const [atA, atB] = ([[a, 1, 2], [b, 2, 1]] as const).map(([node, from, to]) => openTunnelProbe({ fabric: node.fabric.netns, tunnel: node.fabric.tunnel()!, from, to, nonce, clock }));
    await until(() => wait(atA!.heard(), atB!.heard()) && atA!.sent() > 2 && atB!.sent() > 2);
    const result = { a: atA!.heard(), b: atB!.heard() };
    atA!.close();
    atB!.close();
    return result;
  };
  t.same(await probe((atA, atB) => atA && atB), { a: true, b: true });
  b.space.run('iptables', '-I', 'INPUT', '-p', 'udp', '--dport', '4789', '-j', 'DROP');
  t.same(await probe((atA) => atA), { a: true, b: false }, 'closed at b');
  a.space.run('iptables', '-I', 'INPUT', '-p', 'udp', '--dport', '4789', '-j', 'DROP');
  t.same(await probe(() => true), { a: false, b: false }, 'at both');
  for (const node of [a, b]) node.space.run('iptables', '-F', 'INPUT');
  t.same(await probe((atA, atB) => atA && atB), { a: true, b: true }, 'open again');
  t.throws(() => openTunnelProbe({ fabric: a.fabric.netns, tunnel: 9_999, from: 1, to: 2, nonce: '0'.repeat(16), clock }), { code: 'ENODEV' });
});
