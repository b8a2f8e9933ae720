/**
 *      router
 *     /   |  \
 *   h1   h2   h3
 *
 * h1 burns down. h2 is set up from a backup of its store, under another address, and h3 joins it.
 */
import tap, { test } from 'tap';
import { createLab } from './lab/lab.ts';
import { until } from './lab/run.ts';
import { ready, startWeftd, weft, weftJson, weftUp } from './lab/weft.ts';

tap.setTimeout(240_000);

test('a cluster is made anew from a backup', async (t) => {
  const lab = await createLab({ name: 'backup', hosts: 3 });
  t.teardown(() => lab.destroy());
  const [h1, h2, h3] = [lab.host(1), lab.host(2), lab.host(3)];
  await weftUp(h1);
  await weftJson(h1, 'network', 'create', 'web', '--subnet', '10.200.0.0/24');
  const a = await weftJson<{ address: string }>(h1, 'sandbox', 'add', 'a', '--network', 'web');
  await until('a token', () => weftJson<{ token: string }>(h1, 'token'), 40_000);
  await weftJson(h1, 'network', 'create', 'late');
  t.match((await weft(h1, 'backup', '/root/weft.backup')).stdout, /entries of h1's store \(etcd at/);
  t.equal((await h1.must(['stat', '-c', '%a', '/root/weft.backup'])).trim(), '600');
  const backup = await h1.must(['cat', '/root/weft.backup']);
  await h1.powerCut();

  const service = await weftUp(h2);
  await weftJson(h2, 'network', 'create', 'begun-anew');
  await h2.exec(['tee', '/root/weft.backup'], { input: backup });
  t.match((await weft(h2, 'restore', '/root/weft.backup')).stderr, /WEFT-STORE-LOCKED/, 'not under a weftd that runs');
  await service.stop();
  await h2.exec(['tee', '/root/cut.backup'], { input: backup.slice(0, -100) });
  t.match((await weft(h2, 'restore', '/root/cut.backup')).stderr, /WEFT-BACKUP/);
  t.match((await weft(h2, 'restore', '/root/weft.backup')).stdout, /restored .* of h1's store/);
  await startWeftd(h2);
  await ready(h2);
  await until('h2 has the networks', async () => (await weftJson<{ name: string }[]>(h2, 'network', 'ls')).map(({ name }) => name).toSorted().join() === 'late,web', 10_000);
  const b = await weftJson<{ address: string }>(h2, 'sandbox', 'add', 'b', '--network', 'web');
  t.not(b.address, a.address, 'what h1 had is still its own');

  const { token } = await until('a token', () => weftJson<{ token: string }>(h2, 'token'), 40_000);
  const joined = await weft(h3, 'join', token, '--no-start', '--name', 'h3');
  t.equal(joined.code, 0, joined.stderr);
  await startWeftd(h3);
  await ready(h3);
  await until('h3 has the networks', async () => (await weftJson<object[]>(h3, 'network', 'ls')).length === 2, 10_000);
  const c = await weftJson<{ address: string }>(h3, 'sandbox', 'add', 'c', '--network', 'web');
  t.equal(new Set([a, b, c].map(({ address }) => address)).size, 3);
});
