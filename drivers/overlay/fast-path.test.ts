//            router (10.99.1.0/24 | 10.99.2.0/24)
//           /            |             \
//     host a          host b          host c (without the fast path)
//   10.99.1.1        10.99.2.2       10.99.1.3
//   [fabric]         [fabric]        [fabric]
//      |                |               |
//      a1               b1              c1          network web 10.20.0.0/24, fd20::/64
import { createHash, randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { release, tmpdir } from 'node:os';
import { join } from 'node:path';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { test } from 'tap';
import type { Network } from '../../cnm/model.ts';
import { check, sys } from '../../linux/ffi.ts';
import { bridgeEnd, overlayTunnel } from '../names.ts';
import { SharedState, Underlay, ask, askUdp, capture, network, serve, until } from '../testbed.ts';
import { Node, type Container } from './testbed.ts';

const underlay = new Underlay();
const shared = new SharedState();
const web = network('web', 'overlay', '10.20.0.0/24', { vni: 0x800001, subnets: [{ subnet: '10.20.0.0/24', gateway: '10.20.0.1' }, { subnet: 'fd20::/64', gateway: 'fd20::1' }] });
const networks: Network[] = [web];

/** Packets that the tunnel's device of web has sent and received. */
function tunnelled(node: Node): { sent: number; received: number } {
  const [link] = JSON.parse(node.inFabric('ip', '-s', '-j', 'link', 'show', overlayTunnel(web.id))) as { stats64: { rx: { packets: number }; tx: { packets: number } } }[];
  return { sent: link!.stats64.tx.packets, received: link!.stats64.rx.packets };
}

/** How many packets went by the tunnels of these nodes meanwhile. */
function byTunnel(work: () => void, sender: Node, receiver: Node): { sent: number; received: number } {
  const before = [tunnelled(sender).sent, tunnelled(receiver).received];
  work();
  return { sent: tunnelled(sender).sent - before[0]!, received: tunnelled(receiver).received - before[1]! };
}

/** Of Linux. */
function isBefore(major: number, minor: number): boolean {
  const [ours, its] = release().split('.').map(Number) as [number, number];
  return ours < major || (ours === major && its < minor);
}

const AF_INET = 2;
const SOCK_DGRAM = 2;
const PORT = 9;
/** Level and number (ip(7), udp(7)). */
const IP_TOS = [0, 1] as const;
const UDP_SEGMENT = [17, 103] as const;

/** By one write, with an option of the socket's. */
function send(from: Container, to: Container, data: Buffer, [level, option]: readonly [number, number], value: number): void {
  const fd = from.container.netns.run(() => check('open a socket', sys.socket(AF_INET, SOCK_DGRAM, 0)));
  const bytes = Buffer.alloc(4);
  bytes.writeInt32LE(value);
  check('set an option', sys.setsockopt(fd, level, option, bytes, bytes.length));
  const address = Buffer.alloc(16);
  address.writeUInt16LE(AF_INET);
  address.writeUInt16BE(PORT, 2);
  address.set(to.ip.split('.').map(Number), 4);
  check('send', Number(sys.sendto(fd, data, data.length, 0, address, address.length)));
  sys.close(fd);
}

/** Bytes that arrive of what the kernel is to cut into datagrams of `size`. */
async function inSegments(from: Container, to: Container, count: number, size: number): Promise<number> {
  const sink = to.container.serve(process.execPath, '-e', `let n = 0; require("dgram").createSocket("udp4").on("message", (m) => console.log(n += m.length)).bind(${PORT}, () => console.log("up"));`);
  await until(() => sink.out().includes('up'));
  send(from, to, Buffer.alloc(count * size), UDP_SEGMENT, size);
  const arrived = (): number => Number(sink.out().trim().split('\n').at(-1)) || 0;
  await until(() => arrived() === count * size, 2_000);
  sink.kill();
  return arrived();
}

test('the fast path between nodes', async (t) => {
  t.teardown(() => underlay.remove());
  const a = new Node(underlay, shared, networks, 'a', 1, 1);
  const b = new Node(underlay, shared, networks, 'b', 2, 2);
  const c = new Node(underlay, shared, networks, 'c', 3, 1, 4, { fastPath: false });
  const outsider = underlay.host(9, 2);
  t.teardown(() => Promise.all([a, b, c].map((node) => node.purge())));
  for (const node of [a, b, c]) await node.driver.createNetwork(web);
  const a1 = await a.attach('a1', web, '10.20.0.11', 'fd20::11');
  const b1 = await b.attach('b1', web, '10.20.0.21', 'fd20::21');
  const c1 = await c.attach('c1', web, '10.20.0.31', 'fd20::31');
  await nextTurn();
  for (const node of [a, b, c]) await node.repair();

  await t.test('packets go past the tunnels', (t) => {
    t.same(byTunnel(() => t.ok(a1.container.pings(b1.ip)), a, b), { sent: 0, received: 0 });
    t.same(byTunnel(() => t.ok(a1.container.pings(b1.ip, '-s', '1422')), a, b), { sent: 0, received: 0 }, 'the largest that there are');
    t.same(byTunnel(() => t.ok(a1.container.pings(b1.ip, '-s', '4000')), a, b), { sent: 0, received: 0 }, 'in fragments of their own');
    t.ok(a1.container.pings('fd20::21'));
    t.same(byTunnel(() => t.ok(a1.container.pings('fd20::21', '-s', '1000')), a, b), { sent: 0, received: isBefore(6, 4) ? 1 : 0 }, 'of IPv6, once the neighbour is known');
    t.end();
  });

  await t.test('on the wire they look like the tunnel\'s', async (t) => {
    const fields = async (from: Container): Promise<string[]> => {
      const stop = await capture(underlay.router, 'r2', `udp port 4789 and udp[12:4] = 0x80000100 and dst host ${b.address}`, '-vv');
      from.container.pings(b1.ip);
      const text = await stop();
      t.match(text, /flags \[I\] \(0x08\), vni 8388609/);
      t.notMatch(text, /,bad cksum/, 'the checksum of its header');
      const port = Number(/\.(\d+) > [\d.]+\.4789/.exec(text)?.[1]);
      t.ok(port >= 32_768, 'a source port of its own');
      return /IP \(tos (\S+), ttl (\d+), id \d+, offset 0, flags \[(\w+)\], proto UDP \(17\), length (\d+)\)/.exec(text)?.slice(1) ?? [];
    };
    const [ours, kernels] = [await fields(a1), await fields(c1)];
    t.same(ours, kernels, 'type of service, hops, flags and length');
    t.equal(ours.length, 4);
  });

  await t.test('everybody reaches everybody, also who has no fast path', async (t) => {
    const servers = await Promise.all([a1, b1, c1].map((each) => serve(each.container, each.container.name)));
    for (const from of [a1, b1, c1]) {
      for (const to of [a1, b1, c1]) {
        t.equal(ask(from.container, to.ip), `${to.container.name} ${from.ip}`, 'TCP');
        t.equal(askUdp(from.container, to.ip, 80), `${to.container.name} ${from.ip}`, 'UDP');
      }
      t.ok(from.container.pings('fd20::21'));
    }
    for (const server of servers) server.kill();
  });

  await t.test('what is long arrives whole', async (t) => {
    const folder = mkdtempSync(join(tmpdir(), 'weft-'));
    const data = randomBytes(8 << 20);
    writeFileSync(join(folder, 'data'), data);
    const wanted = createHash('sha256').update(data).digest('hex');
    for (const [from, to] of [[a1, b1], [b1, a1], [a1, c1], [c1, b1]] as const) {
      for (const [bind, url] of [['0.0.0.0', to.ip], ['::', `[fd20::${to.ip.split('.')[3]}]`]] as const) {
        const server = to.container.serve(process.execPath, '-e', `require("http").createServer((_, r) => require("fs").createReadStream(${JSON.stringify(join(folder, 'data'))}).pipe(r)).listen(81, ${JSON.stringify(bind)}, () => console.log("up"))`);
        await until(() => server.out().includes('up'));
        const sum = from.container.run('sh', '-c', `curl -gs -m 30 http://${url}:81/ | sha256sum`).split(' ')[0];
        t.equal(sum, wanted, `${to.container.name} to ${from.container.name} at ${url}`);
        server.kill();
      }
    }
    rmSync(folder, { recursive: true });
    for (const [from, to] of [[a1, b1], [c1, b1], [b1, c1]] as const) t.equal(await inSegments(from, to, 40, 1000), 40_000, 'datagrams that are cut late');
  });

  await t.test('what does not fit, and what has met congestion, goes by the tunnel', (t) => {
    // As where the way between the nodes has become narrower.
    a1.container.run('ip', 'link', 'set', 'eth0', 'mtu', '1500');
    a.inFabric('ip', 'link', 'set', bridgeEnd(a1.endpoint.id), 'mtu', '1500');
    t.equal(byTunnel(() => t.notOk(a1.container.pings(b1.ip, '-s', '1472')), a, b).sent, 1, 'a packet that is too long for one of the underlay');
    t.match(a1.container.run('ip', 'route', 'get', b1.ip), /mtu 1450/, 'the tunnel tells its sender');
    a1.container.run('ip', 'link', 'set', 'eth0', 'mtu', '1450');
    t.same(byTunnel(() => send(a1, b1, Buffer.alloc(64), IP_TOS, 1), a, b), { sent: 0, received: 0 });
    t.same(byTunnel(() => send(a1, b1, Buffer.alloc(64), IP_TOS, 3), a, b), { sent: 1, received: 0 }, 'what the container calls congested; on the way it may pass for one that is not');
    t.end();
  });

  await t.test('who is no member gets nothing in', async (t) => {
    const stop = await capture(b1.container, 'eth0', 'udp');
    const frame = Buffer.concat([
      Buffer.from('0800000080000100', 'hex'), Buffer.from(b1.endpoint.mac.replaceAll(':', ''), 'hex'), Buffer.from(a1.endpoint.mac.replaceAll(':', ''), 'hex'), Buffer.from('0800', 'hex'),
      Buffer.from('4500002000000000401100000a14000b0a140015000900090008000000000000', 'hex'),
    ]).toString('hex');
    const inject = (bytes: string): string => `const d = require("dgram").createSocket("udp4"); d.send(Buffer.from("${bytes}", "hex"), 4789, "${b.address}", () => d.close());`;
    outsider.space.run(process.execPath, '-e', inject(frame));
    t.equal((await stop()).trim(), '');
    const stopMember = await capture(b1.container, 'eth0', 'udp');
    const fromMember = (bytes: string): number => byTunnel(() => void a.space.run(process.execPath, '-e', inject(bytes)), a, b).received;
    t.equal(fromMember(frame), 0);
    t.match(await stopMember(), /10\.20\.0\.11\.9 > 10\.20\.0\.21\.9/, 'the same from a member');
    const stopOther = await capture(b1.container, 'eth0', 'udp');
    fromMember(frame.replace('80000100', '80000101'));
    t.equal((await stopOther()).trim(), '', 'a byte that is to be zero, and by which tables know encrypted networks, is the kernel\'s to judge, which drops it');
  });

  await t.test('it goes on when weftd has ended, and when the way to a node has changed', async (t) => {
    a.stop();
    t.same(byTunnel(() => t.ok(a1.container.pings(b1.ip)), a, b), { sent: 0, received: 0 });
    const gateway = '10.99.1.250';
    a.space.run('ip', 'neigh', 'flush', 'dev', 'eth0');
    t.ok(a1.container.pings(b1.ip), 'a neighbour that is not known');
    underlay.router.run('ip', 'address', 'add', `${gateway}/32`, 'dev', 'r1');
    a.space.run('ip', 'route', 'add', gateway, 'dev', 'eth0');
    a.space.run('ip', 'route', 'add', b.address, 'via', gateway);
    a.space.run('ip', 'neigh', 'flush', 'dev', 'eth0');
    t.same(byTunnel(() => t.ok(a1.container.pings(b1.ip)), a, b), { sent: 0, received: 0 }, 'another next hop');
    t.match(a.space.run('ip', 'neigh', 'show', gateway), /lladdr/);
    a.space.run('ip', 'route', 'del', b.address);
    a.start();
    t.same((await a.repair()).filter((what) => /VXLAN|encapsulated/.test(what)), [], 'a start finds nothing amiss');
    t.same(byTunnel(() => t.ok(a1.container.pings(b1.ip)), a, b), { sent: 0, received: 0 }, 'and goes on with tables of its own');
  });

  await t.test('what is broken is mended', async (t) => {
    for (const [where, link, found] of [['host', 'weft-up', /weft-up did not send/], ['fabric', 'uplink', /uplink did not deliver/], ['host', 'eth0', /left all VXLAN to the tunnels/]] as const) {
      const run = (...command: string[]): string => (where === 'host' ? a.space.run(...command) : a.inFabric(...command));
      run('tc', 'filter', 'del', 'dev', link, 'ingress');
      t.match((await a.repair()).join('\n'), found);
      t.same(byTunnel(() => t.ok(a1.container.pings(b1.ip)), b, a), { sent: 0, received: 0 });
      t.same(await a.repair(), []);
    }
  });

  await t.test('IPsec of the host\'s is not gone past', async (t) => {
    a.space.run('ip', 'xfrm', 'policy', 'add', 'src', '192.0.2.1', 'dst', '192.0.2.2', 'dir', 'out', 'tmpl', 'src', '192.0.2.1', 'dst', '192.0.2.2', 'proto', 'esp', 'mode', 'transport');
    await a.repair();
    t.notMatch(a.space.run('tc', 'qdisc', 'show', 'dev', 'eth0'), /clsact/, 'nothing of ours is left at the host\'s link');
    t.equal(byTunnel(() => t.ok(a1.container.pings(b1.ip)), a, b).sent, 1);
    a.space.run('ip', 'xfrm', 'policy', 'flush');
    await a.repair();
    t.same(byTunnel(() => t.ok(a1.container.pings(b1.ip)), a, b), { sent: 0, received: 0 });
  });

  await t.test('it is taken off the host, and what others have there stays', async (t) => {
    b.space.run('tc', 'filter', 'add', 'dev', 'eth0', 'ingress', 'pref', '7', 'bpf', 'bytecode', '1,6 0 0 0', 'classid', '1:1');
    b.stop();
    b.fastPath = false;
    b.start();
    await b.repair();
    t.notMatch(b.space.run('tc', 'filter', 'show', 'dev', 'eth0', 'ingress'), /weft/);
    t.match(b.space.run('tc', 'filter', 'show', 'dev', 'eth0', 'ingress'), /pref 7 bpf/);
    t.ok(byTunnel(() => t.ok(b1.container.pings(a1.ip)), b, a).sent > 0, 'everything goes by the tunnel');
    t.match(a.space.run('tc', 'filter', 'show', 'dev', 'eth0', 'ingress'), /weft-receiver/);
    t.same(await a.purge(), []);
    t.equal(a.space.run('tc', 'qdisc', 'show', 'dev', 'eth0').includes('clsact'), false);
  });
});
