/**
 *      router
 *     /   |  \
 *   h1   h2   h3        no Docker; the cluster's own store on h1
 *
 * h3 gets what is on another host's disk, as when a virtual machine is cloned: that node goes on unharmed, the copy stops.
 */
import { join } from 'node:path';
import tap, { test } from 'tap';
import type { Host } from './lab/host.ts';
import { createLab } from './lab/lab.ts';
import { until } from './lab/run.ts';
import { ready, startWeftd, weft, weftJson, weftUp } from './lab/weft.ts';

tap.setTimeout(300_000);

test('a copy of a node is fenced, and told why', async (t) => {
  const lab = await createLab({ name: 'clone', hosts: 3 });
  t.teardown(() => lab.destroy());
  const [h1, h2, h3] = [lab.host(1), lab.host(2), lab.host(3)];
  await weftUp(h1);
  const { token } = await until('a token', () => weftJson<{ token: string }>(h1, 'token'), 40_000);
  t.equal((await weft(h2, 'join', token, '--no-start', '--name', 'h2')).code, 0);
  const second = await startWeftd(h2);
  await ready(h2);
  await weftJson(h1, 'network', 'create', 'web');
  await until('h2 has the network', async () => (await weftJson<object[]>(h2, 'network', 'ls')).length === 1, 10_000);
  await weftJson(h1, 'sandbox', 'add', 'a', '--network', 'web');
  await weftJson(h2, 'sandbox', 'add', 'b', '--network', 'web');
  const reaches = async (): Promise<boolean> => (await h2.exec(['ip', 'netns', 'exec', 'b', 'busybox', 'ping', '-c', '1', '-W', '1', 'a'])).code === 0;
  await until('b reaches a', reaches, 10_000);
  /** As the store lists them, and as gossip reaches them. */
  const nodes = async (): Promise<string[]> => {
    const listed = await weftJson<{ name: string; address: string; state: string }[]>(h1, 'node', 'ls');
    const { members } = await weftJson<{ members: { name: string; address: string }[] }>(h1, 'status');
    const reached = (name: string): string => members.find((member) => member.name === name)?.address ?? 'nowhere';
    return listed.map(({ name, address, state }) => `${name} ${address} ${state} at ${reached(name)}`);
  };
  const place = (name: string, { address }: Host): string => `${name} ${address} alive at ${address}`;
  const before = await nodes();
  t.same(before, [place('h1', h1), place('h2', h2)]);

  /** Of a host that runs; its address is what a clone gets from elsewhere. */
  const copy = async (from: Host, advertise: string): Promise<void> => {
    const archive = join(from.directory, 'disk.tar');
    await from.exec(['tar', '-C', '/', '-cf', archive, 'var/lib/weft', 'etc/weft']);
    await h3.must(['sh', '-c', `rm -rf /var/lib/weft /etc/weft && tar -C / -xf ${archive} && sed -i 's/"advertise": "[^"]*"/"advertise": "${advertise}"/' /etc/weft/weft.json`]);
  };
  const isFenced = (): Promise<unknown> => until('the copy says what it is', async () => {
    const { code, stderr } = await weft(h3, 'status');
    return code !== 0 && /WEFT-NODE-CLONED.*10\.99\..*weft down --purge.*weft join/.test(stderr);
  }, 20_000);

  for (const [what, from, advertise] of [
    ['of the host with the store, at an address of its own', h1, h3.address], ['of the other, with its address in the configuration', h2, h2.address], ['of the other, at an address of its own', h2, h3.address],
  ] as const) {
    await copy(from, advertise);
    const service = await startWeftd(h3);
    await isFenced();
    t.equal((await h3.exec(['pgrep', '-x', 'etcd'])).stdout, '', `${what}: no second copy of the store runs`);
    t.match((await weft(h3, 'sandbox', 'add', 'c', '--network', 'web')).stderr, /WEFT-NODE-CLONED/, `${what}: it gives no address`);
    t.same(await nodes(), before, `${what}: nothing has changed`);
    await service.stop();
  }

  // While the node itself is away the copy is the only one, and cannot be told from it.
  await copy(h2, h3.address);
  await second.kill();
  const clone = await startWeftd(h3);
  await until('the copy has taken its place', async () => (await nodes()).includes(place('h2', h3)), 90_000, 500);
  await second.start();
  await isFenced();
  await until('the node is where it was', async () => JSON.stringify(await nodes()) === JSON.stringify(before), 30_000);
  t.match((await weft(h3, 'sandbox', 'add', 'c', '--network', 'web')).stderr, /WEFT-NODE-CLONED/, 'the copy gives no address any more');
  await until('b reaches a again', reaches, 20_000);

  await clone.stop();
  const purged = await weft(h3, 'down', '--purge');
  t.equal(purged.code, 0, purged.stderr);
  t.same(await nodes(), before, 'what is taken off is the copy alone');
  t.equal((await weft(h3, 'join', token, '--no-start', '--name', 'h3')).code, 0);
  await startWeftd(h3);
  await ready(h3);
  await until('it is a node of its own', async () => (await nodes()).includes(place('h3', h3)), 10_000);
});
