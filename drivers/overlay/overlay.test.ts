//            router (10.99.1.0/24 | 10.99.2.0/24)
//           /            |             \
//     host a          host b          host c
//   10.99.1.1        10.99.2.2       10.99.1.3
//   [fabric]         [fabric]        [fabric]
//    |    |             |               |
//   a1   a2(dbs)        b1              c1          networks: web 10.20.0.0/24, dbs 10.21.0.0/24
import { setImmediate as nextTurn } from 'node:timers/promises';
import { test } from 'tap';
import { systemClock } from '../../base/clock.ts';
import type { Network } from '../../cnm/model.ts';
import { watchCarrier } from '../carrier.ts';
import { watchDisturbances } from '../disturbances.ts';
import { overlayTunnel } from '../names.ts';
import { SharedState, Underlay, capture, endpoint, network, until } from '../testbed.ts';
import { Node } from './testbed.ts';

const underlay = new Underlay();
const shared = new SharedState();
const networks: Network[] = [
  network('web', 'overlay', '10.20.0.0/24', { vni: 0x800001 }), network('dbs', 'overlay', '10.21.0.0/24', { vni: 0x800002 }),
];
const [web, dbs] = networks as [Network, Network];

test('overlay networks on three hosts', async (t) => {
  t.teardown(() => underlay.remove());
  const a = new Node(underlay, shared, networks, 'a', 1, 1);
  const b = new Node(underlay, shared, networks, 'b', 2, 2);
  const c = new Node(underlay, shared, networks, 'c', 3, 1);
  const all = [a, b, c];
  t.teardown(() => Promise.all(all.map((node) => node.purge())));
  for (const each of all) for (const every of networks) await each.driver.createNetwork(every);
  const built = (node: Node): string[] => node.fabric.rtnl.links().map(({ name }) => name).filter((name) => /^w[bv]-/.test(name));
  for (const each of all) t.same(built(each), [], 'nothing is built for a network without endpoints');
  const a1 = await a.attach('a1', web, '10.20.0.11');
  const a2 = await a.attach('a2', dbs, '10.21.0.12');
  const b1 = await b.attach('b1', web, '10.20.0.21');
  const c1 = await c.attach('c1', web, '10.20.0.31');
  await nextTurn();

  t.test('everybody on a network reaches everybody in one hop, and nothing but VXLAN crosses', async (t) => {
    const stop = await capture(underlay.router, 'any', 'arp or (ip and not udp port 4789)');
    for (const from of [a1, b1, c1]) for (const to of [a1, b1, c1]) t.ok(from.container.pings(to.ip, '-t', '1'), `${from.container.name} → ${to.ip}`);
    const seen = (await stop()).split('\n').filter((line) => /10\.2[01]\./.test(line));
    t.same(seen, [], 'no address of a container, no ARP for one, on the wire');
    t.notOk(a1.container.pings('10.20.0.99'), 'an address that nobody has');
  });

  t.test('the largest packet of a container crosses in one piece', async (t) => {
    t.equal(a1.container.rtnl.link('eth0')!.mtu, 1450);
    const stop = await capture(underlay.router, 'any', 'ip[6:2] & 0x3fff != 0');
    t.ok(a1.container.pings(b1.ip, '-s', '1422'));
    t.equal((await stop()).trim(), '', 'no fragment');
  });

  t.test('networks do not reach each other', async (t) => {
    t.notOk(a2.container.pings(a1.ip));
    t.notOk(a2.container.pings(b1.ip));
    t.notOk(b1.container.pings(a2.ip));
  });

  t.test('the way out: masqueraded as the host', async (t) => {
    const stop = await capture(underlay.router, 'r3', 'icmp');
    t.ok(a1.container.pings(c.address), 'another host');
    t.ok(a1.container.pings('10.99.1.201'), 'the router');
    t.match(await stop(), /10\.99\.1\.1 > 10\.99\.1\.3: ICMP echo request/);
    t.ok(a.space.pings(a1.ip), 'the host reaches a container of its own');
    t.ok(a.space.pings(b1.ip), 'and one of another host');
  });

  t.test('bridged frames that a loaded br_netfilter sends through the fabric\'s rules pass', async (t) => {
    for (const each of all) each.inFabric('sysctl', '-qw', 'net.bridge.bridge-nf-call-iptables=1');
    t.ok(a1.container.pings(b1.ip));
    t.ok(b1.container.pings(c1.ip));
    t.notOk(a2.container.pings(a1.ip));
  });

  t.test('a network is built where it has endpoints, and its addresses are reached by every host', async (t) => {
    t.equal(built(a).length, 4);
    for (const each of [b, c]) {
      t.same(built(each).sort(), [`wb-${web.id.slice(0, 11)}`, overlayTunnel(web.id)].sort());
      t.same(await each.repair(), [], 'nor is it missed');
      t.ok(each.space.pings(a2.ip), 'by weft-in');
    }
    const stop = await capture(b.space, 'weft-up', 'icmp and host 10.21.0.99');
    t.notOk(b.space.pings('10.21.0.99'), 'an address that nobody has');
    t.ok((await stop()).trim().split('\n').filter((line) => /echo request/.test(line)).length <= 1, 'its packets do not go round');
  });

  t.test('carrier is told', async (t) => {
    const seen = new Map<string, boolean>();
    const stop = watchCarrier(a.fabric.rtnl, (digits, up) => seen.set(digits, up));
    t.teardown(stop);
    const digits = a1.endpoint.id.slice(0, 11);
    t.equal(seen.get(digits), true);
    a1.container.run('ip', 'link', 'set', 'eth0', 'down');
    t.ok(await until(() => seen.get(digits) === false));
    a1.container.run('ip', 'link', 'set', 'eth0', 'up');
    t.ok(await until(() => seen.get(digits) === true));
    a1.container.run('ip', 'route', 'replace', 'default', 'via', '10.20.0.1');
  });

  t.test('what is broken is noticed, mended, and said', async (t) => {
    t.same(await a.repair(), [], 'nothing is wrong');
    const disturbances = { count: 0 };
    const count = (): void => void disturbances.count++;
    const stops = [watchDisturbances(a.fabric.rtnl, a.fabric.netns, systemClock, count), watchDisturbances(a.fabric.hostRtnl, a.space.netns, systemClock, count)];
    t.teardown(() => stops.forEach((stop) => stop()));
    const tunnel = overlayTunnel(web.id);
    const bridgePort = `we-${a1.endpoint.id.slice(0, 11)}`;
    const cases: [string, () => void, RegExp][] = [
      ['neighbour', () => a.inFabric('ip', 'neigh', 'del', b1.ip, 'dev', tunnel), /neighbours were missing/],
      ['route', () => a.inFabric('ip', 'route', 'del', `${b1.ip}/32`, 'table', '1000'), /routes were missing/],
      ['rule', () => a.inFabric('ip', 'rule', 'del', 'pref', '200'), /routing rule/],
      ['link down', () => a.inFabric('ip', 'link', 'set', tunnel, 'down'), /another up/],
      ['link gone', () => a.inFabric('ip', 'link', 'del', tunnel), /was missing/],
      ['host rules', () => a.space.run('nft', 'flush', 'ruleset'), /weft-uplink/],
      ['fabric rules', () => a.inFabric('nft', 'delete', 'table', 'inet', 'weft'), /table inet weft of the fabric/],
      ['host route', () => a.space.run('ip', 'route', 'del', '10.20.0.0/24', 'metric', '0'), /routes were missing/],
      ['uplink', () => a.space.run('ip', 'link', 'del', 'weft-up'), /weft-up was missing/],
      ['forwarding entry', () => a.inFabric('bridge', 'fdb', 'del', b1.endpoint.mac, 'dev', tunnel, 'dst', b.address, 'self'), /forwarding entries were missing/],
      ['stale forwarding entry', () => a.inFabric('bridge', 'fdb', 'add', '02:42:00:00:00:77', 'dev', tunnel, 'dst', b.address, 'self'), /forwarding entries were stale/],
      ['port without bridge', () => a.inFabric('ip', 'link', 'set', bridgePort, 'nomaster'), /another master/],
      ['address behind a port', () => a.inFabric('bridge', 'fdb', 'del', a1.endpoint.mac, 'dev', bridgePort, 'master'), /address of port/],
    ];
    for (const [name, breakIt, words] of cases) {
      disturbances.count = 0;
      breakIt();
      if (!/forwarding|port/.test(name)) t.ok(await until(() => disturbances.count > 0), `${name}: noticed`);
      const found = await a.repair();
      t.ok(found.some((what) => words.test(what)), `${name}: ${found.join('; ')}`);
      t.same(await a.repair(), [], `${name}: nothing is left to mend`);
    }
    a.space.run('iptables', '-P', 'FORWARD', 'DROP');
    t.match(await a.repair(), [/FORWARD/], 'a firewall that came anew');
    t.ok(a1.container.pings(b1.ip) && a1.container.pings(c.address) && a.space.pings(c1.ip), 'everything works again');
    t.match(a.inFabric('bridge', '-d', 'link', 'show', 'dev', bridgePort), /learning off/s, 'also what no dump shows');
  });

  t.test('nothing moves while weftd is away, and nothing has to be mended when it returns', async (t) => {
    const ping = c1.container.start('busybox', 'ping', '-q', '-i', '0.05', '-c', '40', '-W', '1', a1.ip);
    a.stop();
    t.ok(b1.container.pings(a1.ip));
    a.start();
    t.same(await a.driver.ensureFabric(), []);
    t.same(await a.repair(), []);
    t.match(await ping, / 0% packet loss/);
  });

  t.test('a crash between an endpoint\'s record and its link, and links whose endpoint is no more', async (t) => {
    const made = endpoint('a9', web, '10.20.0.19/24');
    const { sourceName } = await a.driver.join(web, made);
    t.ok(a.space.rtnl.link(sourceName), 'Join makes what is missing');
    t.match(await a.repair(), [/we-.* belonged to nothing/]);
    t.notOk(a.space.rtnl.link(sourceName));
  });

  t.test('an endpoint that goes is out of reach at once, and one that moves takes its address along', async (t) => {
    b.state.withdraw('endpoint', b1.endpoint.id);
    await nextTurn();
    t.notOk(a1.container.pings(b1.ip));
    await b.driver.deleteEndpoint(web, b1.endpoint);
    b.endpoints.splice(0);
    const c2 = await c.attach('c2', web, b1.ip);
    await nextTurn();
    t.ok(a1.container.pings(c2.ip), 'reached at its new place');
    t.ok(c2.container.pings(a1.ip));
    const a3 = await a.attach('a3', web, b1.ip);
    t.ok(a1.container.pings(a3.ip), 'and here, though its old place has not let go of it yet');
    c.state.withdraw('endpoint', c2.endpoint.id);
    await nextTurn();
    t.ok(a1.container.pings(a3.ip));
    await c.driver.deleteEndpoint(web, c2.endpoint);
    c.endpoints.pop();
    t.ok(c1.container.pings(a3.ip));
    for (const each of all) t.same(await each.repair(), []);
  });

  t.test('a node that leaves', async (t) => {
    t.ok(a1.container.pings(c1.ip));
    for (const [id, record] of [...shared.records]) if (record.owner === 'c') c.state.withdraw(record.table, id.split(' ')[2]!);
    await nextTurn();
    t.notOk(a1.container.pings(c1.ip));
    t.notMatch(a.inFabric('bridge', 'fdb', 'show'), c.address);
    t.notMatch(a.space.run('nft', 'list', 'set', 'inet', 'weft-uplink', 'members'), c.address);
    t.same(await a.repair(), []);
  });

  t.test('after a purge the host is as before', async (t) => {
    for (const each of all) {
      t.same(await each.purge(), []);
      for (const [name, value] of each.journal) each.space.run('sysctl', '-qw', `${name.replaceAll('/', '.')}=${value}`);
      // The policy was set again after the flush; the chain's table is iptables' own.
      t.equal(each.space.snapshot().replace(/^.*policy.*$/gm, ''), each.before.replace(/^.*policy.*$/gm, ''));
    }
  });
});
