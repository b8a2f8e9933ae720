/**
 *     router
 *     /    \
 *   h1      h2          no Docker, etcd on h1
 *   a, b    c           a, b, c: network namespaces on the network web; b is also on back
 *
 * `weft sandbox`: what containers get, any network namespace gets.
 */
import tap, { test } from 'tap';
import { startEtcd } from './lab/etcd.ts';
import type { Host } from './lab/host.ts';
import { createLab } from './lab/lab.ts';
import { until } from './lab/run.ts';
import { ready, weft, weftJson, weftUp } from './lab/weft.ts';

tap.setTimeout(240_000);

const TRACES = `
ip netns exec weft ip -o link | sed 's/^[0-9]*: //; s/@.*//' | sort
ip -o link | sed 's/^[0-9]*: //; s/@.*//' | sort
ls /run/netns /etc/netns
`;

test('network namespaces on Weft networks, without Docker', async (t) => {
  const lab = await createLab({ name: 'sandbox', hosts: 2 });
  t.teardown(() => lab.destroy());
  const [h1, h2] = [lab.host(1), lab.host(2)];
  const etcd = await startEtcd(h1);
  const [first] = await Promise.all([h1, h2].map((host) => weftUp(host, { store: etcd.url })));
  const sandbox = (host: Host, ...args: string[]) => weftJson<{ address: string; interface: string; netns: string }>(host, 'sandbox', 'add', ...args);
  const inside = (host: Host, name: string, ...command: string[]) => host.exec(['ip', 'netns', 'exec', name, ...command]);
  const pings = async (host: Host, from: string, to: string): Promise<boolean> => (await inside(host, from, 'busybox', 'ping', '-c', '1', '-W', '1', to)).code === 0;
  const finds = (host: Host, from: string, to: string): Promise<unknown> => until(`${from} reaches ${to} by name`, () => pings(host, from, to), 10_000);
  await h1.must(['mkdir', '-p', '/etc/netns']);
  const traces = await h1.must(['sh', '-c', TRACES]);
  await weftJson(h1, 'network', 'create', 'web');
  await weftJson(h1, 'network', 'create', 'back');
  await until('h2 has them', async () => (await weftJson<object[]>(h2, 'network', 'ls')).length === 2);
  await h1.must(['ip', 'netns', 'add', 'mine']);
  await h1.must(['mkdir', '-p', '/etc/netns/mine']);
  await h1.must(['sh', '-c', 'echo nameserver 127.0.0.11 > /etc/netns/mine/resolv.conf']);
  const a = await sandbox(h1, 'a', '--network', 'web', '--netns', '/run/netns/mine', '--alias', 'database');
  const b = await sandbox(h1, 'b', '--network', 'web');
  const again = await sandbox(h1, 'b', '--network', 'back');
  const c = await sandbox(h2, 'c', '--network', 'web');
  t.same([a.interface, b.interface, again.interface, c.interface], ['eth0', 'eth0', 'eth1', 'eth0']);
  t.equal(new Set([a, b, again, c].map(({ address }) => address)).size, 4, 'addresses differ');
  await finds(h1, 'mine', 'c');
  await finds(h1, 'b', 'c');
  await finds(h2, 'c', 'a');
  await finds(h2, 'c', 'database');
  await finds(h2, 'c', 'b.web');
  t.match((await inside(h2, 'c', 'busybox', 'nslookup', a.address.split('/')[0]!)).stdout, /name = a\.web/, 'reverse');
  t.notOk(await pings(h2, 'c', again.address.split('/')[0]!), 'another network is out of reach');

  await first!.kill();
  t.ok(await pings(h1, 'mine', c.address.split('/')[0]!), 'traffic does not need weftd');
  await first!.start();
  await ready(h1);
  await finds(h1, 'mine', 'c');
  await finds(h2, 'c', 'a');

  for (const name of ['a', 'b']) t.equal((await weft(h1, 'sandbox', 'rm', name)).code, 0);
  t.equal((await h1.exec(['test', '-e', '/run/netns/mine'])).code, 0, 'a namespace of the user\'s stays');
  t.notMatch((await h1.must(['ip', '-n', 'mine', '-o', 'link'])), 'eth0', 'without our link');
  await until('the names are gone', async () => !/^Name:/m.test((await inside(h2, 'c', 'busybox', 'nslookup', 'a')).stdout), 10_000);
  await h1.must(['sh', '-c', 'ip netns del mine; rm -r /etc/netns/mine']);
  for (const name of ['web', 'back']) if (name === 'back') t.equal((await weft(h1, 'network', 'rm', name)).code, 0);
  t.match((await weft(h1, 'network', 'rm', 'web')).stderr, 'WEFT-NETWORK-BUSY', 'c is still on it');
  t.equal((await weft(h2, 'sandbox', 'rm', 'c')).code, 0);
  await until('the network can go', async () => (await weft(h1, 'network', 'rm', 'web')).code === 0, 10_000);
  await until('nothing is left', async () => await h1.must(['sh', '-c', TRACES]) === traces, 10_000).catch(async () => t.equal(await h1.must(['sh', '-c', TRACES]), traces));
});
