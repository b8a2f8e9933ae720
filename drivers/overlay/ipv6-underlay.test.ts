//              router
//     fd99:1::/64 │ fd99:2::/64        no IPv4 between the hosts
//        ┌────────┴────────┬──────────┐
//     node a            node b      client fd99:2::9
//       a1                b1
//
//  web 10.20.0.0/24 and fd20::/64; node c is told of, with an IPv4 address
import { setImmediate as nextTurn } from 'node:timers/promises';
import { test } from 'tap';
import type { Network } from '../../cnm/model.ts';
import { SharedState, Underlay, capture, network, nodeInfo, until } from '../testbed.ts';
import { Node } from './testbed.ts';

const underlay = new Underlay();
const shared = new SharedState();
const web = network('web', 'overlay', '10.20.0.0/24', { vni: 0x800001, subnets: [{ subnet: '10.20.0.0/24', gateway: '10.20.0.1' }, { subnet: 'fd20::/64', gateway: 'fd20::1' }] });
const networks: Network[] = [web];
const SEND = 'const d = require("dgram").createSocket("udp6"); d.send(Buffer.from("0800000080000100ffffffffffff", "hex"), 4789, process.argv[1], () => d.close());';

test('nodes that reach each other by IPv6 alone', async (t) => {
  t.teardown(() => underlay.remove());
  const a = new Node(underlay, shared, networks, 'a', 1, 1, 6);
  const b = new Node(underlay, shared, networks, 'b', 2, 2, 6);
  t.teardown(() => Promise.all([a, b].map((node) => node.purge())));
  const { space: client } = underlay.host(9, 2);
  const outside = underlay.addIpv6({ space: client }, 9, 2);
  // The hosts look for duplicates of their addresses first (RFC 4862 §5.4), which takes up to two seconds.
  for (const [from, to] of [[a.space, b.address], [client, a.address]] as const) await until(() => from.pings(to));
  for (const node of [a, b]) await node.driver.createNetwork(web);
  const a1 = await a.attach('a1', web, '10.20.0.11', 'fd20::11');
  const b1 = await b.attach('b1', web, '10.20.0.21', 'fd20::21');
  await nextTurn();

  t.test('containers reach each other by both families, in VXLAN over IPv6', async (t) => {
    const wire = await capture(underlay.router, 'r1', 'ip6 and udp port 4789');
    for (const [from, to] of [[a1, '10.20.0.21'], [a1, 'fd20::21'], [b1, '10.20.0.11'], [b1, 'fd20::11']] as const) t.ok(from.container.pings(to), `${from.ip} → ${to}`);
    t.match(await wire(), new RegExp(`${a.address}\\.\\d+ > ${b.address}\\.4789`));
    for (const ip of ['10.20.0.21', 'fd20::21']) t.ok(a.space.pings(ip), `the host → ${ip}`);
  });

  t.test('VXLAN over IPv6 takes 70 bytes: the largest packet crosses in one piece', async (t) => {
    t.match(a1.container.run('ip', '-o', 'link', 'show', 'eth0'), 'mtu 1430 ');
    const pieces = await capture(underlay.router, 'r1', 'ip6[6] = 44 or icmp6[0] = 2');
    t.ok(a1.container.pings('10.20.0.21', '-s', String(1430 - 28)));
    t.ok(a1.container.pings('fd20::21', '-s', String(1430 - 48)));
    t.equal((await pieces()).trim(), '');
  });

  t.test('a published backend on another node sees the client itself', async (t) => {
    const server = b1.container.serve(process.execPath, '-e', 'require("net").createServer((s) => s.end(s.remoteAddress)).listen(80, "::", () => console.log("up"))');
    t.teardown(() => server.kill());
    await until(() => server.out().includes('up'));
    a.space.run('nft', 'add table ip6 probe; add chain ip6 probe pre { type nat hook prerouting priority dstnat - 10; }; add rule ip6 probe pre fib daddr type local tcp dport 8080 dnat to [fd20::21]:80');
    b.driver.setBackends([{ ip: 'fd20::21', protocol: 'tcp', port: 80 }]);
    t.equal(client.run('timeout', '2', process.execPath, '-e', `require("net").connect(8080, "${a.address}").pipe(process.stdout)`), outside);
    b.driver.setBackends([]);
    a.space.run('nft', 'delete table ip6 probe');
  });

  t.test('nobody injects: neither a container, nor an outsider, nor an unprivileged user of a host', async (t) => {
    const arrived = (): number => Number(/counter packets (\d+)/.exec(b.space.run('nft', 'list', 'chain', 'inet', 'probe', 'arrived'))![1]);
    b.space.run('nft', 'add table inet probe; add chain inet probe arrived { type filter hook input priority 0; }; add rule inet probe arrived meta nfproto ipv6 udp dport 4789 counter');
    const sent = await capture(underlay.router, 'any', 'ip6 and udp port 4789 and ip6[44:2] < 30');
    for (const space of [a1.container, b1.container, client]) space.run(process.execPath, '-e', SEND, b.address);
    a.space.succeeds('setpriv', '--reuid=65534', '--clear-groups', process.execPath, '-e', SEND, b.address);
    t.equal(arrived(), 0);
    const packets = await sent();
    t.match(packets, outside, 'the outsider\'s was dropped by the host that it came to');
    t.notMatch(packets, a.address, 'the others did not leave');
    b.space.run('nft', 'delete table inet probe');
  });

  t.test('a node of the other family is told of, and harms nobody', async (t) => {
    const c = shared.of('c');
    c.publish('node', 'self', nodeInfo('c', 3, '10.99.1.3'));
    c.publish('endpoint', 'c1', { networkId: web.id, endpointId: 'c1', ip: '10.20.0.31', mac: '02:42:0a:14:00:1f' });
    await nextTurn();
    t.match(a.driver.problems(), [/node c is reached at 10\.99\.1\.3 and this one at fd99:1::1: there are no tunnels between IPv4 and IPv6.*--advertise/]);
    t.same(await a.repair(), []);
    t.same(await a.repair(), []);
    t.ok(a1.container.pings('10.20.0.21'));
    t.notOk(a1.container.pings('10.20.0.31'));
    for (const [table, key] of [['endpoint', 'c1'], ['node', 'self']] as const) c.withdraw(table, key);
    await nextTurn();
    t.same(a.driver.problems(), []);
  });

  t.test('a restart finds everything as it was, and what others break is mended', async (t) => {
    a.stop();
    a.start();
    t.same(await a.repair(), []);
    a.inFabric('ip', 'link', 'del', 'weft-in');
    t.match((await a.repair()).join('; '), /link weft-in was missing/);
    t.ok(a.space.pings('fd20::21'));
    t.same(await a.repair(), []);
  });
});
