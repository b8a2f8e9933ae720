/**
 *      router
 *     /   |  \
 *   h1   h2   h3
 *
 * A cluster of h1 and h3 is backed up. Then h3 is taken out, having kept its certificate, and h1 burns down. h2 is set up from the
 * backup, under another address: nobody has rights in it of before, and h3 joins it like any other.
 */
import tap, { test } from 'tap';
import type { NodeAnswer } from '../agent/api.ts';
import type { Host, Service } from './lab/host.ts';
import { createLab } from './lab/lab.ts';
import { until } from './lab/run.ts';
import { ready, startWeftd, weft, weftJson, weftUp } from './lab/weft.ts';

tap.setTimeout(240_000);

test('a cluster is made anew from a backup', async (t) => {
  const lab = await createLab({ name: 'backup', hosts: 3 });
  t.teardown(() => lab.destroy());
  const [h1, h2, h3] = [lab.host(1), lab.host(2), lab.host(3)];
  const token = async (host: Host): Promise<string> => (await until('a token', () => weftJson<{ token: string }>(host, 'token'), 40_000)).token;
  await weftUp(h1);
  await weftJson(h1, 'network', 'create', 'web', '--subnet', '10.200.0.0/24');
  const a = await weftJson<{ address: string }>(h1, 'sandbox', 'add', 'a', '--network', 'web');
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
  const b = await weftJson<{ address: string }>(h2, 'sandbox', 'add', 'b', '--network', 'web');
  t.not(b.address, a.address, 'what h1 had is still its own');

  const anew = await token(h2);
  t.match(await weftJson<NodeAnswer[]>(h2, 'node', 'ls'), [{ name: 'h2' }], 'it is alone');
  t.notOk(await readsStoreOf(h2), 'who was in the cluster when the backup was made has no rights by that');
  await third.stop();
  t.equal((await weft(h3, 'down', '--purge')).code, 0);
  await joinAs3(anew);
  t.notOk(await readsStoreOf(h2), 'nor when it is let in again');
  await until('h3 has the networks', async () => (await weftJson<object[]>(h3, 'network', 'ls')).length === 2, 10_000);
  const c = await weftJson<{ address: string }>(h3, 'sandbox', 'add', 'c', '--network', 'web');
  t.equal(new Set([a, b, c].map(({ address }) => address)).size, 3);
});
