//              router ── client fd99:2::9
//       10.99.1/24 │ 10.99.2/24         the nodes have fd99:1::1 and fd99:2::2 besides; VXLAN goes by IPv4
//         ┌────────┴────────┐
//       node a            node b
//     ┌───┼─────┐       ┌───┼────┐
//    a1  s1    i1      b1  s2   i2
//
//  web 10.20.0.0/24 and fd20::/64; six fd21::/64; in fd22::/64, internal
import { setImmediate as nextTurn } from 'node:timers/promises';
import { test } from 'tap';
import type { Network } from '../../cnm/model.ts';
import { overlayBridge, overlayTunnel } from '../names.ts';
import { SharedState, Underlay, capture, endpoint, network, until } from '../testbed.ts';
import { nodeAddress6 } from './addressing.ts';
import { Node } from './testbed.ts';

const underlay = new Underlay();
const shared = new SharedState();
const web = network('web', 'overlay', '10.20.0.0/24', { vni: 0x800001, subnets: [{ subnet: '10.20.0.0/24', gateway: '10.20.0.1' }, { subnet: 'fd20::/64', gateway: 'fd20::1' }] });
const six = network('six', 'overlay', 'fd21::/64', { vni: 0x800002 });
const internal = network('in', 'overlay', 'fd22::/64', { vni: 0x800003, internal: true });
const networks: Network[] = [web, six, internal];
const INJECT = 'const d = require("dgram").createSocket("udp6"); d.send(Buffer.from("0800000080000100ffffffffffff", "hex"), 4789, process.argv[1], () => d.close());';

test('overlay networks with IPv6', async (t) => {
  t.teardown(() => underlay.remove());
  const a = new Node(underlay, shared, networks, 'a', 1, 1);
  const b = new Node(underlay, shared, networks, 'b', 2, 2);
  const { space: client } = underlay.host(9, 2);
  const addressOfA = underlay.addIpv6(a, 1, 1);
  const addressOfB = underlay.addIpv6(b, 2, 2);
  const outside = underlay.addIpv6({ space: client }, 9, 2);
  const before = a.ipv6();
  t.teardown(() => Promise.all([a, b].map((node) => node.purge())));
  for (const node of [a, b]) for (const each of networks) await node.driver.createNetwork(each);
  const a1 = await a.attach('a1', web, '10.20.0.11', 'fd20::11');
  const b1 = await b.attach('b1', web, '10.20.0.21', 'fd20::21');
  const s1 = await a.attach('s1', six, 'fd21::11');
  const s2 = await b.attach('s2', six, 'fd21::21');
  const i1 = await a.attach('i1', internal, 'fd22::11');
  const i2 = await b.attach('i2', internal, 'fd22::21');
  await nextTurn();

  t.test('everybody on a network is one hop away, and nothing but VXLAN crosses', async (t) => {
    const wire = await capture(underlay.router, 'any', 'net fd20::/15');
    const inner = await capture(underlay.router, 'r2', 'udp port 4789 and (udp[8+8+14+6] = 58 and udp[8+8+14+40] >= 133)');
    for (const [from, to] of [[a1, 'fd20::21'], [a1, '10.20.0.21'], [b1, 'fd20::11'], [s1, 'fd21::21'], [s2, 'fd21::11'], [i1, 'fd22::21'], [i2, 'fd22::11']] as const) {
      t.ok(from.container.pings(to), `${from.ip} → ${to}`);
    }
    t.match(a1.container.run('ip', '-6', 'neigh', 'show', 'fd20::21'), b1.endpoint.mac);
    t.equal((await wire()).trim(), '', 'no address of a container on the wire');
    t.equal((await inner()).trim(), '', 'no solicitation of a neighbour or a router, and no advertisement');
    t.notOk(a1.container.pings('fd20::99'), 'an address that nobody has');
  });

  t.test('the largest packet of a container crosses in one piece', async (t) => {
    // IPv6 and ICMPv6 take 48 bytes.
    t.ok(a1.container.pings('fd20::21', '-s', String(1450 - 48)));
  });

  t.test('the gateway, the hosts, and the way out', async (t) => {
    for (const { container, ip } of [a1, s1, b1, s2]) {
      t.ok(container.pings(ip.replace(/::.*/, '::1')), `${ip} → its gateway`);
      t.ok(container.pings(outside), `${ip} → outside`);
    }
    t.ok(a1.container.pings(addressOfB), 'another node');
    for (const ip of ['fd20::11', 'fd20::21', 'fd21::21']) t.ok(a.space.pings(ip), `the host → ${ip}`);
    const arrived = await capture(b1.container, 'eth0', 'icmp6 and ip6[40] = 128');
    a.space.pings('fd20::21');
    t.match(await arrived(), `${nodeAddress6('10.255.0.0/16', 1)} > fd20::21`, 'a container sees the node that calls');
    const wire = await capture(client, 'eth0', 'icmp6 and ip6[40] = 128');
    b1.container.pings(outside);
    t.match(await wire(), `${addressOfB} > ${outside}`, 'what leaves has the address of the host where it leaves');
  });

  t.test('who does not reach whom', async (t) => {
    for (const [from, to] of [[a1, 'fd21::11'], [a1, 'fd21::21'], [s1, 'fd20::21'], [a1, 'fd22::21']] as const) t.notOk(from.container.pings(to), `${from.ip} → ${to}`);
    i1.container.run('ip', '-6', 'route', 'add', 'default', 'via', 'fd22::1');
    t.notOk(i1.container.pings(outside));
    t.notOk(a.space.pings('fd22::11'));
    underlay.router.run('ip', '-6', 'route', 'add', 'fd20::/64', 'via', 'fe80::98', 'dev', 'r1');
    a.space.run('ip', 'address', 'add', 'fe80::98/64', 'dev', 'eth0', 'nodad');
    t.notOk(client.pings('fd20::11'), 'an outsider who routes a subnet at a host');
    a.space.run('ip', 'address', 'del', 'fe80::98/64', 'dev', 'eth0');
  });

  t.test('a published backend on another node sees the client itself; what is not published is not reached', async (t) => {
    const server = b1.container.serve(process.execPath, '-e', 'for (const port of [80, 81]) require("net").createServer((s) => s.end(s.remoteAddress)).listen(port, "::", () => console.log("up"))');
    t.teardown(() => server.kill());
    await until(() => server.out().includes('up\nup'));
    // What ingress/ does on a node without a backend of its own.
    a.space.run('nft', 'add table ip6 probe; add chain ip6 probe pre { type nat hook prerouting priority dstnat - 10; }; add rule ip6 probe pre fib daddr type local tcp dport 8080-8081 dnat to [fd20::21]:tcp dport map { 8080 : 80, 8081 : 81 }');
    const asks = (port: number): string => client.run('sh', '-c', `timeout 2 ${process.execPath} -e 'require("net").connect(${port}, "${addressOfA}").pipe(process.stdout)' || echo nothing`).trim();
    t.equal(asks(8080), 'nothing', 'nothing is published yet');
    b.driver.setBackends([{ ip: 'fd20::21', protocol: 'tcp', port: 80 }]);
    t.equal(asks(8080), outside);
    t.match(b.inFabric('conntrack', '-L', '-f', 'ipv6', '-p', 'tcp', '--dport', '80'), /zone-orig=1/, 'kept apart by the node it came through');
    t.equal(asks(8081), 'nothing', 'weft-in lets in what is published only');
    b.driver.setBackends([]);
    t.equal(asks(8080), 'nothing');
    a.space.run('nft', 'delete table ip6 probe');
  });

  t.test('injection, and foreign addresses', async (t) => {
    const arrived = (): number => Number(/counter packets (\d+)/.exec(b.space.run('nft', 'list', 'chain', 'inet', 'probe', 'arrived'))![1]);
    b.space.run('nft', 'add table inet probe; add chain inet probe arrived { type filter hook input priority 0; }; add rule inet probe arrived meta nfproto ipv6 udp dport 4789 counter');
    for (const space of [a1.container, client]) space.run(process.execPath, '-e', INJECT, addressOfB);
    t.equal(arrived(), 0, 'no VXLAN comes in by IPv6');
    b.space.run('nft', 'delete table inet probe');
    a1.container.run('ip', 'address', 'add', 'fd77::7/128', 'dev', 'eth0', 'nodad');
    const wire = await capture(underlay.router, 'any', 'host fd77::7');
    t.notOk(a1.container.succeeds('busybox', 'ping', '-6', '-c', '1', '-W', '1', '-I', 'fd77::7', outside));
    t.equal((await wire()).trim(), '');
    a1.container.run('ip', 'address', 'del', 'fd77::7/128', 'dev', 'eth0');
  });

  t.test('one of two addresses goes, and the other one keeps its way', async (t) => {
    const tunnel = overlayTunnel(web.id);
    const { ip6: _, ...without } = { networkId: web.id, endpointId: b1.endpoint.id, ip: '10.20.0.21', ip6: 'fd20::21', mac: b1.endpoint.mac };
    b.state.publish('endpoint', b1.endpoint.id, without);
    await nextTurn();
    t.notMatch(a.inFabric('ip', 'neigh', 'show', 'dev', tunnel), 'fd20::21');
    t.match(a.inFabric('bridge', 'fdb', 'show', 'dev', tunnel), b1.endpoint.mac);
    t.ok(a1.container.pings('10.20.0.21'));
    t.same(await a.repair(), []);
    b.state.publish('endpoint', b1.endpoint.id, { ...without, ip6: 'fd20::21' });
    await nextTurn();
    t.ok(a1.container.pings('fd20::21'));
    b.state.withdraw('endpoint', b1.endpoint.id);
    await nextTurn();
    t.equal(a.inFabric('bridge', 'fdb', 'show', 'dev', tunnel).includes(b1.endpoint.mac), false);
    t.notMatch(a.inFabric('ip', '-6', 'route', 'show', 'table', '1000'), 'fd20::21');
    b.state.publish('endpoint', b1.endpoint.id, { ...without, ip6: 'fd20::21' });
    await nextTurn();
    t.same(await a.repair(), []);
  });

  t.test('what others break is mended', async (t) => {
    const [bridge, tunnel] = [overlayBridge(web.id), overlayTunnel(web.id)];
    const broken: [string[], RegExp][] = [
      [['ip', '-6', 'address', 'del', 'fd20::1/64', 'dev', bridge], /fd20::1\/64 was missing/],
      [['sysctl', '-qw', `net.ipv6.conf.${bridge}.disable_ipv6=1`], /fd20::1\/64 was missing/],
      [['sysctl', '-qw', 'net.ipv6.conf.uplink.disable_ipv6=1'], /fe80::2\/64 was missing/],
      [['sysctl', '-qw', 'net.ipv6.conf.weft-in.disable_ipv6=1'], /neighbours were missing|routes were missing/],
      [['ip', '-6', 'neigh', 'flush', 'dev', tunnel, 'nud', 'permanent'], /neighbours were missing/],
      [['ip', '-6', 'route', 'flush', 'table', '1000'], /routes were missing/],
      [['ip', '-6', 'route', 'del', 'default', 'dev', 'uplink'], /routes were missing \(default\)/],
      [['ip', '-6', 'rule', 'del', 'priority', '200'], /routing rule to table 1000 was missing/],
    ];
    for (const [command, says] of broken) {
      a.inFabric(...command);
      t.match((await a.repair()).join('; '), says, command.join(' '));
      t.same(await a.repair(), []);
    }
    a.space.run('ip', '-6', 'route', 'flush', 'dev', 'weft-up', 'proto', 'static');
    t.match((await a.repair()).join('; '), /routes were missing/);
    a.space.run('sysctl', '-qw', 'net.ipv6.conf.weft-up.disable_ipv6=1');
    t.match((await a.repair()).join('; '), /address .* was missing/);
    for (const ip of ['fd20::21', outside]) t.ok(a1.container.pings(ip), ip);
    for (const ip of ['fd20::11', 'fd20::21']) t.ok(a.space.pings(ip), ip);
  });

  t.test('a restart finds everything as it was', async (t) => {
    a.stop();
    t.ok(a1.container.pings('fd20::21'));
    a.start();
    t.same(await a.repair(), []);
  });

  t.test('where IPv6 is switched off, IPv4 goes on alone', async (t) => {
    b.space.run('sysctl', '-qw', 'net.ipv6.conf.all.disable_ipv6=1');
    await t.rejects(b.driver.createEndpoint(web, endpoint('b9', web, '10.20.0.29/24', { addressIpv6: 'fd20::29/64' })), { code: 'WEFT-IPV6-DISABLED' });
    t.throws(() => b.driver.validate(six), { code: 'WEFT-IPV6-DISABLED' });
    await b.repair();
    t.same(await b.repair(), []);
    t.ok(b1.container.pings('10.20.0.11'));
    t.ok(a1.container.pings('10.20.0.21'));
    b.space.run('sysctl', '-qw', 'net.ipv6.conf.all.disable_ipv6=0');
    await b.repair();
    t.ok(b1.container.pings('fd20::11'));
  });

  t.test('nothing stays on the host', async (t) => {
    networks.splice(0);
    await a.driver.ensureFabric();
    t.equal(a.space.run('ip', '-6', 'address', 'show', 'dev', 'weft-up'), '', 'without a network of it the uplink has no IPv6');
    t.equal(a.inFabric('ip', '-6', 'rule', 'show', 'priority', '200'), '');
    t.same(await a.purge(), []);
    for (const [name, value] of a.journal) a.space.run('sysctl', '-qw', `${name}=${value}`);
    t.equal(a.ipv6(), before);
  });
});
