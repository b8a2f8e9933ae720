//            router (10.99.1.0/24 | 10.99.2.0/24)
//           /            |             \
//     host a          host b          host c
//   10.99.1.1        10.99.2.2       10.99.1.3
//   [fabric]         [fabric]        [fabric]
//    |    |             |               |
//   a1   a2(db)         b1              c1          networks: web 10.20.0.0/24, db 10.21.0.0/24
import { execFileSync, spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { test } from 'tap';
import { systemClock } from '../../base/clock.ts';
import { silentLogger } from '../../base/log.ts';
import type { Endpoint, Network } from '../../cnm/model.ts';
import { watchCarrier } from '../carrier.ts';
import { overlayTunnel } from '../names.ts';
import { SharedState, Underlay, endpoint, network, nodeInfo, plugIn, type Space } from '../testbed.ts';
import { openFabric } from './fabric.ts';
import { createOverlayDriver } from './overlay.ts';

const underlay = new Underlay();
const shared = new SharedState();
const networks: Network[] = [
  network('web', 'overlay', '10.20.0.0/24', { vni: 0x800001 }), network('dbs', 'overlay', '10.21.0.0/24', { vni: 0x800002 }),
];
const [web, db] = networks as [Network, Network];

const snapshot = (space: Space): string => [
  execFileSync('ip', ['-n', space.name, '-o', 'link'], { encoding: 'utf8' }), execFileSync('ip', ['-n', space.name, 'route'], { encoding: 'utf8' }), space.run('nft', 'list', 'ruleset'),
].join('\n');

function node(id: string, number: number, subnet: number) {
  const { space, address } = underlay.host(number, subnet);
  // As Docker leaves a host: nothing is forwarded unless somebody says so.
  space.run('iptables', '-P', 'FORWARD', 'DROP');
  const before = snapshot(space);
  const journal = new Map<string, string>();
  const info = nodeInfo(id, number, address);
  const state = shared.of(id);
  const fabric = openFabric({ host: space.netns, path: `/run/netns/${space.name}-fabric`, journal: (name, value) => journal.set(name, value) });
  const driver = createOverlayDriver({ fabric, state, self: () => info, networks: () => networks, vxlanPort: 4789, clock: systemClock, log: silentLogger });
  state.publish('node', 'self', info);
  const endpoints: Endpoint[] = [];
  const attach = async (name: string, on: Network, ip: string): Promise<{ container: Space; endpoint: Endpoint }> => {
    const container = underlay.space(name);
    const made = endpoint(name, on, `${ip}/24`);
    await driver.createEndpoint(on, made);
    const answer = await driver.join(on, made);
    state.publish('endpoint', made.id, { networkId: on.id, endpointId: made.id, ip, mac: made.mac });
    await plugIn(space, container, made, answer);
    endpoints.push(made);
    return { container, endpoint: made };
  };
  return { space, address, before, journal, fabric, driver, state, endpoints, attach, repair: () => driver.repair(networks, endpoints) };
}

async function capture(space: Space, device: string, filter: string): Promise<() => Promise<string>> {
  const child: ChildProcess = spawn('ip', ['netns', 'exec', space.name, 'tcpdump', '-nn', '-l', '--immediate-mode', '-i', device, filter], { stdio: ['ignore', 'pipe', 'pipe'] });
  let text = '';
  child.stdout!.on('data', (chunk: Buffer) => (text += chunk.toString()));
  await once(child.stderr!, 'data');
  return async () => {
    await new Promise((resolve) => setTimeout(resolve, 200));
    child.kill('SIGINT');
    await once(child, 'exit');
    return text;
  };
}

test('overlay networks on three hosts', async (t) => {
  t.teardown(() => underlay.remove());
  const a = node('a', 1, 1);
  const b = node('b', 2, 2);
  const c = node('c', 3, 1);
  const all = [a, b, c];
  t.teardown(async () => {
    for (const each of all) {
      each.driver.close();
      await each.fabric.purge();
      each.fabric.close();
    }
  });
  for (const each of all) for (const every of networks) await each.driver.createNetwork(every);
  const a1 = await a.attach('a1', web, '10.20.0.11');
  const a2 = await a.attach('a2', db, '10.21.0.12');
  const b1 = await b.attach('b1', web, '10.20.0.21');
  const c1 = await c.attach('c1', web, '10.20.0.31');

  t.test('everybody on a network reaches everybody in one hop, and nothing but VXLAN crosses', async (t) => {
    const stop = await capture(underlay.router, 'any', 'arp or (ip and not udp port 4789)');
    for (const from of [a1, b1, c1]) for (const to of ['10.20.0.11', '10.20.0.21', '10.20.0.31']) t.ok(from.container.pings(to, '-t', '1'), `${from.container.name} → ${to}`);
    const seen = (await stop()).split('\n').filter((line) => /10\.2[01]\./.test(line));
    t.same(seen, [], 'no address of a container, no ARP for one, on the wire');
    t.notOk(a1.container.pings('10.20.0.99'), 'an address that nobody has');
  });

  t.test('networks do not reach each other', async (t) => {
    t.notOk(a2.container.pings('10.20.0.11'));
    t.notOk(a2.container.pings('10.20.0.21'));
    t.notOk(b1.container.pings('10.21.0.12'));
  });

  t.test('the way out: masqueraded as the host', async (t) => {
    const stop = await capture(underlay.router, 'r3', 'icmp');
    t.ok(a1.container.pings(c.address), 'another host');
    t.ok(a1.container.pings('10.99.1.201'), 'the router');
    t.match(await stop(), /10\.99\.1\.1 > 10\.99\.1\.3: ICMP echo request/);
    t.ok(a.space.pings('10.20.0.11'), 'the host reaches a container of its own');
    t.ok(a.space.pings('10.20.0.21'), 'and one of another host');
  });

  t.test('injection: neither a container nor an outsider speaks to a tunnel', async (t) => {
    // VXLAN header with our VNI, and a few bytes: what matters is whether it arrives.
    const frame = 'const d = require("dgram").createSocket("udp4"); d.send(Buffer.from("0800000080000100ffffffffffff", "hex"), 4789, process.argv[1], () => d.close());';
    const fromContainer = await capture(underlay.router, 'any', 'udp port 4789 and udp[8:4] = 0x08000000 and len < 80');
    a1.container.run(process.execPath, '-e', frame, b.address);
    t.equal((await fromContainer()).trim(), '', 'a container\'s packet is not forwarded');
    const drops = (): number => Number(/counter packets (\d+)/.exec(b.space.run('nft', 'list', 'chain', 'inet', 'probe', 'arrived'))![1]);
    b.space.run('nft', 'add table inet probe; add chain inet probe arrived { type filter hook input priority 0; }; add rule inet probe arrived udp dport 4789 counter');
    const outsider = underlay.host(9, 2);
    outsider.space.run(process.execPath, '-e', frame, b.address);
    t.equal(drops(), 0, 'an outsider\'s packet does not come in');
    t.ok(a1.container.pings('10.20.0.21'));
    t.ok(drops() > 0, 'while a member\'s does');
    b.space.run('nft', 'delete table inet probe');
  });

  t.test('carrier is told', async (t) => {
    const seen = new Map<string, boolean>();
    const stop = watchCarrier(a.fabric.rtnl, (digits, up) => seen.set(digits, up));
    t.teardown(stop);
    t.equal(seen.get(a1.endpoint.id.slice(0, 11)), true);
    a1.container.run('ip', 'link', 'set', 'eth0', 'down');
    for (let i = 0; i < 200 && seen.get(a1.endpoint.id.slice(0, 11)); i++) await new Promise((resolve) => setTimeout(resolve, 10));
    t.equal(seen.get(a1.endpoint.id.slice(0, 11)), false);
    a1.container.run('ip', 'link', 'set', 'eth0', 'up');
    a1.container.run('ip', 'route', 'replace', 'default', 'via', '10.20.0.1');
  });

  t.test('what is broken is mended, and said', async (t) => {
    t.same((await a.repair()).map(({ what }) => what), [], 'nothing is wrong');
    const fabric = (...args: string[]): string => execFileSync('ip', ['-n', `${a.space.name}-fabric`, ...args], { encoding: 'utf8' });
    const tunnel = overlayTunnel(web.id);
    const cases: [string, () => void, RegExp][] = [
      ['forwarding entry', () => execFileSync('bridge', ['-n', `${a.space.name}-fabric`, 'fdb', 'del', b1.endpoint.mac, 'dev', tunnel, 'dst', b.address, 'self']), /forwarding entries were missing/],
      ['neighbour', () => fabric('neigh', 'del', '10.20.0.21', 'dev', tunnel), /neighbours were missing/],
      ['route', () => fabric('route', 'del', '10.20.0.21/32', 'table', '1000'), /routes were missing/],
      ['rule', () => fabric('rule', 'del', 'pref', '200'), /routing rule/],
      ['link down', () => fabric('link', 'set', tunnel, 'down'), /another up/],
      ['link gone', () => fabric('link', 'del', tunnel), /was missing/],
      ['host rules', () => a.space.run('nft', 'flush', 'ruleset'), /weft-uplink/],
      ['fabric rules', () => execFileSync('ip', ['netns', 'exec', `${a.space.name}-fabric`, 'nft', 'delete', 'table', 'inet', 'weft']), /table inet weft of the fabric/],
      ['host route', () => a.space.run('ip', 'route', 'del', '10.20.0.0/24', 'metric', '0'), /routes were missing/],
      ['uplink', () => a.space.run('ip', 'link', 'del', 'weft-up'), /weft-up was missing/],
    ];
    for (const [name, breakIt, words] of cases) {
      breakIt();
      const found = await a.repair();
      t.ok(found.some(({ what }) => words.test(what)), `${name}: ${found.map(({ what }) => what).join('; ')}`);
      t.same((await a.repair()).map(({ what }) => what), [], `${name}: nothing is left to mend`);
    }
    a.space.run('iptables', '-P', 'FORWARD', 'DROP');
    t.match(await a.repair(), [{ what: /FORWARD/ }], 'a firewall that came anew');
    t.ok(a1.container.pings('10.20.0.21') && a1.container.pings(c.address) && a.space.pings('10.20.0.31'), 'everything works again');
  });

  t.test('an endpoint that goes is out of reach at once, and one that moves takes its address along', async (t) => {
    b.state.withdraw('endpoint', b1.endpoint.id);
    t.notOk(a1.container.pings('10.20.0.21'));
    await b.driver.deleteEndpoint(web, b1.endpoint);
    b.endpoints.splice(0);
    const c2 = await c.attach('c2', web, '10.20.0.21');
    t.ok(a1.container.pings('10.20.0.21'), 'reached at its new place');
    t.ok(c2.container.pings('10.20.0.11'));
    t.same(await a.repair(), []);
  });

  t.test('after a purge the host is as before', async (t) => {
    for (const each of all) {
      each.driver.close();
      t.same(await each.fabric.purge(), []);
      for (const [name, value] of each.journal) each.space.run('sysctl', '-qw', `${name.replaceAll('/', '.')}=${value}`);
      t.equal(snapshot(each.space).replace(/^.*policy.*$/gm, ''), each.before.replace(/^.*policy.*$/gm, ''));
      t.equal(each.space.run('cat', '/proc/sys/net/ipv4/ip_forward').trim(), '0');
    }
  });
});
