import { setImmediate as nextTurn } from 'node:timers/promises';
import { test } from 'tap';
import { ask, askUdp, until } from '../drivers/testbed.ts';
import { container, meshScene, port } from './testbed.ts';

test('published ports on every node', async (t) => {
  const { a, b, a1, a2, space, address, client, store } = await meshScene(t);

  t.test('one backend: from outside it sees the caller, and the host itself reaches it', async (t) => {
    const passing = container('a0', '10.20.0.10', port(8079, 80));
    await a.publish(passing, 'passing');
    t.equal(askUdp(client.space, address, 8080), 'nothing');
    await a.revoke(passing);
    t.same(await a.publish(a1, 'api'), a1.ports);
    t.same(await a.publish(a1, 'api'), a1.ports, 'a repeat is answered the same');
    t.equal(ask(client.space, `${address}:8080`), `a1 ${client.address}`);
    t.equal(ask(space, `${address}:8080`), `a1 ${address}`);
    t.equal(askUdp(client.space, address, 8080), `a1 ${client.address}`, 'and so does a UDP flow that began before');
    for (const node of [a, b]) t.same(node.list(), ['tcp/8080 api: node a 10.20.0.11:80', 'udp/8080 api: node a 10.20.0.11:80']);
    t.same(a.backends, ['tcp 10.20.0.11:80', 'udp 10.20.0.11:80'], 'the fabric lets others through to these');
    t.same(b.backends, []);
    t.match(b.space.run('nft', 'list', 'map', 'inet', 'weft-ports', 'slots-tcp-8080'), /10\.20\.0\.11 \. 80/, 'also on the other node');
    t.notOk(a.free(8080) || b.free(8080), 'programs of the hosts are told that the port is taken');
  });

  t.test('two of one service share; one of another is refused and leaves nothing', async (t) => {
    await a.publish(a2, 'api');
    const seen = new Set(Array.from({ length: 30 }, () => ask(client.space, `${address}:8080`)));
    t.same([...seen].sort(), [`a1 ${client.address}`, `a2 ${client.address}`]);
    const other = container('b1', '10.20.0.21', port(8081, 80), port(8080, 80));
    await t.rejects(b.publish(other, 'web'), { code: 'WEFT-PORT-HELD', message: /8080\/tcp belongs to service api/ });
    await until(() => b.free(8081));
    t.ok(b.free(8081), 'what it had before it was refused is given up');
    t.same(b.local.list('held/'), []);
    await a.publish(container('a3', '10.20.0.13', port(8081, 80)), 'web');
    await a.revoke(container('a3', ''));
  });

  t.test('who leaves gets nothing more; UDP flows are made to follow', async (t) => {
    await a.revoke(a1);
    await a.revoke(a1);
    t.same(a.forgotten, ['10.20.0.11:80'], 'also where nobody is left: whoever comes next is to be found');
    t.same([...new Set(Array.from({ length: 10 }, () => ask(client.space, `${address}:8080`)))], [`a2 ${client.address}`]);
    const two = ['c1', 'c2'].map((name, i) => container(name, `10.20.0.3${i}`, port(5300, 53, { protocol: 'udp' })));
    for (const each of two) await a.publish(each, 'dns');
    await a.revoke(two[0]!);
    t.same([a.forgotten, b.forgotten], [['10.20.0.11:80', '10.20.0.30:53'], ['10.20.0.11:80', '10.20.0.30:53']]);
    await a.revoke(two[1]!);
    await a.revoke(a2);
    t.same(a.list(), []);
    t.ok(a.free(8080) && b.free(8080));
    t.same((await store.range('ports/')).entries, []);
  });

  t.test('a port of the host\'s: refused where the container is, left out elsewhere until it is free', async (t) => {
    const holder = b.space.serve(process.execPath, '-e', 'require("net").createServer().listen(8080, "0.0.0.0", () => console.log("up"))');
    t.teardown(() => holder.kill());
    await until(() => holder.out().includes('up'));
    await t.rejects(b.publish(container('b1', '10.20.0.21', port(8080, 80)), 'api'), { code: 'WEFT-PORT-HOST', message: /8080\/tcp/ });
    await a.publish(a1, 'api');
    t.same(a.list(), ['tcp/8080 api: node a 10.20.0.11:80; not on b', 'udp/8080 api: node a 10.20.0.11:80']);
    t.notMatch(b.space.run('nft', 'list', 'map', 'inet', 'weft-ports', 'ports'), /tcp \. 8080/, 'the program goes on being reached');
    holder.kill();
    await until(() => !b.space.run('busybox', 'netstat', '-ltn').includes(':8080 '));
    await b.mesh.repair();
    await nextTurn();
    t.same(a.list(), ['tcp/8080 api: node a 10.20.0.11:80', 'udp/8080 api: node a 10.20.0.11:80']);
    await a.revoke(a1);
  });
});
