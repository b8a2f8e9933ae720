//   x ── we-x ┐
//             ├ bridge        frames as x makes them itself; what the bridge's other port gives out is what y sees
//   y ── we-y ┘
import { test } from 'tap';
import { ipToBytes, macToBytes } from '../base/ip.ts';
import { openPacketSocket } from '../linux/packet-socket.ts';
import { writeSysctl } from '../linux/sysctl.ts';
import { space } from '../linux/testing.ts';
import { sourceGuard } from './source-guard.ts';
import { passes } from './testbed.ts';

const MAC = '02:42:0a:14:00:0b';
const OTHER_MAC = '02:42:0a:14:00:0c';
const [IP, OTHER, IP6, OTHER6] = ['10.20.0.11', '10.20.0.12', 'fd20::11', 'fd20::12'] as const;
const [LOCAL, OTHER_LOCAL] = ['fe80::42:aff:fe14:b', 'fe80::42:aff:fe14:c'] as const;
const ALL_NODES = 'ff02::1';
const ETHER = { ipv4: 0x0800, arp: 0x0806, vlan: 0x8100, ipv6: 0x86dd, experimental: 0x88b5, all: 3 } as const;
const ICMPV6 = 58;

const u16 = (value: number): Buffer => Buffer.of(value >> 8, value & 255);
const frame = (etherType: number, payload: Uint8Array, source = MAC): Buffer => Buffer.concat([macToBytes('ff:ff:ff:ff:ff:ff'), macToBytes(source), u16(etherType), payload]);
/** UDP without a payload, or with as many bytes as are asked for. */
const ipv4 = (source: string, bytes = 8): Buffer =>
  Buffer.concat([Buffer.of(0x45, 0), u16(20 + bytes), Buffer.of(0, 0, 0, 0, 64, 17, 0, 0), ipToBytes(source), ipToBytes(OTHER), Buffer.alloc(bytes)]);
const arp = (senderMac: string, senderIp: string): Buffer =>
  Buffer.concat([Buffer.of(0, 1, 8, 0, 6, 4, 0, 1), macToBytes(senderMac), ipToBytes(senderIp), Buffer.alloc(6), ipToBytes(OTHER)]);
function ipv6(source: string, { next = 17, hopLimit = 64, to = ALL_NODES, payload = Buffer.alloc(8) }: { next?: number; hopLimit?: number; to?: string; payload?: Buffer } = {}): Buffer {
  return Buffer.concat([Buffer.of(0x60, 0, 0, 0), u16(payload.length), Buffer.of(next, hopLimit), ipToBytes(source), ipToBytes(to), payload]);
}
/** With the hop limit of what nobody has forwarded. */
const discovery = (source: string, type: number, target: string): Buffer =>
  ipv6(source, { next: ICMPV6, hopLimit: 255, payload: Buffer.concat([Buffer.of(type, 0, 0, 0, 0, 0, 0, 0), ipToBytes(target)]) });

const SOLICITATION = 135;
const ADVERTISEMENT = 136;

test('an endpoint sends as itself, and as nobody else', async (t) => {
  const [bridge, x, y] = [space(t), space(t), space(t)];
  for (const each of [bridge, x, y]) each.run('sysctl', '-qw', 'net.ipv6.conf.all.disable_ipv6=1', 'net.ipv6.conf.default.disable_ipv6=1');
  // Where br_netfilter is loaded, it would look into the frames as well.
  for (const family of ['ip', 'ip6', 'arp']) writeSysctl(bridge.netns, `net.bridge.bridge-nf-call-${family}tables`, '0');
  const master = bridge.rtnl.addLink({ kind: 'bridge', name: 'br', multicastSnooping: false, up: true });
  for (const [name, end] of [['we-x', x], ['we-y', y]] as const) {
    bridge.rtnl.addLink({ kind: 'veth', name, master, up: true, peer: { name: 'eth0', netns: end.netns, up: true } });
  }
  const port = bridge.rtnl.link('we-x')!.index;
  const sender = openPacketSocket(x.netns, x.rtnl.link('eth0')!.index, ETHER.all);
  const receiver = openPacketSocket(y.netns, y.rtnl.link('eth0')!.index, ETHER.all);
  t.teardown(() => [sender, receiver].forEach((socket) => socket.close()));

  t.test('frames', async (t) => {
    t.equal(bridge.rtnl.ingressProgram(port), undefined);
    const guard = sourceGuard({ mac: MAC, ip: IP, ip6: IP6 });
    const foreign: [string, Buffer][] = [
      ['IPv4 from another address', frame(ETHER.ipv4, ipv4(OTHER))],
      ['IPv4 from no address', frame(ETHER.ipv4, ipv4('0.0.0.0'))],
      ['another MAC', frame(ETHER.ipv4, ipv4(IP), OTHER_MAC)],
      ['half of another MAC', frame(ETHER.ipv4, ipv4(IP), '02:42:0a:14:00:0f')],
      ['ARP for another address', frame(ETHER.arp, arp(MAC, OTHER))],
      ['ARP for another MAC', frame(ETHER.arp, arp(OTHER_MAC, IP))],
      ['IPv6 from another address', frame(ETHER.ipv6, ipv6(OTHER6))],
      ['IPv6 from another link-local address', frame(ETHER.ipv6, ipv6(OTHER_LOCAL))],
      ['IPv6 from no address to one host', frame(ETHER.ipv6, ipv6('::', { to: OTHER6 }))],
      ['an advertisement of another address', frame(ETHER.ipv6, discovery(IP6, ADVERTISEMENT, OTHER6))],
      ['an advertisement of another address by nobody', frame(ETHER.ipv6, discovery('::', ADVERTISEMENT, OTHER6))],
      ['an advertisement of another link-local address', frame(ETHER.ipv6, discovery(LOCAL, ADVERTISEMENT, OTHER_LOCAL))],
      ['a router\'s advertisement', frame(ETHER.ipv6, discovery(LOCAL, 134, '::'))],
      ['a redirect', frame(ETHER.ipv6, discovery(LOCAL, 137, OTHER6))],
      ['an advertisement behind an extension header', frame(ETHER.ipv6, ipv6(LOCAL, { next: 60, hopLimit: 255, payload: Buffer.concat([Buffer.of(ICMPV6, 0, 1, 4, 0, 0, 0, 0), discovery(LOCAL, ADVERTISEMENT, OTHER6).subarray(40)]) }))],
      ['a VLAN\'s tag', frame(ETHER.vlan, Buffer.concat([u16(7), u16(ETHER.ipv4), ipv4(OTHER)]))],
      ['another protocol', frame(ETHER.experimental, Buffer.alloc(46))],
      ['less than a header', frame(ETHER.ipv4, ipv4(IP).subarray(0, 12))],
      ['less than an advertisement', frame(ETHER.ipv6, discovery(IP6, ADVERTISEMENT, IP6).subarray(0, 52))],
    ];
    const own: [string, Buffer][] = [
      ['IPv4', frame(ETHER.ipv4, ipv4(IP))],
      ['IPv4, large', frame(ETHER.ipv4, ipv4(IP, 1400))],
      ['IPv4 with a single byte', frame(ETHER.ipv4, ipv4(IP, 1))],
      ['ARP', frame(ETHER.arp, arp(MAC, IP))],
      ['an ARP probe', frame(ETHER.arp, arp(MAC, '0.0.0.0'))],
      ['IPv6', frame(ETHER.ipv6, ipv6(IP6))],
      ['IPv6, link-local', frame(ETHER.ipv6, ipv6(LOCAL))],
      ['IPv6 with the largest hop limit', frame(ETHER.ipv6, ipv6(IP6, { hopLimit: 255 }))],
      ['a solicitation', frame(ETHER.ipv6, discovery(IP6, SOLICITATION, OTHER6))],
      ['detection of duplicates', frame(ETHER.ipv6, discovery('::', SOLICITATION, IP6))],
      ['an advertisement', frame(ETHER.ipv6, discovery(LOCAL, ADVERTISEMENT, IP6))],
      ['an advertisement of the link-local address', frame(ETHER.ipv6, discovery(LOCAL, ADVERTISEMENT, LOCAL))],
      ['a report of multicast listeners', frame(ETHER.ipv6, ipv6('::', { next: 0, hopLimit: 1, payload: Buffer.of(ICMPV6, 0, 5, 2, 0, 0, 1, 0, 143, 0, 0, 0, 0, 0, 0, 0) }))],
    ];
    t.ok(await passes(sender, receiver, foreign[0]![1]), 'without a guard anything passes');
    bridge.rtnl.setIngressProgram(port, guard);
    t.equal(bridge.rtnl.ingressProgram(port), guard.name);
    for (const [name, each] of foreign) t.notOk(await passes(sender, receiver, each), name);
    for (const [name, each] of own) t.ok(await passes(sender, receiver, each), `own: ${name}`);
  });

  t.test('a family that the endpoint has no address of', async (t) => {
    bridge.rtnl.setIngressProgram(port, sourceGuard({ mac: MAC, ip: IP }));
    t.ok(await passes(sender, receiver, frame(ETHER.ipv4, ipv4(IP))));
    t.notOk(await passes(sender, receiver, frame(ETHER.ipv6, ipv6(LOCAL))));
    bridge.rtnl.setIngressProgram(port, sourceGuard({ mac: MAC, ip6: IP6 }));
    t.ok(await passes(sender, receiver, frame(ETHER.ipv6, ipv6(LOCAL))), 'the one takes the place of the other');
    t.notOk(await passes(sender, receiver, frame(ETHER.ipv4, ipv4(IP))));
    t.notOk(await passes(sender, receiver, frame(ETHER.arp, arp(MAC, IP))));
  });

  t.test('any IP address, and whatever else', async (t) => {
    bridge.rtnl.setIngressProgram(port, sourceGuard({ mac: MAC, ip: IP, anyIp: true }));
    for (const each of [frame(ETHER.ipv4, ipv4(OTHER)), frame(ETHER.ipv6, ipv6(OTHER6)), frame(ETHER.experimental, Buffer.alloc(46))]) t.ok(await passes(sender, receiver, each));
    t.notOk(await passes(sender, receiver, frame(ETHER.ipv4, ipv4(IP), OTHER_MAC)), 'but by its own MAC');
  });

  t.test('the same addresses make the same program', async (t) => {
    t.equal(sourceGuard({ mac: MAC, ip: IP }).name, sourceGuard({ mac: MAC, ip: IP }).name);
    t.not(sourceGuard({ mac: MAC, ip: IP }).name, sourceGuard({ mac: MAC, ip: OTHER }).name);
  });
});
