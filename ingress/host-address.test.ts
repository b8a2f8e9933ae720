import { setImmediate as nextTurn } from 'node:timers/promises';
import { test } from 'tap';
import type { PortMapping } from '../cnm/model.ts';
import { ask, until } from '../drivers/testbed.ts';
import { container, meshScene, port } from './testbed.ts';

test('a host address: on this node alone, and 127.0.0.1 for its own programs only', async (t) => {
  const { underlay, a, b, space, address, client, store } = await meshScene(t);
  const at = (hostIp: string, more: Partial<PortMapping> = {}): PortMapping => port(8080, 80, { hostIp, ...more });
  const bound = container('a1', '10.20.0.11', at(address), at('127.0.0.1', { hostPort: 8081 }), at('127.0.0.1', { hostPort: 8085, hostPortEnd: 8086 }));
  t.same((await a.publish(bound, 'api')).map(({ hostIp, hostPort }) => `${hostIp}:${hostPort}`), [`${address}:8080`, '127.0.0.1:8081', '127.0.0.1:8085']);
  t.equal(ask(client.space, `${address}:8080`), `a1 ${client.address}`);
  t.equal(ask(space, `${address}:8080`), `a1 ${address}`);
  const listed = [`tcp/${address}:8080 api: node a 10.20.0.11:80`, 'tcp/127.0.0.1:8081 api: node a 10.20.0.11:80', 'tcp/127.0.0.1:8085 api: node a 10.20.0.11:80'].sort();
  for (const node of [a, b]) t.same(node.list(), listed, 'everybody knows');
  t.ok(b.free(8080), 'and nobody else publishes it');
  t.same(a.backends, [], 'nor lets others through to it');
  t.same((await store.range('ports/')).entries, [], 'so nobody has to be asked');

  // What 127.0.0.1 is asked, out of the host's own programs, is answered through the uplink, which is not here.
  t.match(space.run('nft', 'list', 'map', 'inet', 'weft-ports', 'bound'), /127\.0\.0\.1 \. tcp \. 8081 : jump service-tcp-127\.0\.0\.1-8081/);
  for (const device of ['all', 'eth0']) space.run('sysctl', '-qw', `net.ipv4.conf.${device}.route_localnet=1`);
  client.space.run('ip', 'address', 'del', '127.0.0.1/8', 'dev', 'lo');
  client.space.run('ip', 'rule', 'add', 'pref', '5', 'lookup', '99');
  client.space.run('ip', 'route', 'add', '127.0.0.1', 'via', '10.99.2.202', 'dev', 'eth0', 'table', '99', 'onlink', 'src', client.address);
  underlay.router.run('ip', 'rule', 'add', 'pref', '5', 'lookup', '99');
  underlay.router.run('ip', 'rule', 'del', 'pref', '0');
  underlay.router.run('ip', 'rule', 'add', 'pref', '9', 'lookup', 'local');
  underlay.router.run('ip', 'route', 'add', '127.0.0.1', 'via', address, 'dev', 'r1', 'table', '99', 'onlink');
  for (const [where, device] of [[client.space, 'eth0'], [underlay.router, 'all'], [underlay.router, 'r2'], [underlay.router, 'r1']] as const) where.run('sysctl', '-qw', `net.ipv4.conf.${device}.route_localnet=1`);
  const counted = (): number => Number(/packets (\d+)/.exec(space.run('nft', 'list', 'table', 'inet', 'test'))![1]);
  space.run('nft', 'table inet test { chain c { type filter hook prerouting priority -400; iifname "eth0" ip daddr 127.0.0.1 counter; }; }');
  t.equal(ask(client.space, '127.0.0.1:8081'), 'nothing', 'from the wire');
  t.ok(counted() > 0, 'it did come to the host');
  space.run('nft', 'delete', 'table', 'inet', 'test');

  await t.rejects(a.publish(container('e1', '10.20.0.71', at('')), 'web'), { code: 'WEFT-PORT-HELD', message: /8080\/tcp belongs to service api/ }, 'every address, and one is in use');
  await t.rejects(a.publish(container('e2', '10.20.0.72', at(address)), 'web'), { code: 'WEFT-PORT-HELD', message: /belongs to service api/ });
  await t.rejects(a.publish(container('e3', '10.20.0.73', at('192.0.2.9')), 'web'), { code: 'WEFT-PORT-ADDRESS', message: /192\.0\.2\.9/ });
  const next = container('e4', '10.20.0.74', at(address, { hostPortEnd: 8082 }), at('', { hostPort: 8081, hostPortEnd: 8084 }));
  t.same((await a.publish(next, 'web')).map(({ hostIp, hostPort }) => `${hostIp}:${hostPort}`), [`${address}:8081`, ':8082'], 'ranges go past them');
  await a.revoke(next);

  const elsewhere = container('e5', '10.20.0.75', at(''));
  await b.publish(elsewhere, 'mesh');
  t.ok(a.list().includes('tcp/8080 mesh: node b 10.20.0.75:80; not on a'), 'another node may have it for all the others');
  t.equal(ask(client.space, `${address}:8080`), `a1 ${client.address}`);
  await b.revoke(elsewhere);

  await a.mesh.close();
  a.start();
  await nextTurn();
  t.equal(ask(client.space, `${address}:8080`), `a1 ${client.address}`, 'a restart changes nothing');
  t.same(await a.mesh.repair(), []);
  t.same(a.list(), listed);
  await a.revoke(bound);
  await until(() => a.free(8080) && a.free(8081));
  t.same(a.list(), []);
});
