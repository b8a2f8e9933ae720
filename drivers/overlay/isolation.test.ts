//   client 10.99.2.9 ── router ── outside
//           /              \
//     host a 10.99.1.1    host b 10.99.2.2      + on host a: br-… (a bridge as Docker makes one) with container d 172.18.0.2
//   [fabric]              [fabric]
//   a1  a2  i1  s1         b1  i2               networks: web 10.20.0.0/24, shop 10.23.0.0/24; in 10.22.0.0/24, internal
import { test } from 'tap';
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { Network } from '../../cnm/model.ts';
import { ipToBytes, macToBytes } from '../../base/ip.ts';
import { openPacketSocket } from '../../linux/packet-socket.ts';
import { SharedState, Underlay, capture, network, until, type Space } from '../testbed.ts';
import { Node } from './testbed.ts';

const underlay = new Underlay();
const shared = new SharedState();
const networks: Network[] = [
  network('web', 'overlay', '10.20.0.0/24', { vni: 0x800001 }), network('in', 'overlay', '10.22.0.0/24', { vni: 0x800002, internal: true }), network('shop', 'overlay', '10.23.0.0/24', { vni: 0x800003 }),
];
const [web, internal, shop] = networks as [Network, Network, Network];
/** A VXLAN header with web's VNI, and a few bytes: what matters is whether it arrives. */
const INJECT = 'const d = require("dgram").createSocket("udp4"); d.send(Buffer.from("0800000080000100ffffffffffff", "hex"), 4789, process.argv[1], () => d.close());';
const INJECTED = 'udp port 4789 and udp[8:4] = 0x08000000 and len < 80';
const IPV4 = 0x0800;
const VXLAN_TO_NOBODY = Buffer.from('12b512b5001600000800000080000100ffffffffffff', 'hex');

/** An IPv4 packet with a header of twenty bytes (RFC 791 §3.1). `flags`: of the fragment and its offset. */
function packet(source: string, destination: string, payload: Buffer, flags = 0): Buffer {
  const header = Buffer.concat([Buffer.of(0x45, 0, 0, 20 + payload.length, 0, 7, flags >> 8, flags & 255, 64, 17, 0, 0), ipToBytes(source), ipToBytes(destination)]);
  let sum = 0;
  for (let at = 0; at < header.length; at += 2) sum += header.readUInt16BE(at);
  header.writeUInt16BE(~((sum & 0xffff) + (sum >> 16)) & 0xffff, 10);
  return Buffer.concat([header, payload]);
}

/** From a container with CAP_NET_RAW, which all have: whatever it likes to put on its wire. */
function send(from: Space, gatewayMac: string, ...packets: Buffer[]): void {
  const link = from.rtnl.link('eth0')!;
  const socket = openPacketSocket(from.netns, link.index, IPV4);
  for (const each of packets) socket.send(Buffer.concat([macToBytes(gatewayMac), macToBytes(link.mac), Buffer.of(IPV4 >> 8, IPV4 & 255), each]));
  socket.close();
}

/** Answers with the caller's address. */
const SERVER = 'require("net").createServer((socket) => socket.end(socket.remoteAddress)).listen(Number(process.argv[1]), "0.0.0.0", () => console.log("up"));';

test('who does not reach whom', async (t) => {
  t.teardown(() => underlay.remove());
  const a = new Node(underlay, shared, networks, 'a', 1, 1);
  const b = new Node(underlay, shared, networks, 'b', 2, 2);
  const client = underlay.host(9, 2);
  t.teardown(() => Promise.all([a, b].map((node) => node.purge())));
  for (const node of [a, b]) for (const each of networks) await node.driver.createNetwork(each);
  const a1 = await a.attach('a1', web, '10.20.0.11');
  const a2 = await a.attach('a2', web, '10.20.0.12');
  const b1 = await b.attach('b1', web, '10.20.0.21');
  const s1 = await a.attach('s1', shop, '10.23.0.11');
  const i1 = await a.attach('i1', internal, '10.22.0.11');
  const i2 = await b.attach('i2', internal, '10.22.0.21');
  await nextTurn();

  t.test('injection: neither containers, users of a host nor outsiders speak to a tunnel', async (t) => {
    const wire = await capture(underlay.router, 'any', INJECTED);
    a1.container.run(process.execPath, '-e', INJECT, b.address);
    a.space.succeeds('setpriv', '--reuid=65534', process.execPath, '-e', INJECT, b.address);
    t.equal((await wire()).trim(), '', 'of a container and of a user nothing leaves the host');
    const arrived = (): number => Number(/counter packets (\d+)/.exec(b.space.run('nft', 'list', 'chain', 'inet', 'probe', 'arrived'))![1]);
    b.space.run('nft', 'add table inet probe; add chain inet probe arrived { type filter hook input priority 0; }; add rule inet probe arrived udp dport 4789 counter');
    client.space.run(process.execPath, '-e', INJECT, b.address);
    t.equal(arrived(), 0, 'of an outsider nothing comes in');
    a.space.run(process.execPath, '-e', INJECT, b.address);
    t.equal(arrived(), 1, 'while a member\'s does');
    t.ok(a1.container.pings(b1.ip));
    b.space.run('nft', 'delete table inet probe');
  });

  t.test('injection by those who say they are somebody else', async (t) => {
    const counted = (): number => Number(/counter packets (\d+)/.exec(a.space.run('nft', 'list', 'chain', 'inet', 'probe', 'arrived'))![1]);
    a.space.run('nft', 'add table inet probe; add chain inet probe arrived { type filter hook input priority 0; }; add rule inet probe arrived udp dport 4789 counter');
    a.space.run('sysctl', '-qw', 'net.ipv4.conf.all.rp_filter=0', 'net.ipv4.conf.default.rp_filter=0');
    const forged = (to: string): Buffer => packet(b.address, to, VXLAN_TO_NOBODY);
    const gateway = a1.container.run('ip', 'neigh', 'show', '10.20.0.1').match(/lladdr (\S+)/)![1]!;
    // As Docker's containers, and those of a bridge of ours, are attached to the host itself.
    for (const [i, name] of ['br-0123456789ab', 'wbr-01234567890'].entries()) {
      const x = underlay.space(`x${i}`);
      const bridge = a.space.rtnl.addLink({ kind: 'bridge', name, mac: '02:42:00:00:00:01', up: true });
      a.space.rtnl.addAddress(bridge, `172.1${i}.0.1/24`);
      a.space.rtnl.addLink({ kind: 'veth', name: `vx${i}`, master: bridge, up: true, peer: { name: 'eth0', netns: x.netns, up: true } });
      x.run('ip', 'address', 'add', `172.1${i}.0.2/24`, 'dev', 'eth0');
      if (name.startsWith('br-')) await until(() => a.space.run('nft', 'list', 'set', 'inet', 'weft-uplink', 'dockers').includes(name));
      const wire = await capture(underlay.router, 'any', 'udp port 4789 and len < 80');
      send(x, '02:42:00:00:00:01', forged(a.address), forged(b.address), packet(`172.1${i}.0.2`, a.address, VXLAN_TO_NOBODY));
      t.equal((await wire()).trim(), '', `nothing leaves the host from a container on ${name}`);
      t.equal(counted(), 0, 'nor gets into its tunnel');
      await a.space.rtnl.deleteLink(bridge);
    }
    send(a1.container, gateway, forged(a.address), forged('255.255.255.255'), packet(a1.ip, a.address, VXLAN_TO_NOBODY));
    t.equal(counted(), 0, 'nor from a container of an overlay');

    const wire = await capture(underlay.router, 'any', 'src host 10.99.1.1 and udp port 4789 and len < 80 or ip[6:2] & 0x3fff != 0');
    // The first one ends before the VXLAN header does.
    send(a1.container, gateway, packet(a1.ip, b.address, VXLAN_TO_NOBODY.subarray(0, 8), 0x2000), packet(a1.ip, b.address, VXLAN_TO_NOBODY.subarray(8), 1));
    t.equal((await wire()).trim(), '', 'nor in pieces');

    const router = underlay.router.rtnl.link('r1')!;
    const socket = openPacketSocket(underlay.router.netns, router.index, IPV4);
    for (const to of ['255.255.255.255', '224.0.0.1', a.address]) {
      socket.send(Buffer.concat([macToBytes('ff:ff:ff:ff:ff:ff'), macToBytes(router.mac), Buffer.of(IPV4 >> 8, IPV4 & 255), packet('10.99.2.9', to, VXLAN_TO_NOBODY)]));
    }
    socket.close();
    t.equal(counted(), 0, 'nor from an outsider who speaks to all hosts of a LAN at once');
    a.space.run('nft', 'delete table inet probe');
  });

  t.test('a container cannot pass for another', async (t) => {
    const stop = await capture(a2.container, 'eth0', 'icmp');
    a1.container.run('ip', 'link', 'set', 'eth0', 'address', a2.endpoint.mac);
    t.notOk(a1.container.pings(b1.ip), 'frames from a foreign address are dropped');
    t.ok(b1.container.pings(a2.ip), 'and draw nothing away from its owner');
    t.match(await stop(), /echo request/);
    a1.container.run('ip', 'link', 'set', 'eth0', 'address', b1.endpoint.mac);
    a1.container.pings(a2.ip);
    t.ok(a2.container.pings(b1.ip), 'nor from one on another host');
    a1.container.run('ip', 'link', 'set', 'eth0', 'address', a1.endpoint.mac);

    const seen = await capture(a2.container, 'eth0', `src host ${b1.ip}`);
    send(a1.container, a2.endpoint.mac, packet(b1.ip, a2.ip, VXLAN_TO_NOBODY));
    t.equal((await seen()).trim(), '', 'nor within the network does it have another\'s IP address');

    const wire = await capture(underlay.router, 'any', 'icmp and host 192.0.2.77');
    a1.container.run('ip', 'address', 'add', '192.0.2.77/32', 'dev', 'eth0');
    t.notOk(a1.container.pings(client.address, '-I', '192.0.2.77'));
    t.equal((await wire()).trim(), '', 'nothing leaves with an address that is not of the network');
    t.ok(a1.container.pings(client.address));
  });

  t.test('one network is not reached from another, also without the host\'s rules', async (t) => {
    const apart = (): void => {
      for (const [from, to] of [[a1, s1], [s1, a1], [s1, b1], [a1, i1]] as const) t.notOk(from.container.pings(to.ip), `${from.ip} → ${to.ip}`);
    };
    t.ok(s1.container.pings(client.address), 'what leaves, does');
    apart();
    a.space.run('nft', 'flush', 'ruleset');
    a.space.run('iptables', '-P', 'FORWARD', 'ACCEPT');
    apart();
    a.space.run('iptables', '-P', 'FORWARD', 'DROP');
    await a.repair();
    t.ok(s1.container.pings(client.address));
    apart();
  });

  t.test('an internal network spans hosts and has no way out or in', async (t) => {
    t.ok(i1.container.pings(i2.ip));
    t.equal(i1.container.rtnl.routes().find(({ dst }) => dst === 'default'), undefined, 'no gateway');
    i1.container.run('ip', 'route', 'add', 'default', 'via', '10.22.0.1');
    t.notOk(i1.container.pings(client.address));
    t.notOk(i1.container.pings(a1.ip));
    t.notOk(a1.container.pings(i1.ip));
    t.notOk(a.space.pings(i1.ip));
  });

  t.test('Docker\'s own containers and those of Weft reach each other only by published ports', async (t) => {
    const d = underlay.space('d');
    const bridge = a.space.rtnl.addLink({ kind: 'bridge', name: 'br-0123456789ab', up: true });
    a.space.rtnl.addAddress(bridge, '172.18.0.1/24');
    a.space.rtnl.addLink({ kind: 'veth', name: 'vd', master: bridge, up: true, peer: { name: 'eth0', netns: d.netns, up: true } });
    d.run('ip', 'address', 'add', '172.18.0.2/24', 'dev', 'eth0');
    d.run('ip', 'route', 'add', 'default', 'via', '172.18.0.1');
    a.space.run('iptables', '-A', 'FORWARD', '-i', 'br-0123456789ab', '-j', 'ACCEPT');
    t.ok(a.space.pings('172.18.0.2'));
    t.ok(await until(() => a.space.run('nft', 'list', 'set', 'inet', 'weft-uplink', 'dockers').includes('br-0123456789ab')), 'the new bridge is noticed');
    t.notOk(a1.container.pings('172.18.0.2'));
    t.notOk(d.pings(a1.ip));
    await a.space.rtnl.deleteLink('br-0123456789ab');
  });

  t.test('an outsider who routes a subnet at a host gets nothing', async (t) => {
    underlay.router.run('ip', 'route', 'add', '10.20.0.0/24', 'via', a.address, 'dev', 'r1', 'onlink');
    t.notOk(client.space.pings(a1.ip));
    underlay.router.run('ip', 'route', 'del', '10.20.0.0/24');
  });

  t.test('a published backend on another host sees the client itself; what is not published is not reached', async (t) => {
    const servers = ['80', '81'].map((port) => b1.container.serve(process.execPath, '-e', SERVER, port));
    t.teardown(() => servers.forEach((server) => server.kill()));
    for (const { out } of servers) await until(() => out().includes('up'));
    // What ingress/ does on a node without a backend of its own.
    a.space.run('nft', `add table ip probe; add chain ip probe pre { type nat hook prerouting priority dstnat - 10; }; add rule ip probe pre fib daddr type local tcp dport 8080-8081 dnat to ${b1.ip}:tcp dport map { 8080 : 80, 8081 : 81 }`);
    const ask = (port: number): string => {
      try {
        return client.space.run('timeout', '2', process.execPath, '-e', `require("net").connect(${port}, "${a.address}").pipe(process.stdout)`);
      } catch {
        return 'nothing';
      }
    };
    b.driver.setBackends([{ ip: b1.ip, protocol: 'tcp', port: 80 }]);
    t.equal(ask(8080), '10.99.2.9');
    t.match(b.inFabric('conntrack', '-L', '-p', 'tcp', '--dport', '80'), /zone-orig=1/, 'kept apart by the node it came through');
    t.equal(ask(8081), 'nothing', 'weft-in lets in what is published only');
    b.driver.setBackends([]);
    t.equal(ask(8080), 'nothing');
  });
});
