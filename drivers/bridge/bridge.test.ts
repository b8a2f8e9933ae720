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
import { apartBridge, bridgeEnd, gatewayMac, hostBridge } from '../names.ts';
import { Underlay, ask, askUdp, network, serve, until } from '../testbed.ts';
import { BridgeHost, port } from './testbed.ts';

tap.setTimeout(240_000);

const underlay = new Underlay();
const web = network('web', 'bridge', '10.20.0.0/24');
const dbs = network('dbs', 'bridge', '10.21.0.0/24');
const vault = network('vault', 'bridge', '10.22.0.0/24', { internal: true });
const GATEWAY = '10.20.0.1';
const DOCKERS = 'br-0123456789ab';

test('bridge networks of one host', async (t) => {
  t.teardown(() => underlay.remove());
  const host = new BridgeHost(underlay);
  const client = underlay.host(2, 2);
  t.teardown(() => host.purge());

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

  t.test('containers and networks go, and the host is as before', async (t) => {
    host.space.run('iptables', '-D', 'FORWARD', '-i', DOCKERS, '-j', 'ACCEPT');
    await host.space.rtnl.deleteLink(DOCKERS);
    await host.space.rtnl.deleteLink('vk');
    const asBefore = (): void => {
      host.restoreSysctls();
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
