/**
 *      router
 *     /   |  \
 *   h1   h2   h3        no Docker, and nobody has installed an etcd
 *
 * The whole of it by `weft` alone: one host has a network and a sandbox, two more join, the store spreads over the three,
 * and any one of them may go.
 */
import tap, { test } from 'tap';
import type { Host } from './lab/host.ts';
import { createLab } from './lab/lab.ts';
import { until } from './lab/run.ts';
import { ready, startWeftd, weft, weftJson, weftUp } from './lab/weft.ts';

tap.setTimeout(300_000);

test('a cluster that keeps its own store', async (t) => {
  const lab = await createLab({ name: 'ownstore', hosts: 3 });
  t.teardown(() => lab.destroy());
  const [h1, h2, h3] = [lab.host(1), lab.host(2), lab.host(3)];
  await weftUp(h1);
  await weftJson(h1, 'network', 'create', 'web');
  const a = await weftJson<{ address: string }>(h1, 'sandbox', 'add', 'a', '--network', 'web');
  t.match((await weft(h1, 'status')).stdout, /store +embedded/);
  t.equal((await h1.exec(['sh', '-c', 'ls /var/lib/weft/etcd'])).stdout, '', 'a host alone needs no server');

  const token = await until('a token', () => weftJson<{ token: string }>(h1, 'token').then((answer) => answer.token), 40_000);
  t.match((await weft(h1, 'status')).stdout, /store +etcd at https:\/\/10\.99\.1\.1:7948/, 'the first token founds the cluster');
  t.equal((await weftJson<object[]>(h1, 'network', 'ls')).length, 1, 'and takes along what there was');
  t.equal((await h1.exec(['ip', 'netns', 'exec', 'a', 'busybox', 'ping', '-c', '1', '-W', '1', '10.192.0.1'])).code, 0);

  const join = async (host: Host) => {
    const { code, stderr } = await weft(host, 'join', token, '--no-start', '--name', host.name);
    if (code !== 0) throw new Error(stderr);
    const service = await startWeftd(host);
    await ready(host);
    return service;
  };
  const start = performance.now();
  const second = await join(h2);
  await until('h2 is alive', async () => /h2 .* alive$/m.test((await weft(h1, 'node', 'ls')).stdout), 10_000, 20);
  t.comment(`h2 is in the cluster after ${Math.round(performance.now() - start)} ms`);
  await until('h2 has the network', async () => (await weftJson<object[]>(h2, 'network', 'ls')).length === 1, 10_000);
  const c = await weftJson<{ address: string }>(h2, 'sandbox', 'add', 'c', '--network', 'web');
  t.not(c.address, a.address);
  const pings = async (host: Host, from: string, to: string): Promise<boolean> => (await host.exec(['ip', 'netns', 'exec', from, 'busybox', 'ping', '-c', '1', '-W', '1', to])).code === 0;
  await until('c reaches a', () => pings(h2, 'c', 'a'), 10_000);
  await until('status says what the loss of the store means', async () => /on h1: while h1 is away .*a third node makes it survive the loss of one/.test((await weft(h1, 'status')).stdout), 10_000);

  await join(h3);
  const status = async (host: Host): Promise<string> => (await weft(host, 'status')).stdout;
  await until('three have a vote', async () => /on (h\d, ){2}h\d: 1 voter may be lost without effect/.test(await status(h2)), 60_000).catch(async (error: unknown) => {
    throw new Error(`${String(error)}\n${await status(h1)}\n${await status(h3)}`);
  });

  await h1.powerCut();
  await until('networks can be made while the first host is away', async () => (await weft(h3, 'network', 'create', 'later')).code === 0, 20_000);
  await until('and are known to the other', async () => (await weftJson<object[]>(h2, 'network', 'ls')).length === 2, 10_000);
  await until('status says who is away, and what another loss means', async () => /h1 away, replace it with `weft node promote`.*if one more of/.test(await status(h2)), 20_000);
  // In the host's own process namespace.
  await h3.must(['pkill', '-STOP', '-x', 'etcd']);
  const left = async (): Promise<number> => Number(/^store .*: does not answer\n.*in hand: (\d+) addresses left .*Waiting for the store: /m.exec(await status(h2))?.[1]);
  const before = await until('without a majority, status says what waits for the store and how many addresses are left', async () => await left() || undefined, 40_000);
  await weftJson(h2, 'sandbox', 'add', 'd', '--network', 'web');
  t.equal(await left(), before - 1, 'a start goes on, and is counted');
  t.match(await status(h2), /^wire +data of later, web crosses the underlay in the clear/m);
  await h3.must(['pkill', '-CONT', '-x', 'etcd']);
  await until('the store answers again', async () => !/^store .*: does not answer$/m.test(await status(h2)), 40_000);
  await h1.powerOn();
  await startWeftd(h1);
  await ready(h1);
  await until('it returns, and learns what was made', async () => (await weftJson<object[]>(h1, 'network', 'ls')).length === 2, 20_000);
  await until('all three are there again', async () => /1 voter may be lost without effect/.test(await status(h1)), 30_000);

  t.equal((await h1.exec(['curl', '-sk', '-m', '2', `https://${h2.address}:7948/health`])).stdout, '', 'without a certificate the store says nothing');
  t.same((await h2.must(['sh', '-c', 'stat -c "%a %n" /var/lib/weft /var/lib/weft/etcd /var/lib/weft/identity /var/lib/weft/identity/node.pem'])).trim().split('\n'),
    ['700 /var/lib/weft', '700 /var/lib/weft/etcd', '700 /var/lib/weft/identity', '600 /var/lib/weft/identity/node.pem']);

  await second.stop();
  const purged = await weft(h2, 'down', '--purge');
  t.equal(purged.code, 0, purged.stdout + purged.stderr);
  t.equal((await h2.exec(['pgrep', '-x', 'etcd'])).stdout, '', 'the store of a host that is taken out ends');
  await until('and it is no member any more', async () => /on h\d, h\d: /.test(await status(h1)), 30_000);
});
