//            router
//  fd99:1::/64 │ fd99:2::/64, besides IPv4
//         ┌────┴────┐
//   host a fd99:1::1   client fd99:2::2        host b has no way here: only its part of the state is looked at
//      │       │
//    both     six      10.20.0.13 and fd20::13; fd20::14 alone
import { setImmediate as nextTurn } from 'node:timers/promises';
import { test, type Test } from 'tap';
import type { Endpoint, PortMapping } from '../cnm/model.ts';
import { type Space, type Underlay, ask, endpoint, network, until } from '../drivers/testbed.ts';
import { meshScene, port } from './testbed.ts';

const web = network('web', 'overlay', '10.20.0.0/24');
const SERVER = `
const [name] = process.argv.slice(1);
const udp = require("dgram").createSocket({ type: "udp6", ipv6Only: true });
udp.on("message", (_, { address, port }) => udp.send(name + " " + address, port, address)).bind(80, () =>
  require("http").createServer((request, response) => response.end(name + " " + request.socket.remoteAddress.replace("::ffff:", ""))).listen(80, "::", () => console.log("up")));`;
const UDP_CLIENT = `
const socket = require("dgram").createSocket("udp6");
socket.on("message", (text) => process.exit(console.log(String(text)))).bind(5555, () => socket.send("?", 8080, process.argv[1]));
setTimeout(() => process.exit(console.log("nothing")), 1_500);`;
const HOLDER = 'require("net").createServer().on("error", () => process.exit(1)).listen({ port: 8080, host: "::", ipv6Only: true }, () => console.log("up"))';

/** A container wired to the host itself. */
async function wire(t: Test, { underlay, space }: { underlay: Underlay; space: Space }, name: string, number: number, ips: string[]): Promise<void> {
  const inside = underlay.space(name);
  space.rtnl.addLink({ kind: 'veth', name: `w${number}`, up: true, peer: { name: 'eth0', netns: inside.netns, up: true } });
  for (const ip of ips) {
    const [length, gateway, family] = ip.includes(':') ? [64, 'fd20::1', '-6'] : [24, '10.20.0.1', '-4'];
    inside.run('ip', 'address', 'add', `${ip}/${length}`, 'dev', 'eth0', ...(family === '-6' ? ['nodad'] : []));
    space.run('ip', family, 'address', 'add', gateway, 'dev', `w${number}`, ...(family === '-6' ? ['nodad'] : []));
    space.run('ip', family, 'route', 'add', ip, 'dev', `w${number}`);
    inside.run('ip', family, 'route', 'add', 'default', 'via', gateway);
  }
  const server = inside.serve(process.execPath, '-e', SERVER, name);
  t.teardown(() => server.kill());
  await until(() => server.out().includes('up'));
}

const container = (name: string, ips: string[], ...ports: PortMapping[]): Endpoint => {
  const [ip, ip6] = ips as [string, string?];
  return endpoint(name, web, `${ip}/${ip.includes(':') ? 64 : 24}`, { ...(ip6 !== undefined && { addressIpv6: `${ip6}/64` }), ports });
};

test('published ports by IPv6', async (t) => {
  const scene = await meshScene(t);
  const { underlay, space, client, address, a, b, a1 } = scene;
  const [host, caller] = [underlay.addIpv6({ space }, 1, 1), underlay.addIpv6(client, 2, 2)];
  space.run('sysctl', '-qw', 'net.ipv6.conf.all.forwarding=1');
  await wire(t, scene, 'both', 1, ['10.20.0.13', 'fd20::13']);
  await wire(t, scene, 'six', 2, ['fd20::14']);
  // The hosts look for duplicates of their addresses first (RFC 4862 §5.4), which takes up to two seconds.
  await until(() => client.space.pings(host));
  await until(() => space.pings('fd20::13') && space.pings('fd20::14'));
  const both = container('both', ['10.20.0.13', 'fd20::13'], port(8080, 80), port(8080, 80, { protocol: 'udp' }));
  const six = container('six', ['fd20::14'], port(8080, 80));
  const udp = (): string => client.space.run(process.execPath, '-e', UDP_CLIENT, host).trim();

  t.test('a container with both answers by both, and sees the caller', async (t) => {
    t.equal(udp(), 'nothing');
    t.same(await a.publish(both, 'api'), both.ports);
    t.equal(ask(client.space, `[${host}]:8080`), `both ${caller}`);
    t.equal(ask(client.space, `${address}:8080`), `both ${client.address}`);
    t.equal(ask(space, `[${host}]:8080`), `both ${host}`);
    t.equal(udp(), `both ${caller}`, 'also a UDP flow that began before');
    t.same(a.backends, ['tcp 10.20.0.13:80', 'tcp fd20::13:80', 'udp 10.20.0.13:80', 'udp fd20::13:80'], 'the fabric lets others through to these');
    t.match(b.mesh.list(), [{ backends: [{ ip: '10.20.0.13', ip6: 'fd20::13' }], skippedOn: [] }, {}]);
    for (const node of [a, b]) {
      t.match(node.space.run('nft', 'list', 'map', 'inet', 'weft-ports', 'slots-tcp6-8080'), /fd20::13 \. 80/);
      t.notOk(node.space.succeeds(process.execPath, '-e', `${HOLDER}.unref()`), 'programs of the hosts are told that the port is taken');
    }
  });

  t.test('one without IPv4, and one without IPv6, share the port: each family has its own backends', async (t) => {
    await a.publish(six, 'api');
    t.same([...new Set(Array.from({ length: 20 }, () => ask(client.space, `[${host}]:8080`)))].sort(), [`both ${caller}`, `six ${caller}`]);
    t.equal(ask(client.space, `${address}:8080`), `both ${client.address}`);
    await a.publish(a1, 'api');
    await a.revoke(both);
    t.same(a.forgotten.sort(), ['10.20.0.13:80', 'fd20::13:80'], 'UDP flows of both families are forgotten');
    t.equal(ask(client.space, `[${host}]:8080`), `six ${caller}`);
    t.equal(ask(client.space, `${address}:8080`), `a1 ${client.address}`);
    await a.revoke(six);
    t.equal(ask(client.space, `[${host}]:8080`), 'nothing', 'what only has IPv4 is not published by IPv6');
    t.ok(a.space.succeeds(process.execPath, '-e', `${HOLDER}.unref()`), 'so that programs may have it');
    await a.revoke(a1);
  });

  t.test('a host address of IPv6', async (t) => {
    space.run('ip', 'address', 'add', 'fd99:1::77/128', 'dev', 'eth0', 'nodad');
    underlay.router.run('ip', '-6', 'route', 'add', 'fd99:1::77/128', 'dev', 'r1');
    const bound = container('both', ['10.20.0.13', 'fd20::13'], port(8080, 80, { hostIp: 'FD99:1::0:77' }));
    t.same(await a.publish(bound, 'api'), [port(8080, 80, { hostIp: 'fd99:1::77' })]);
    t.equal(ask(client.space, '[fd99:1::77]:8080'), `both ${caller}`);
    t.equal(ask(client.space, `[${host}]:8080`), 'nothing');
    t.equal(ask(client.space, `${address}:8080`), 'nothing');
    t.match(b.mesh.list(), [{ mode: 'host', hostIp: 'fd99:1::77', backends: [{ ip: 'fd20::13' }] }]);
    t.same(await a.mesh.repair(), []);
    await a.revoke(bound);
    await t.rejects(a.publish(container('e1', ['10.20.0.71'], port(8080, 80, { hostIp: 'fd99:1::77' })), 'api'), { code: 'WEFT-FEATURE-MISSING', message: /without an IPv6 address/ });
    await t.rejects(a.publish(container('e2', ['fd20::72'], port(8080, 80, { hostIp: '2001:db8::9' })), 'api'), { code: 'WEFT-PORT-ADDRESS', message: /2001:db8::9/ });
  });

  t.test('where a program has the port for IPv6, IPv4 goes on', async (t) => {
    const holder = b.space.serve(process.execPath, '-e', HOLDER);
    t.teardown(() => holder.kill());
    await until(() => holder.out().includes('up'));
    await t.rejects(b.publish(six, 'api'), { code: 'WEFT-PORT-HOST' }, 'on the container\'s own node the start fails');
    await a.publish(both, 'api');
    t.match(a.mesh.list(), [{ skippedOn: ['b for IPv6'] }, { skippedOn: [] }]);
    t.match(b.space.run('nft', 'list', 'map', 'inet', 'weft-ports', 'ports'), /tcp \. 8080/);
    t.notMatch(b.space.run('nft', 'list', 'map', 'inet', 'weft-ports', 'ports6'), /tcp \. 8080/);
  });

  t.test('a host without IPv6 publishes by IPv4 alone', async (t) => {
    space.run('sysctl', '-qw', 'net.ipv6.conf.all.disable_ipv6=1');
    await a.mesh.repair();
    await nextTurn();
    t.equal(ask(client.space, `${address}:8080`), `both ${client.address}`);
    t.notMatch(space.run('nft', 'list', 'table', 'inet', 'weft-ports'), 'fd20::');
    t.match(a.mesh.list(), [{ skippedOn: ['b for IPv6'] }, { skippedOn: [] }], 'and is not said to have left something out');
    space.run('sysctl', '-qw', 'net.ipv6.conf.all.disable_ipv6=0');
    await a.mesh.repair();
    await nextTurn();
    t.match(space.run('nft', 'list', 'table', 'inet', 'weft-ports'), 'fd20::13 . 80');
    await a.revoke(both);
    t.same(a.list(), []);
  });
});
