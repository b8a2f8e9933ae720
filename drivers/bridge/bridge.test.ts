//                    router
//       10.99.1.0/24   │   10.99.2.0/24
//              ┌───────┴───────┐
//     host 10.99.1.1        client 10.99.2.2
//   ┌──────────┼────────────┬─────────────┐
//  web        dbs         vault         br-… (a bridge as Docker makes one)
//  │  │        │           │  │           │
//  w1 w2       d1          v1 v2          k1
//
//  web 10.20.0.0/24, dbs 10.21.0.0/24, vault 10.22.0.0/24 (internal), Docker's 172.18.0.0/24
import tap, { test } from 'tap';
import { silentLogger } from '../../base/log.ts';
import type { Endpoint, Network, PortMapping } from '../../cnm/model.ts';
import type { Link } from '../../linux/types.ts';
import { apartBridge, apartUplink, bridgeEnd, gatewayMac, hostBridge, hostEnd } from '../names.ts';
import { type Space, Underlay, ask, askUdp, endpoint, network, plugIn, rememberIn, serve, until } from '../testbed.ts';
import { createBridgeDriver, type BridgeDriver } from './bridge.ts';

tap.setTimeout(90_000);

const underlay = new Underlay();
const web = network('web', 'bridge', '10.20.0.0/24');
const dbs = network('dbs', 'bridge', '10.21.0.0/24');
const vault = network('vault', 'bridge', '10.22.0.0/24', { internal: true });
const GATEWAY = '10.20.0.1';
const BRIDGES = `/run/netns/weft-d-${process.pid}-bridges`;
const DOCKERS = 'br-0123456789ab';

interface Container { space: Space; endpoint: Endpoint; ip: string }

/** weftd's part of a host with bridge networks. */
class BridgeHost {
  readonly space: Space;
  readonly address: string;
  readonly networks: Network[] = [];
  readonly endpoints: Endpoint[] = [];
  readonly published = new Map<string, PortMapping[]>();
  readonly journal = new Map<string, string>();
  readonly warnings: string[] = [];
  readonly before: string;
  driver!: BridgeDriver;

  constructor() {
    ({ space: this.space, address: this.address } = underlay.host(1, 1));
    this.space.run('sysctl', '-qw', 'net.ipv4.ip_forward=0');
    // As Docker leaves a host: nothing is forwarded unless somebody says so.
    this.space.run('iptables', '-P', 'FORWARD', 'DROP');
    this.before = this.space.snapshot();
    this.start();
  }

  /** What weftd does when it starts; after stop(), once more. */
  start(): void {
    this.driver = createBridgeDriver({
      host: this.space.netns, path: BRIDGES, networks: () => this.networks, published: this.published,
      journal: rememberIn(this.journal),
      log: { ...silentLogger, warn: (_, message) => void this.warnings.push(message ?? '') },
    });
  }

  async create(added: Network): Promise<void> {
    this.networks.push(added);
    await this.driver.createNetwork(added);
  }

  async delete(doomed: Network): Promise<void> {
    await this.driver.deleteNetwork(doomed);
    this.networks.splice(this.networks.indexOf(doomed), 1);
  }

  async attach(name: string, on: Network, ip: string): Promise<Container> {
    const space = underlay.space(name);
    const made = endpoint(name, on, `${ip}/24`);
    await this.driver.createEndpoint(on, made);
    this.endpoints.push(made);
    await plugIn(this.space, space, made, await this.driver.join(on, made));
    return { space, endpoint: made, ip };
  }

  async detach(container: Container): Promise<void> {
    this.unpublish(container);
    const on = this.networks.find(({ id }) => id === container.endpoint.networkId)!;
    await this.driver.leave(on, container.endpoint);
    await this.driver.deleteEndpoint(on, container.endpoint);
    this.endpoints.splice(this.endpoints.indexOf(container.endpoint), 1);
  }

  async publish(container: Container, ...ports: PortMapping[]): Promise<PortMapping[]> {
    const chosen = await this.driver.publish({ ...container.endpoint, ports });
    this.published.set(container.endpoint.id, chosen);
    return chosen;
  }

  unpublish(container: Container): void {
    this.published.delete(container.endpoint.id);
    this.driver.unpublish(container.endpoint.id);
  }

  /** What was found, in words. */
  async repair(): Promise<string[]> {
    return (await this.driver.repair(this.networks, this.endpoints)).map(({ what }) => what);
  }

  link(name: string): Link | undefined {
    return this.space.rtnl.link(name);
  }

  /** Runs a command where the bridges are. */
  inside(...command: string[]): string {
    return this.space.run('nsenter', `--net=${BRIDGES}`, ...command);
  }
}

const port = (hostPort: number, containerPort: number, more: Partial<PortMapping> = {}): PortMapping => ({ protocol: 'tcp', hostIp: '', hostPort, containerPort, ...more });

test('bridge networks of one host', async (t) => {
  t.teardown(() => underlay.remove());
  const host = new BridgeHost();
  const client = underlay.host(2, 2);
  t.teardown(async () => {
    await host.driver.purge();
    host.driver.close();
  });

  t.test('what is asked for wrongly is refused before anything is made', async (t) => {
    const refused = (options: Record<string, string>): (() => void) => () => host.driver.validate({ ...web, options });
    t.throws(refused({ 'weft.mut': '1400' }), { code: 'WEFT-OPTION-UNKNOWN', message: /nearest known one is weft\.mtu/ });
    t.throws(refused({ 'weft.mtu': '500' }), { code: 'WEFT-OPTION-VALUE' });
    t.throws(refused({ 'weft.mtu': '14OO' }), { code: 'WEFT-OPTION-VALUE' });
    t.throws(refused({ 'com.docker.network.driver.mtu': '70000' }), { code: 'WEFT-MTU-TOO-LARGE' });
    t.throws(refused({ 'com.docker.network.container_iface_prefix': 'a/b' }), { code: 'WEFT-OPTION-VALUE' });
    t.doesNotThrow(refused({ 'weft.mtu': '9000', 'com.docker.network.container_iface_prefix': 'net' }));
    t.equal(host.space.snapshot(), host.before);
  });

  await t.test('a network comes, and goes without a trace', async (t) => {
    await host.create(web);
    const bridge = host.link(hostBridge(web.id))!;
    t.match(bridge, { kind: 'veth', mac: gatewayMac(web.id), mtu: 1500, up: true });
    t.match(host.driver.inside.link(apartBridge(web.id)), { kind: 'bridge', mtu: 1500, up: true });
    t.match(host.space.rtnl.addresses(bridge.index), [{ address: `${GATEWAY}/24` }]);
    t.same([...host.journal], [['net/ipv4/ip_forward', '0']], 'the host forwards, and what it was is written down');
    t.match(host.space.run('iptables', '-S', 'FORWARD'), /-A FORWARD -i wbr-\+.*-j ACCEPT/);

    const made = host.space.snapshot();
    await host.driver.createNetwork(web);
    t.equal(host.space.snapshot(), made, 'a repeat changes nothing');

    await host.delete(web);
    await host.driver.deleteNetwork(web);
    host.space.run('sysctl', '-qw', 'net.ipv4.ip_forward=0');
    t.equal(host.space.snapshot(), host.before);
    host.journal.clear();
  });

  await t.test('a network that cannot be made leaves nothing, and the others alone', async (t) => {
    await host.create(web);
    const before = host.space.snapshot();
    const broken = { ...dbs, subnets: [{ subnet: dbs.subnets[0]!.subnet, gateway: 'nonsense' }] };
    await t.rejects(host.create(broken));
    await host.delete(broken);
    t.equal(host.space.snapshot(), before);
    await host.delete(web);
  });

  for (const each of [web, dbs, vault]) await host.create(each);
  const w1 = await host.attach('w1', web, '10.20.0.11');
  const w2 = await host.attach('w2', web, '10.20.0.12');
  const d1 = await host.attach('d1', dbs, '10.21.0.11');
  const v1 = await host.attach('v1', vault, '10.22.0.11');
  const v2 = await host.attach('v2', vault, '10.22.0.12');
  const k1 = underlay.space('k1');
  const dockers = host.space.rtnl.addLink({ kind: 'bridge', name: DOCKERS, up: true });
  host.space.rtnl.addAddress(dockers, '172.18.0.1/24');
  host.space.rtnl.addLink({ kind: 'veth', name: 'vk', master: dockers, up: true, peer: { name: 'eth0', netns: k1.netns, up: true } });
  k1.run('ip', 'address', 'add', '172.18.0.2/24', 'dev', 'eth0');
  k1.run('ip', 'route', 'add', 'default', 'via', '172.18.0.1');
  host.space.run('iptables', '-A', 'FORWARD', '-i', DOCKERS, '-j', 'ACCEPT');

  t.test('an endpoint: one end on the bridge, the other in the container', async (t) => {
    const inside = w1.space.rtnl.link('eth0')!;
    t.match(inside, { mac: w1.endpoint.mac, mtu: 1500, up: true, carrier: true });
    t.match(w1.space.rtnl.routes().find(({ dst }) => dst === 'default'), { via: GATEWAY });
    const apart = host.driver.inside;
    t.equal(apart.link(bridgeEnd(w1.endpoint.id))!.master, apart.link(apartBridge(web.id))!.index);
    t.match(host.inside('bridge', '-d', 'link', 'show', 'dev', bridgeEnd(w1.endpoint.id)), /learning off/s);
    t.equal(host.inside('ip', '-o', 'address'), '', 'nobody is to be reached where the bridges are');
    t.same(host.inside('nft', 'list', 'ruleset'), '', 'no rule is asked what containers send to each other');
    const made = host.space.snapshot();
    await host.driver.createEndpoint(web, w1.endpoint);
    await host.driver.join(web, w1.endpoint);
    t.equal(host.space.snapshot(), made, 'repeats change nothing');
    t.same(await host.repair(), []);
  });

  t.test('who reaches whom', async (t) => {
    t.ok(w1.space.pings(w2.ip) && w1.space.pings(GATEWAY), 'its own network');
    t.ok(host.space.pings(w1.ip), 'the host reaches its containers');
    t.notOk(w1.space.pings(d1.ip), 'another network');
    t.notOk(d1.space.pings(w1.ip));
    t.ok(v1.space.pings(v2.ip), 'an internal network, inside');
    v1.space.run('ip', 'route', 'add', 'default', 'via', '10.22.0.1');
    for (const out of [client.address, w1.ip, '172.18.0.2']) t.notOk(v1.space.pings(out), `from an internal network to ${out}`);
    t.notOk(w1.space.pings(v1.ip), 'into an internal network');
    t.ok(await until(() => host.space.run('nft', 'list', 'set', 'inet', 'weft-bridge', 'dockers').includes(DOCKERS)), 'Docker\'s new bridge is noticed');
    t.notOk(w1.space.pings('172.18.0.2'), 'a container of Docker\'s');
    t.notOk(k1.pings(w1.ip));
    underlay.router.run('ip', 'route', 'add', '10.20.0.0/24', 'via', host.address, 'dev', 'r1', 'onlink');
    t.notOk(client.space.pings(w1.ip), 'an outsider who routes the subnet at the host');
    underlay.router.run('ip', 'route', 'del', '10.20.0.0/24');
  });

  t.test('a container cannot pass for another', async (t) => {
    w1.space.run('ip', 'link', 'set', 'eth0', 'address', w2.endpoint.mac);
    t.notOk(w1.space.pings(GATEWAY), 'frames from a foreign address are dropped');
    t.ok(host.space.pings(w2.ip), 'and draw nothing away from its owner');
    w1.space.run('ip', 'link', 'set', 'eth0', 'address', w1.endpoint.mac);
    t.ok(w1.space.pings(w2.ip));
  });

  t.test('the way out: masqueraded as the host', async (t) => {
    const server = await serve(client.space, 'client');
    t.teardown(() => server.kill());
    t.equal(ask(w1.space, client.address), `client ${host.address}`);
    t.equal(ask(v1.space, client.address), 'nothing', 'not from an internal network');
  });

  t.test('a published port, from everywhere', async (t) => {
    const servers = [await serve(w1.space, 'w1'), await serve(d1.space, 'd1')];
    t.teardown(() => servers.forEach((server) => server.kill()));
    const wanted = [port(8080, 80), port(8080, 80, { protocol: 'udp' })];
    t.same(await host.publish(w1, ...wanted), wanted);
    t.same(await host.publish(w1, ...wanted), wanted, 'a repeat is answered the same');
    t.equal(ask(client.space, `${host.address}:8080`), `w1 ${client.address}`, 'from outside: the container sees the caller');
    t.equal(askUdp(client.space, host.address, 8080), `w1 ${client.address}`);
    t.equal(ask(host.space, `${host.address}:8080`), `w1 ${host.address}`, 'from the host');
    t.equal(ask(host.space, '127.0.0.1:8080'), `w1 ${GATEWAY}`);
    t.equal(ask(w1.space, `${host.address}:8080`), `w1 ${GATEWAY}`, 'from itself');
    t.equal(ask(w2.space, `${host.address}:8080`), `w1 ${GATEWAY}`, 'from its neighbour');
    t.equal(ask(d1.space, `${host.address}:8080`), `w1 ${GATEWAY}`, 'from another network');
    t.equal(ask(k1, `${host.address}:8080`), 'w1 172.18.0.2', 'from a container of Docker\'s');
    t.equal(ask(v1.space, `${host.address}:8080`), 'nothing', 'not from an internal network');
    t.equal(ask(client.space, `${host.address}:80`), 'nothing', 'nothing else is open');
    t.equal(ask(w2.space, '127.0.0.1:8080'), 'nothing', 'a container\'s loopback is its own');
    host.unpublish(w1);
    host.unpublish(w1);
    t.equal(ask(client.space, `${host.address}:8080`), 'nothing');
  });

  t.test('on one address of the host; on a port that is left to us', async (t) => {
    const server = await serve(w1.space, 'w1');
    t.teardown(() => server.kill());
    const [, free] = await host.publish(w1, port(0, 80), port(8080, 80, { hostIp: '127.0.0.1' }));
    t.ok(free!.hostPort >= 49152 && free!.hostPort <= 65535, String(free!.hostPort));
    t.equal(ask(client.space, `${host.address}:${free!.hostPort}`), `w1 ${client.address}`);
    t.equal(ask(host.space, '127.0.0.1:8080'), `w1 ${GATEWAY}`);
    t.equal(ask(client.space, `${host.address}:8080`), 'nothing');
    const [next] = await host.publish(w2, port(0, 80));
    t.not(next!.hostPort, free!.hostPort);
    for (const each of [w1, w2]) host.unpublish(each);
  });

  t.test('some engines name each port once for each family', async (t) => {
    t.same(await host.publish(w1, port(8080, 80, { hostIp: '0.0.0.0' }), port(8080, 80, { hostIp: '::' })), [port(8080, 80)]);
    host.unpublish(w1);
  });

  t.test('what cannot be published is refused, and nothing of it stays', async (t) => {
    const before = host.space.snapshot();
    const holder = host.space.serve(process.execPath, '-e', 'require("net").createServer().listen(8081, () => console.log("up"))');
    t.teardown(() => holder.kill());
    await until(() => holder.out().includes('up'));
    await t.rejects(host.publish(w1, port(8080, 80), port(8081, 80)), { code: 'WEFT-PORT-HOST', message: /8081\/tcp/ });
    await t.rejects(host.publish(w1, port(8080, 80), port(8080, 80, { hostIp: '192.0.2.1' })), { code: 'WEFT-PORT-ADDRESS' });
    await t.rejects(host.publish(w1, port(8080, 80), port(8080, 80, { hostIp: '2001:db8::1' })), { code: 'WEFT-FEATURE-MISSING' });
    t.equal(host.space.snapshot(), before);
    await host.publish(w2, port(8080, 80));
    await t.rejects(host.publish(w1, port(8080, 80)), { code: 'WEFT-PORT-HOST' }, 'another container has it');
    t.notOk(host.space.succeeds('timeout', '1', 'busybox', 'nc', '-l', '-p', '8080'), 'a program of the host is told so as well');
    host.unpublish(w2);
  });

  t.test('a UDP flow follows the port from container to container', async (t) => {
    const servers = [await serve(w1.space, 'w1', 53), await serve(w2.space, 'w2', 53)];
    t.teardown(() => servers.forEach((server) => server.kill()));
    t.equal(askUdp(client.space, host.address, 5300), 'nothing', 'it began before there was anybody');
    await host.publish(w1, port(5300, 53, { protocol: 'udp' }));
    t.equal(askUdp(client.space, host.address, 5300), `w1 ${client.address}`);
    host.unpublish(w1);
    await host.publish(w2, port(5300, 53, { protocol: 'udp' }));
    t.equal(askUdp(client.space, host.address, 5300), `w2 ${client.address}`);
    host.unpublish(w2);
  });

  t.test('what is broken is mended, and said', async (t) => {
    const [gateway, bridge, uplink, member] = [hostBridge(web.id), apartBridge(web.id), apartUplink(web.id), bridgeEnd(w1.endpoint.id)];
    const inside = (...command: string[]): string[] => ['nsenter', `--net=${BRIDGES}`, ...command];
    await host.publish(w1, port(8080, 80));
    t.same(await host.repair(), [], 'nothing is wrong');
    const cases: [string, string[], RegExp][] = [
      ['bridge down', inside('ip', 'link', 'set', bridge, 'down'), /another up/],
      ['bridge gone', inside('ip', 'link', 'del', bridge), /wb-.* was missing/],
      ['another MTU', inside('ip', 'link', 'set', bridge, 'mtu', '1400'), /another mtu/],
      ['gateway down', ['ip', 'link', 'set', gateway, 'down'], /another up/],
      ['gateway gone', ['ip', 'link', 'del', gateway], /wbr-.* was missing/],
      ['another MAC', ['ip', 'link', 'set', gateway, 'address', '02:00:00:00:00:01'], /another mac/],
      ['another MTU of the gateway', ['ip', 'link', 'set', gateway, 'mtu', '1400'], /another mtu/],
      ['address', ['ip', 'address', 'del', `${GATEWAY}/24`, 'dev', gateway], /address 10\.20\.0\.1\/24 was missing/],
      ['gateway without bridge', inside('ip', 'link', 'set', uplink, 'nomaster'), /another master/],
      ['address behind the gateway\'s port', inside('bridge', 'fdb', 'del', gatewayMac(web.id), 'dev', uplink, 'master'), /address of port/],
      ['port without bridge', inside('ip', 'link', 'set', member, 'nomaster'), /another master/],
      ['address behind a port', inside('bridge', 'fdb', 'del', w1.endpoint.mac, 'dev', member, 'master'), /address of port/],
      ['all rules', ['nft', 'flush', 'ruleset'], /weft-bridge/],
      ['one rule', ['nft', 'flush', 'chain', 'inet', 'weft-bridge', 'forward'], /weft-bridge/],
      ['one port', ['nft', 'delete', 'element', 'inet', 'weft-bridge', 'ports', '{ tcp . 8080 }'], /weft-bridge/],
      ['a firewall that came anew', ['iptables', '-P', 'FORWARD', 'DROP'], /FORWARD/],
      ['forwarding', ['sysctl', '-qw', 'net.ipv4.ip_forward=0'], /ip_forward was 0/],
    ];
    for (const [name, breakIt, words] of cases) {
      host.space.run(...breakIt);
      const found = await host.repair();
      t.ok(found.some((what) => words.test(what)), `${name}: ${found.join('; ')}`);
      t.same(await host.repair(), [], `${name}: nothing is left to mend`);
    }
    const server = await serve(w1.space, 'w1');
    t.teardown(() => server.kill());
    t.ok(w1.space.pings(w2.ip) && w1.space.pings(client.address), 'everything works again');
    t.equal(ask(client.space, `${host.address}:8080`), `w1 ${client.address}`);
    t.equal(ask(host.space, '127.0.0.1:8080'), `w1 ${GATEWAY}`);
    t.notOk(w1.space.pings(d1.ip));
    host.unpublish(w1);
  });

  t.test('nothing moves while weftd is away, and nothing has to be mended when it returns', async (t) => {
    const server = await serve(w1.space, 'w1');
    t.teardown(() => server.kill());
    await host.publish(w1, port(8080, 80));
    await host.publish(w2, port(8081, 80), port(8082, 80, { hostIp: '10.99.1.77' })).catch(() => {});
    host.space.run('ip', 'address', 'add', '10.99.1.77/32', 'dev', 'lo');
    await host.publish(w2, port(8081, 80), port(8082, 80, { hostIp: '10.99.1.77' }));
    const before = host.space.snapshot();
    host.driver.close();
    t.equal(ask(client.space, `${host.address}:8080`), `w1 ${client.address}`);
    host.start();
    t.same(await host.repair(), []);
    t.equal(host.space.snapshot(), before);
    t.equal(ask(client.space, `${host.address}:8080`), `w1 ${client.address}`);
    t.same(await host.publish(w1, port(8080, 80)), [port(8080, 80)], 'held as before');
    t.same(host.warnings, []);

    host.unpublish(w1);
    t.same(await host.repair(), []);
    t.equal(ask(client.space, `${host.address}:8080`), 'nothing', 'what is withdrawn does not come back');

    host.driver.close();
    host.space.run('ip', 'address', 'del', '10.99.1.77/32', 'dev', 'lo');
    host.start();
    t.same(await host.repair(), [], 'an address of the host is gone, and with it a published port');
    t.match(host.warnings, [/taken from us/]);
    host.unpublish(w2);
  });

  t.test('bridges of an earlier version stood in the host\'s namespace: containers keep their links, also where a crash came in between', async (t) => {
    const inside = host.driver.inside;
    const gateway = hostBridge(web.id);
    for (const left of [[w1, w2], [w2]]) {
      for (const name of [gateway, apartBridge(web.id)]) await (name === gateway ? host.space.rtnl : inside).deleteLink(name);
      const old = host.space.rtnl.addLink({ kind: 'bridge', name: gateway, mac: gatewayMac(web.id), up: true });
      host.space.rtnl.addAddress(old, `${GATEWAY}/24`);
      for (const { endpoint: { id } } of left) {
        await inside.moveLink(inside.link(bridgeEnd(id))!.index, host.space.netns);
        host.space.rtnl.setLink(host.link(bridgeEnd(id))!.index, { master: old, up: true });
      }
      t.ok(w2.space.pings(GATEWAY), 'as it was');

      t.match((await host.repair()).join('; '), /wbr-.* of an earlier version/);
      t.match([host.link(gateway), inside.link(apartBridge(web.id))], [{ kind: 'veth' }, { kind: 'bridge' }]);
      t.ok(w1.space.pings(w2.ip) && w1.space.pings(GATEWAY) && w2.space.pings(client.address));
      w1.space.run('ip', 'link', 'set', 'eth0', 'address', w2.endpoint.mac);
      t.notOk(w1.space.pings(GATEWAY), 'its port is held to its addresses');
      w1.space.run('ip', 'link', 'set', 'eth0', 'address', w1.endpoint.mac);
      t.same(await host.repair(), []);
    }
  });

  t.test('a crash between an endpoint\'s record and its link, in the middle of its making, and before its record went', async (t) => {
    const made = endpoint('w9', web, '10.20.0.19/24');
    const { sourceName } = await host.driver.join(web, made);
    t.equal(sourceName, hostEnd(made.id));
    t.ok(host.link(sourceName), 'Join makes what is missing');
    host.endpoints.push(made);
    host.inside('ip', 'link', 'set', bridgeEnd(made.id), 'down', 'nomaster');
    await host.repair();
    t.match(host.driver.inside.link(bridgeEnd(made.id)), { up: true, master: host.driver.inside.link(apartBridge(web.id))!.index }, 'half made');
    host.endpoints.pop();
    t.match(await host.repair(), [/we-.* belonged to nothing/]);
    t.notOk(host.link(sourceName));
    await host.driver.deleteEndpoint(web, made);
    t.pass('deleting what is gone');
  });

  t.test('a network that a crash left behind, and one that it kept from being made', async (t) => {
    const lost = network('lost', 'bridge', '10.23.0.0/24');
    await host.create(lost);
    host.networks.pop();
    t.match(await host.repair(), [/wb-.* belonged to nothing/, /wu-.* belonged to nothing/]);
    t.notMatch(host.space.run('nft', 'list', 'table', 'inet', 'weft-bridge'), /10\.23\.0\.0/);
    host.networks.push(lost);
    t.match(await host.repair(), [/wb-.* was missing/, /wbr-.* was missing/, /address .* was missing/]);
    await host.delete(lost);
    t.same(await host.repair(), []);
  });

  t.test('a network that was to go, and stayed, is apart from others again with its next endpoint', async (t) => {
    const kept = network('kept', 'bridge', '10.24.0.0/24');
    const rules = (): string => host.space.run('nft', 'list', 'table', 'inet', 'weft-bridge');
    await host.create(kept);
    await host.driver.deleteNetwork(kept);
    t.notMatch(rules(), /10\.24\.0\.0/);
    const k9 = await host.attach('k9', kept, '10.24.0.11');
    t.match(rules(), /10\.24\.0\.0/);
    t.ok(k9.space.pings('10.24.0.1'));
    for (const [from, to] of [[k9, w1], [w1, k9]] as const) t.notOk(from.space.pings(to.ip));
    await host.detach(k9);
    await host.delete(kept);
  });

  t.test('containers and networks go, and the host is as before', async (t) => {
    await host.space.rtnl.deleteLink(DOCKERS);
    await host.space.rtnl.deleteLink('vk');
    const asBefore = (): void => {
      for (const [name, value] of host.journal) host.space.run('sysctl', '-qw', `${name.replaceAll('/', '.')}=${value}`);
      t.equal(host.space.snapshot(), host.before);
    };
    for (const each of [w1, w2, d1, v1, v2]) await host.detach(each);
    for (const each of [web, dbs, vault]) await host.delete(each);
    asBefore();
    t.same(await host.repair(), []);

    for (const each of [web, vault]) await host.create(each);
    await host.publish(await host.attach('w3', web, '10.20.0.13'), port(8080, 80));
    t.same(await host.driver.purge(), []);
    asBefore();
    t.same(await host.driver.purge(), [], 'a purge may be repeated');
  });
});
