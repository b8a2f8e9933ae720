/**
 *      router
 *     /   |  \
 *   h1   h2   h3
 *
 * Each test has hosts of its own. First: a cluster of h1 and h3 is backed up. Then h3 is taken out, having kept its certificate, and h1 burns down. h2 is set up from the
 * backup, under another address: nobody has rights in it of before, and h3 joins it like any other. Then: h1 goes on with an old backup
 * while what it started since runs.
 */
import tap, { test } from 'tap';
import type { NodeAnswer } from '../agent/api.ts';
import { joinHost } from './lab/cluster.ts';
import type { Host, Service } from './lab/host.ts';
import { createLab } from './lab/lab.ts';
import { until } from './lab/run.ts';
import { ready, startWeftd, weft, weftJson, weftUp } from './lab/weft.ts';

tap.setTimeout(240_000);

const token = async (host: Host): Promise<string> => (await until('a token', () => weftJson<{ token: string }>(host, 'token'), 40_000)).token;
const add = async (host: Host, name: string, ...args: string[]): Promise<string> => (await weftJson<{ address: string }>(host, 'sandbox', 'add', name, '--network', 'web', ...args)).address;

test('a cluster is made anew from a backup', async (t) => {
  const lab = await createLab({ name: 'backup', hosts: 3 });
  t.teardown(() => lab.destroy());
  const [h1, h2, h3] = [lab.host(1), lab.host(2), lab.host(3)];
  await weftUp(h1);
  await weftJson(h1, 'network', 'create', 'web', '--subnet', '10.200.0.0/24');
  const a = await add(h1, 'a');
  await weftJson(h1, 'network', 'create', 'late');
  const joinAs3 = async (to: string): Promise<Service> => {
    const joined = await weft(h3, 'join', to, '--no-start', '--name', 'h3');
    t.equal(joined.code, 0, joined.stderr);
    const service = await startWeftd(h3);
    await ready(h3);
    return service;
  };
  const third = await joinAs3(await token(h1));
  const listed = (): Promise<NodeAnswer[]> => weftJson<NodeAnswer[]>(h1, 'node', 'ls');
  await until('h1 sees h3', async () => (await listed()).some(({ name, state }) => name === 'h3' && state === 'alive'), 10_000);
  await h3.must(['cp', '-r', '/var/lib/weft/identity', '/run/kept']);
  const readsStoreOf = async ({ address }: Host): Promise<boolean> => (await h3.exec([
    'curl', '-s', '-k', '-m', '3', '--cert', '/run/kept/node.pem', '--key', '/run/kept/node.pem', '-d', JSON.stringify({ key: 'AA==', range_end: 'AA==' }), `https://${address}:7948/v3/kv/range`,
  ])).stdout.includes('"kvs"');
  t.ok(await readsStoreOf(h1));
  t.match((await weft(h1, 'backup', '/root/weft.backup')).stdout, /entries of h1's store \(etcd at/);
  t.equal((await h1.must(['stat', '-c', '%a', '/root/weft.backup'])).trim(), '600');
  const backup = await h1.must(['cat', '/root/weft.backup']);
  t.equal((await weft(h1, 'node', 'rm', 'h3', '--force')).code, 0);
  await until('h3 knows it', async () => /WEFT-NODE-REMOVED/.test((await weft(h3, 'status')).stderr), 10_000);
  await h1.powerCut();

  const service = await weftUp(h2);
  await weftJson(h2, 'network', 'create', 'begun-anew');
  await h2.exec(['tee', '/root/weft.backup'], { input: backup });
  t.match((await weft(h2, 'restore', '/root/weft.backup')).stderr, /WEFT-STORE-LOCKED/, 'not under a weftd that runs');
  await service.stop();
  await h2.exec(['tee', '/root/cut.backup'], { input: backup.slice(0, -100) });
  t.match((await weft(h2, 'restore', '/root/cut.backup')).stderr, /WEFT-BACKUP/);
  t.match((await weft(h2, 'restore', '/root/weft.backup')).stdout, /restored .* of h1's store[^]*have to join again[^]*\n {2}h1 [^]*\n {2}h3 /);
  await startWeftd(h2);
  await ready(h2);
  await until('h2 has the networks', async () => (await weftJson<{ name: string }[]>(h2, 'network', 'ls')).map(({ name }) => name).toSorted().join() === 'late,web', 10_000);
  const b = await add(h2, 'b');
  t.not(b, a, 'what h1 had is still its own');

  const anew = await token(h2);
  t.match(await weftJson<NodeAnswer[]>(h2, 'node', 'ls'), [{ name: 'h2' }], 'it is alone');
  t.notOk(await readsStoreOf(h2), 'who was in the cluster when the backup was made has no rights by that');
  await third.stop();
  t.equal((await weft(h3, 'down', '--purge')).code, 0);
  await joinAs3(anew);
  t.notOk(await readsStoreOf(h2), 'nor when it is let in again');
  await until('h3 has the networks', async () => (await weftJson<object[]>(h3, 'network', 'ls')).length === 2, 10_000);
  const c = await add(h3, 'c');
  t.equal(new Set([a, b, c]).size, 3);
});

test('an old backup, on a host whose containers run', async (t) => {
  const lab = await createLab({ name: 'oldbackup', hosts: 2 });
  t.teardown(() => lab.destroy());
  const [h1, h2] = [lab.host(1), lab.host(2)];
  const first = await weftUp(h1);
  // Single addresses are claimed.
  await weftJson(h1, 'network', 'create', 'web', '--subnet', '10.200.0.0/28');
  const second = await joinHost(h2, await token(h1));
  await until('h2 has the network', async () => (await weftJson<object[]>(h2, 'network', 'ls')).length === 1, 10_000);
  const [a, b] = [await add(h1, 'a'), await add(h2, 'b')];
  t.equal((await weft(h1, 'backup', '/root/old.backup')).code, 0);
  const since = [await add(h1, 'c'), await add(h1, 'd'), await add(h2, 'e')];
  const { id } = (await weftJson<NodeAnswer[]>(h1, 'node', 'ls')).find(({ name }) => name === 'h2')!;

  const links = await h1.must(['ip', '-n', 'c', '-o', 'link']);
  const pingsA = async (): Promise<boolean> => (await h1.exec(['ip', 'netns', 'exec', 'c', 'busybox', 'ping', '-c', '1', '-W', '1', a.split('/')[0]!])).code === 0;

  await Promise.all([first.stop(), second.stop()]);
  const restored = await weft(h1, 'restore', '/root/old.backup');
  t.equal(restored.code, 0, restored.stderr);
  t.match(restored.stdout, new RegExp(`h2 .*weft ipam reclaim ${id}`));
  await startWeftd(h1);
  await ready(h1);
  t.equal(await h1.must(['ip', '-n', 'c', '-o', 'link']), links, 'containers went on');
  t.ok(await pingsA(), 'and reach each other');
  const purged = await weft(h2, 'down', '--purge');
  t.equal(purged.code, 0, purged.stderr);
  await joinHost(h2, await token(h1));
  await until('h2 has the network', async () => (await weftJson<object[]>(h2, 'network', 'ls')).length === 1, 10_000);

  const given: string[] = [];
  let refusal = '';
  for (let i = 0; refusal === ''; i++) {
    const host = i % 2 === 0 ? h1 : h2;
    await add(host, `n${i}`).then((address) => given.push(address), (error: unknown) => { refusal = String(error); });
  }
  t.match(refusal, /WEFT-POOL-EXHAUSTED/);
  const running = [a, ...since.slice(0, 2)];
  t.equal(new Set([...running, b, ...given]).size, running.length + 1 + given.length, 'nobody got what runs, though the backup does not know of all of it, nor what h2 had then');
  t.equal(running.length + 1 + given.length, 13, 'and every other address was given');
  t.match((await weft(h2, 'sandbox', 'add', 'f', '--network', 'web', '--ip', b.split('/')[0]!)).stderr, /WEFT-ADDRESS-FOREIGN/);
  await until('it has been silent for long enough', async () => (await weft(h1, 'ipam', 'reclaim', '--yes', id)).code === 0, 120_000, 1_000);
  t.equal(await add(h2, 'f', '--ip', b.split('/')[0]!), b, 'until it is reclaimed');
  await until('and they reach each other', async () => (await h2.exec(['ip', 'netns', 'exec', 'f', 'busybox', 'ping', '-c', '1', '-W', '1', 'c'])).code === 0, 10_000);
  await until('nothing is wrong with any address', async () => (await weft(h1, 'ipam', 'check')).code === 0, 10_000);
});
