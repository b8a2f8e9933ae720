//   x ── we-x ┐            ┌ wv ── t    frames as x and t (behind a tunnel) make them themselves; y, and h behind the uplink, tell what came
//             ├   bridge   ┤
//   y ── we-y ┘            └ (routed) uplink ── h
import { test } from 'tap';
import { ipToBytes, macToBytes } from '../base/ip.ts';
import { openPacketSocket, type PacketSocket } from '../linux/packet-socket.ts';
import { writeSysctl } from '../linux/sysctl.ts';
import { space } from '../linux/testing.ts';
import { createShortcuts } from './shortcuts.ts';
import { sourceGuard } from './source-guard.ts';
import { passes } from './testbed.ts';

const [X, Y, GATEWAY, OTHER, EVERYBODY] = ['02:42:0a:14:00:0b', '02:42:0a:14:00:0c', '02:77:65:00:00:01', '02:42:0a:14:00:63', 'ff:ff:ff:ff:ff:ff'] as [string, string, string, string, string];
const ETHERTYPE_ALL = 3;

const ipv4 = (to: string, address: string, { from = X, source = '10.20.0.11', hops = 64 } = {}): Buffer => Buffer.concat([
  macToBytes(to), macToBytes(from), Buffer.of(8, 0, 0x45, 0, 0, 28, 0, 0, 0, 0, hops, 17, 0, 0), ipToBytes(source), ipToBytes(address), Buffer.alloc(8),
]);
const ipv6 = (to: string): Buffer => Buffer.concat([macToBytes(to), macToBytes(X), Buffer.of(0x86, 0xdd, 0x60, 0, 0, 0, 0, 8, 17, 64), ipToBytes('fd20::11'), ipToBytes('2001:db8::1'), Buffer.alloc(8)]);

test('what a port has let in is handed over', async (t) => {
  const [inside, x, y, tunnel, host] = [space(t), space(t), space(t), space(t), space(t)];
  for (const each of [inside, x, y, tunnel, host]) each.run('sysctl', '-qw', 'net.ipv6.conf.all.disable_ipv6=1', 'net.ipv6.conf.default.disable_ipv6=1');
  for (const family of ['ip', 'ip6', 'arp']) writeSysctl(inside.netns, `net.bridge.bridge-nf-call-${family}tables`, '0');
  const bridge = inside.rtnl.addLink({ kind: 'bridge', name: 'br', multicastSnooping: false, up: true });
  const [portX, portY, wv, uplink] = ([['we-x', x], ['we-y', y], ['wv', tunnel], ['uplink', host]] as const).map(([name, end]) => {
    inside.rtnl.addLink({ kind: 'veth', name, up: true, ...(name !== 'uplink' && { master: bridge }), peer: { name: 'eth0', netns: end.netns, up: true } });
    return inside.rtnl.link(name)!.index;
  }) as [number, number, number, number];
  const sockets = [x, y, tunnel, host].map((end) => openPacketSocket(end.netns, end.rtnl.link('eth0')!.index, ETHERTYPE_ALL)) as [PacketSocket, PacketSocket, PacketSocket, PacketSocket];
  const shortcuts = createShortcuts();
  t.teardown(() => sockets.forEach((socket) => socket.close()));
  const [fromX, atY, tunnelEnd, atHost] = sockets;
  const out = { gatewayMac: GATEWAY, uplink, inside: ['10.255.0.0/16', '10.20.0.0/24'] };
  inside.rtnl.setIngressProgram(portX, sourceGuard({ mac: X, ip: '10.20.0.11', ip6: 'fd20::11' }, shortcuts.from(bridge, { out })));
  inside.rtnl.setIngressProgram(wv, shortcuts.trunkProgram(bridge));
  const [toY, outwards] = [ipv4(Y, '10.20.0.12'), ipv4(GATEWAY, '192.0.2.1')];

  t.test('to an endpoint of the network', async (t) => {
    t.ok(await passes(fromX, atY, toY), 'by the bridge, as long as the table has nothing');
    // Without its port the bridge reaches y no more.
    inside.rtnl.setLink(portY, { master: null });
    t.notOk(await passes(fromX, atY, toY), 'which is gone');
    shortcuts.set('y', { network: bridge, mac: Y, ip: '10.20.0.12', port: portY, leaves: true });
    t.ok(await passes(fromX, atY, toY), 'from a port');
    t.ok(await passes(tunnelEnd, atY, ipv4(Y, '10.20.0.12', { from: OTHER, source: '10.20.0.99' })), 'from a tunnel, whoever it is from');
    t.notOk(await passes(fromX, atY, ipv4(Y, '10.20.0.12', { source: '10.20.0.13' })), 'not under a foreign address');
    t.notOk(await passes(fromX, atY, ipv4(Y, '10.20.0.12', { from: OTHER })), 'nor a foreign MAC');
    t.notOk(await passes(fromX, atY, ipv4(EVERYBODY, '10.20.0.255')), 'what is for all is the bridge\'s');
    shortcuts.set('y', { network: bridge + 1, mac: Y, ip: '10.20.0.12', port: portY, leaves: true });
    t.notOk(await passes(fromX, atY, toY), 'addresses of one bridge are none of another\'s');
    inside.rtnl.setLink(portY, { master: bridge });
    t.ok(await passes(fromX, atY, ipv4(EVERYBODY, '10.20.0.255')));
    shortcuts.forget('y');
    t.ok(await passes(fromX, atY, toY), 'by the bridge again');

    shortcuts.set('former', { network: bridge, mac: Y, port: portX, leaves: true });
    shortcuts.set('y', { network: bridge, mac: Y, port: portY, leaves: true });
    inside.rtnl.setLink(portY, { master: null });
    shortcuts.forget('former');
    t.ok(await passes(fromX, atY, toY), 'an address that is another\'s by now keeps its entry');
    shortcuts.forget('y');
    t.notOk(await passes(fromX, atY, toY));
    inside.rtnl.setLink(portY, { master: bridge });
  });

  t.test('to other nodes', async (t) => {
    const toOther = ipv4(OTHER, '10.20.0.99');
    t.ok(await passes(fromX, atY, toOther), 'the bridge asks everybody behind it');
    shortcuts.complete(bridge);
    inside.rtnl.setIngressProgram(portX, sourceGuard({ mac: X, ip: '10.20.0.11', ip6: 'fd20::11' }, shortcuts.from(bridge, { out, tunnel: wv })));
    t.notOk(await passes(fromX, atY, toOther), 'which need not be, when all of them are known');
    t.ok(await passes(fromX, tunnelEnd, toOther));
    t.ok(await passes(fromX, atY, ipv4(EVERYBODY, '10.20.0.255')));
    shortcuts.set('y', { network: bridge, mac: Y, port: undefined, leaves: true });
    inside.rtnl.addPortMac(portY, Y);
    t.notOk(await passes(fromX, tunnelEnd, toY), 'an address of this node');
    t.ok(await passes(fromX, atY, toY), 'by the bridge, where it is to be so');
  });

  t.test('to elsewhere', async (t) => {
    t.notOk(await passes(fromX, atHost, outwards), 'who is not in the table does not leave');
    shortcuts.set('x', { network: bridge, mac: X, ip: '10.20.0.11', port: portX, leaves: false });
    t.notOk(await passes(fromX, atHost, outwards), 'nor who is to stay');
    shortcuts.set('x', { network: bridge, mac: X, ip: '10.20.0.11', port: portX, leaves: true });
    t.ok(await passes(fromX, atHost, outwards));
    const others: [string, Buffer][] = [
      ['the network\'s own addresses', ipv4(GATEWAY, '10.20.0.12')], ['nodes', ipv4(GATEWAY, '10.255.3.4')], ['multicast', ipv4(GATEWAY, '224.0.0.1')], ['broadcast', ipv4(GATEWAY, '255.255.255.255')],
      ['with its last hop', ipv4(GATEWAY, '192.0.2.1', { hops: 1 })], ['IPv6', ipv6(GATEWAY)], ['another MAC', ipv4(OTHER, '192.0.2.1')], ['a foreign source', ipv4(GATEWAY, '192.0.2.1', { source: '10.20.0.13' })],
    ];
    for (const [name, frame] of others) t.notOk(await passes(fromX, atHost, frame), name);
    shortcuts.stay(['10.20.0.11']);
    t.notOk(await passes(fromX, atHost, outwards), 'what is asked by way of other nodes stays');
    shortcuts.forget('x');
    shortcuts.set('x', { network: bridge, mac: X, ip: '10.20.0.11', port: portX, leaves: true });
    t.ok(await passes(fromX, atHost, outwards), 'who has the address afterwards leaves');
  });

  t.test('programs that are attached go on when weftd has ended', async (t) => {
    shortcuts.set('y', { network: bridge, mac: Y, ip: '10.20.0.12', port: portY, leaves: true });
    shortcuts.close();
    inside.rtnl.setLink(portY, { master: null });
    t.ok(await passes(fromX, atY, toY));
  });
});
