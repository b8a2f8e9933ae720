//              router
//     fd99:1::/64 │ fd99:2::/64
//        ┌────────┴────────┐
//   host fd99:1::1     client fd99:2::2
//   ┌────┼──────────┐
//  web  six       vault
//  │  │   │        │  │
//  w1 w2  s1       v1 v2
//
//  web 10.20.0.0/24 and fd20::/64; six fd21::/64; vault fd22::/64, internal
import { test } from 'tap';
import type { Network } from '../../cnm/model.ts';
import { hostBridge } from '../names.ts';
import { type Space, Underlay, ask, capture, endpoint, network, until } from '../testbed.ts';
import { BridgeHost, port } from './testbed.ts';

const underlay = new Underlay();
const web = network('web', 'bridge', '10.20.0.0/24', { subnets: [{ subnet: '10.20.0.0/24', gateway: '10.20.0.1' }, { subnet: 'fd20::/64', gateway: 'fd20::1' }] });
const six = network('six', 'bridge', 'fd21::/64');
const vault = network('vault', 'bridge', 'fd22::/64', { internal: true });
const four = network('four', 'bridge', '10.23.0.0/24');

const ipv6Of = (space: Space): string => [
  space.run('ip', '-6', 'route', 'show', 'table', 'all'), space.run('ip', '-6', '-o', 'address', 'show', 'scope', 'global'), space.run('nft', '--stateless', 'list', 'ruleset'),
  space.run('sysctl', '-a', '--pattern', String.raw`^net\.ipv6\.conf\.[^.]*\.(forwarding|accept_ra|disable_ipv6)$`),
].join('\n');

test('bridge networks with IPv6', async (t) => {
  t.teardown(() => underlay.remove());
  const weftd = new BridgeHost(underlay);
  t.teardown(() => weftd.purge());
  const { space: host, networks, endpoints } = weftd;
  const client = underlay.host(2, 2);
  const hostAddress = underlay.addIpv6({ space: host }, 1, 1);
  const clientAddress = underlay.addIpv6(client, 2, 2);
  // As an advertisement of the router would have made it.
  host.run('ip', '-6', 'route', 'change', 'default', 'via', 'fe80::99', 'dev', 'eth0', 'proto', 'ra');
  host.run('ip6tables', '-P', 'FORWARD', 'DROP');
  const before = ipv6Of(host);
  for (const each of [web, six, vault, four]) await weftd.create(each);
  const w1 = await weftd.attach('w1', web, '10.20.0.2', 'fd20::2');
  const { space: w2 } = await weftd.attach('w2', web, '10.20.0.3', 'fd20::3');
  const s1 = await weftd.attach('s1', six, 'fd21::2');
  const { space: v1, answer: internal } = await weftd.attach('v1', vault, 'fd22::2');
  const { space: v2 } = await weftd.attach('v2', vault, 'fd22::3');

  t.test('the host becomes a router and keeps its own way out', async (t) => {
    t.same(Object.fromEntries(weftd.journal), { 'net/ipv4/ip_forward': '0', 'net/ipv6/conf/all/forwarding': '0', 'net/ipv6/conf/eth0/accept_ra': '1' });
    t.equal(host.run('sysctl', '-n', 'net.ipv6.conf.eth0.accept_ra').trim(), '2');
    t.ok(host.pings(clientAddress));
    t.equal(host.run('sysctl', '-n', `net.ipv6.conf.${hostBridge(four.id)}.disable_ipv6`).trim(), '1', 'a network of IPv4 has none');
  });

  t.test('what Docker is told', async (t) => {
    t.match(w1.answer, { gateway: '10.20.0.1', gatewayIpv6: 'fd20::1', routes: [] });
    t.match(s1.answer, { gateway: undefined, gatewayIpv6: 'fd21::1' });
    t.match(internal, { gateway: undefined, gatewayIpv6: undefined });
  });

  t.test('neighbours, gateway, host and the outside', async (t) => {
    for (const ip of ['fd20::3', 'fd20::1', hostAddress, clientAddress, '10.20.0.3', '10.99.2.2']) t.ok(w1.space.pings(ip), ip);
    for (const ip of ['fd21::1', clientAddress]) t.ok(s1.space.pings(ip), `without IPv4: ${ip}`);
    t.ok(host.pings('fd20::2'));
    const wire = await capture(client.space, 'eth0', 'icmp6 and ip6[40] = 128');
    w1.space.pings(clientAddress);
    const text = await wire();
    t.match(text, new RegExp(`${hostAddress} > ${clientAddress}`), 'with the host\'s address');
    t.notMatch(text, /fd20::/);
  });

  t.test('networks are apart, and closed from outside', async (t) => {
    t.notOk(w1.space.pings('fd21::2'));
    t.notOk(s1.space.pings('fd20::2'));
    t.ok(v1.pings('fd22::3'));
    t.ok(v2.pings('fd22::2'));
    v1.run('ip', '-6', 'route', 'add', 'default', 'via', 'fd22::1');
    t.notOk(v1.pings(clientAddress), 'an internal network has no way out');
    t.notOk(v1.pings('fd20::2'));
    underlay.router.run('ip', '-6', 'route', 'add', 'fd20::/64', 'via', 'fe80::98', 'dev', 'r1');
    host.run('ip', 'address', 'add', 'fe80::98/64', 'dev', 'eth0', 'nodad');
    t.notOk(client.space.pings('fd20::2'));
    host.run('ip', 'address', 'del', 'fe80::98/64', 'dev', 'eth0');
  });

  t.test('nothing leaves with an address that is not of the network', async (t) => {
    w1.space.run('ip', 'address', 'add', 'fd77::7/128', 'dev', 'eth0', 'nodad');
    const wire = await capture(underlay.router, 'any', 'host fd77::7');
    t.notOk(w1.space.succeeds('busybox', 'ping', '-6', '-c', '1', '-W', '1', '-I', 'fd77::7', clientAddress));
    t.equal((await wire()).trim(), '');
    w1.space.run('ip', 'address', 'del', 'fd77::7/128', 'dev', 'eth0');
  });

  t.test('published ports, from everywhere', async (t) => {
    const serve = 'for (const port of [80]) require("http").createServer((q, r) => r.end(process.argv[1] + " " + q.socket.remoteAddress.replace("::ffff:", ""))).listen(port, "::", () => console.log("up"))';
    for (const [space, name] of [[w1.space, 'w1'], [s1.space, 's1']] as const) {
      const server = space.serve(process.execPath, '-e', serve, name);
      t.teardown(() => server.kill());
      await until(() => server.out().includes('up'));
    }
    const holds = (): boolean => !host.succeeds(process.execPath, '-e', 'require("net").createServer().on("error", () => process.exit(1)).listen({ port: 8080, host: "::", ipv6Only: true }).unref()');
    t.same(await weftd.publish(w1, port(8080, 80)), [port(8080, 80)]);
    t.equal(ask(client.space, `[${hostAddress}]:8080`), `w1 ${clientAddress}`);
    t.equal(ask(client.space, '10.99.1.1:8080'), 'w1 10.99.2.2');
    t.equal(ask(host, `[${hostAddress}]:8080`), `w1 ${hostAddress}`);
    t.equal(ask(w2, `[${hostAddress}]:8080`), 'w1 fd20::1', 'a neighbour, by the host');
    t.equal(ask(w1.space, `[${hostAddress}]:8080`), 'w1 fd20::1', 'the container itself');
    t.match(ask(s1.space, `[${hostAddress}]:8080`), /^w1 fd/, 'another network');
    t.equal(ask(host, '[::1]:8080'), 'nothing', 'nothing goes from ::1 to another link');
    t.ok(holds(), 'programs of the host are told that the port is taken');
    await t.rejects(weftd.publish(s1, port(8080, 80)), { code: 'WEFT-PORT-HOST' });
    weftd.driver.close();
    weftd.start();
    await weftd.repair();
    t.ok(holds(), 'over a restart, too');
    t.equal(ask(client.space, `[${hostAddress}]:8080`), `w1 ${clientAddress}`);
    weftd.unpublish(w1);
    t.notOk(holds());
    t.same(await weftd.publish(s1, port(8080, 80), port(8081, 80, { hostIp: hostAddress })), [port(8080, 80), port(8081, 80, { hostIp: hostAddress })], 'without IPv4');
    for (const at of [8080, 8081]) t.equal(ask(client.space, `[${hostAddress}]:${at}`), `s1 ${clientAddress}`);
    t.equal(ask(client.space, '10.99.1.1:8080'), 'nothing');
    weftd.unpublish(s1);
    await t.rejects(weftd.publish(s1, port(8080, 80, { hostIp: '10.99.1.1' })), { code: 'WEFT-FEATURE-MISSING', message: /without an IPv4 address/ });
  });

  t.test('gateway modes of IPv6', async (t) => {
    const mode = (name: string, subnet: string, value: string, more: Partial<Network> = {}): Network => network(name, 'bridge', subnet, { options: { 'com.docker.network.bridge.gateway_mode_ipv6': value }, ...more });
    const open = mode('open', 'fd24::/64', 'routed');
    const cut = mode('cut', 'fd25::/64', 'isolated', { internal: true });
    t.throws(() => weftd.driver.validate({ ...cut, internal: false }), { code: 'WEFT-OPTION-VALUE', message: /--internal/ });
    for (const each of [open, cut]) await weftd.create(each);
    const { space: o1 } = await weftd.attach('o1', open, 'fd24::2');
    const { space: c1 } = await weftd.attach('c1', cut, 'fd25::2');
    await weftd.attach('c2', cut, 'fd25::3');
    host.run('ip', 'address', 'add', 'fe80::98/64', 'dev', 'eth0', 'nodad');
    underlay.router.run('ip', '-6', 'route', 'add', 'fd24::/64', 'via', 'fe80::98', 'dev', 'r1');
    const server = o1.serve(process.execPath, '-e', 'for (const port of [80, 81]) require("net").createServer((s) => s.end(s.remoteAddress)).listen(port, "::", () => console.log("up"))');
    t.teardown(() => server.kill());
    await until(() => server.out().includes('up\nup'));
    const ask = (port: number): boolean => client.space.succeeds('busybox', 'timeout', '2', 'busybox', 'nc', '-w', '1', 'fd24::2', String(port));
    t.ok(host.pings('fd24::2'));
    t.ok(client.space.pings('fd24::2'), 'routed: reached where it is');
    t.notOk(ask(80), 'by ping alone, as long as nothing is published');
    const [made] = endpoints.filter(({ networkId }) => networkId === open.id);
    const published = { protocol: 'tcp', hostIp: 'fd24::2', hostPort: 80, containerPort: 80 } as const;
    t.same(await weftd.driver.publish({ ...made!, ports: [{ ...published, hostIp: '', hostPort: 8080 }] }), [published]);
    t.ok(ask(80));
    t.notOk(ask(81));
    const wire = await capture(client.space, 'eth0', 'icmp6 and ip6[40] = 128');
    o1.pings(clientAddress);
    t.match(await wire(), /fd24::2 > /, 'with its own address');
    t.ok(c1.pings('fd25::3'));
    t.notMatch(host.run('ip', '-6', '-o', 'address'), /fd25::/, 'isolated: the host is not there');
    weftd.driver.unpublish(made!.id);
    for (const each of endpoints.splice(endpoints.findIndex(({ networkId }) => networkId === open.id))) await weftd.driver.deleteEndpoint(networks.find(({ id }) => id === each.networkId)!, each);
    for (const each of [open, cut]) await weftd.delete(each);
    underlay.router.run('ip', '-6', 'route', 'del', 'fd24::/64');
    host.run('ip', 'address', 'del', 'fe80::98/64', 'dev', 'eth0');
  });

  t.test('host_ipv6 and DefaultGatewayIPv6', async (t) => {
    const SOURCE = 'com.docker.network.host_ipv6';
    t.throws(() => weftd.driver.validate({ ...six, options: { [SOURCE]: '10.99.1.1' } }), { code: 'WEFT-OPTION-VALUE', message: /IPv6 address of this host/ });
    const withGateway = (more: Partial<Network>, address: string): Network => network('own', 'bridge', 'fd26::/64', { subnets: [{ subnet: 'fd26::/64', gateway: 'fd26::1', aux: { DefaultGatewayIPv6: address } }], ...more });
    t.throws(() => weftd.driver.validate(withGateway({ internal: true }, 'fd26::9')), { code: 'WEFT-OPTION-VALUE', message: /internal network has no gateway/ });
    t.throws(() => weftd.driver.validate(withGateway({}, 'fd27::9')), { code: 'WEFT-OPTION-VALUE', message: /address of fd26::\/64/ });
    const source = network('source', 'bridge', 'fd27::/64', { options: { [SOURCE]: 'fd99:1::77' } });
    const own = withGateway({}, 'fd26::9');
    for (const each of [source, own]) {
      weftd.driver.validate(each);
      networks.push(each);
      await weftd.driver.createNetwork(each);
    }
    host.run('ip', 'address', 'add', 'fd99:1::77/128', 'dev', 'eth0', 'nodad');
    underlay.router.run('ip', '-6', 'route', 'add', 'fd99:1::77/128', 'dev', 'r1');
    const { space: s } = await weftd.attach('s', source, 'fd27::2');
    const wire = await capture(client.space, 'eth0', 'icmp6 and ip6[40] = 128');
    t.ok(s.pings(clientAddress));
    t.match(await wire(), new RegExp(`fd99:1::77 > ${clientAddress}`), 'what the outside sees is what was asked for');
    const { space: o, answer } = await weftd.attach('o', own, 'fd26::2');
    t.equal(answer.gatewayIpv6, 'fd26::9', 'containers have another gateway');
    t.match(o.run('ip', '-6', 'route'), /default via fd26::9/);
    t.ok(o.pings('fd26::1'), 'the host keeps its own address');
    for (const each of endpoints.splice(-2)) await weftd.driver.deleteEndpoint(networks.find(({ id }) => id === each.networkId)!, each);
    for (const each of [source, own]) {
      await weftd.driver.deleteNetwork(each);
      networks.splice(networks.indexOf(each), 1);
    }
    host.run('ip', 'address', 'del', 'fd99:1::77/128', 'dev', 'eth0');
    underlay.router.run('ip', '-6', 'route', 'del', 'fd99:1::77/128');
  });

  t.test('what others break is mended', async (t) => {
    const bridge = hostBridge(web.id);
    t.same(await weftd.repair(), []);
    host.run('ip', '-6', 'address', 'del', 'fd20::1/64', 'dev', bridge);
    t.same(await weftd.repair(), ['address fd20::1/64 was missing']);
    host.run('sysctl', '-qw', `net.ipv6.conf.${bridge}.disable_ipv6=1`);
    t.same(await weftd.repair(), ['address fd20::1/64 was missing']);
    host.run('ip', 'link', 'set', bridge, 'down');
    t.same(await weftd.repair(), [`link ${bridge} had another up`, 'address fd20::1/64 was missing']);
    host.run('sysctl', '-qw', 'net.ipv6.conf.all.forwarding=0');
    host.run('ip6tables', '-F', 'FORWARD');
    t.same(await weftd.repair(), ['sysctl net/ipv6/conf/all/forwarding was 0', 'the host\'s FORWARD chain did not accept our bridges']);
    t.ok(w2.pings(clientAddress));
    t.same(await weftd.repair(), []);
  });

  t.test('where IPv6 is switched off, it stays off', async (t) => {
    const refused = { code: 'WEFT-IPV6-DISABLED', message: /network web .*net\.ipv6\.conf\.all\.disable_ipv6 is 1.*sysctl -w/ };
    host.run('sysctl', '-qw', 'net.ipv6.conf.all.disable_ipv6=1');
    t.throws(() => weftd.driver.validate(web), refused);
    await t.rejects(weftd.driver.createEndpoint(web, endpoint('w3', web, '10.20.0.4/24', { addressIpv6: 'fd20::4/64' })), refused);
    await weftd.repair();
    t.equal(host.run('ip', '-6', '-o', 'address').trim(), '');
    t.ok(w2.pings('10.20.0.1'), 'IPv4 goes on');
    const { space: f1 } = await weftd.attach('f1', four, '10.23.0.2');
    t.ok(f1.pings('10.99.2.2'));
    host.run('sysctl', '-qw', 'net.ipv6.conf.all.disable_ipv6=0');
    underlay.addIpv6({ space: host }, 1, 1);
    host.run('ip', '-6', 'route', 'change', 'default', 'via', 'fe80::99', 'dev', 'eth0', 'proto', 'ra');
    await weftd.repair();
    t.ok(w2.pings(clientAddress), 'switched on again, it works');
  });

  t.test('an MTU that IPv6 does not fit in is refused', async (t) => {
    t.throws(() => weftd.driver.validate({ ...six, options: { 'weft.mtu': '1200' } }), { code: 'WEFT-OPTION-VALUE', message: /from 1280/ });
    t.doesNotThrow(() => weftd.driver.validate({ ...four, options: { 'weft.mtu': '1200' } }));
  });

  t.test('nothing stays', async (t) => {
    networks.splice(0);
    t.same(await weftd.driver.purge(), []);
    weftd.restoreSysctls();
    t.equal(ipv6Of(host), before);
  });
});
