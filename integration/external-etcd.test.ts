/**
 *     router
 *     /    \
 *   h1      h2        no Docker; on h1 an etcd of the user's, which wants certificates
 *
 * The commands of docs/how-to/external-etcd.md: a cluster whose store is not Weft's, and a second host that joins it.
 */
import { copyFileSync } from 'node:fs';
import { join } from 'node:path';
import tap, { test } from 'tap';
import { authorityForTests } from '../store/certificates-for-tests.ts';
import { startEtcd } from './lab/etcd.ts';
import type { Host } from './lab/host.ts';
import { createLab } from './lab/lab.ts';
import { until } from './lab/run.ts';
import { ready, startWeftd, weft, weftJson } from './lab/weft.ts';

tap.setTimeout(120_000);

test('a cluster on an etcd of the user\'s', async (t) => {
  const lab = await createLab({ name: 'external', hosts: 2 });
  t.teardown(() => lab.destroy());
  const [h1, h2] = [lab.host(1), lab.host(2)];
  const authority = authorityForTests(t.testdir());
  const etcd = await startEtcd(h1, { tls: authority.issue({ addresses: [h1.address, '127.0.0.1'] }) });
  /** What the host shows, where its administrator has put it. */
  const files = (host: Host): string[] => Object.entries(authority.issue({ addresses: [host.address] })).flatMap(([what, from]) => {
    const path = join(host.directory, `${what}.pem`);
    copyFileSync(from, path);
    return [`--store-${what}`, path];
  });

  t.equal((await weft(h1, 'up', '--no-start', '--name', 'h1', '--store', etcd.url, ...files(h1))).code, 0);
  await startWeftd(h1);
  await ready(h1);
  await weftJson(h1, 'network', 'create', 'web');
  const { token } = await until('a token', () => weftJson<{ token: string }>(h1, 'token'), 20_000);
  t.equal((await h1.exec(['ls', '/var/lib/weft/etcd'])).stdout, '', 'no etcd of its own');

  const refused = async (what: string, says: RegExp, ...args: string[]): Promise<void> => {
    const { code, stderr } = await weft(h2, 'join', token, '--name', 'h2', ...args);
    t.equal(code, 1, what);
    t.match(stderr, says, what);
    t.equal((await h2.exec(['ls', '/etc/weft', '/var/lib/weft'])).stdout, '', `${what}: nothing is written`);
  };
  await refused('without files', /WEFT-JOIN-ETCD: .*https:\/\/10\.99\.1\.1:2379.*certificate.*--store-ca/);
  const theirs = authorityForTests(t.testdirName).issue({ addresses: [h2.address] });
  await refused('with a certificate that it does not know', /WEFT-JOIN-ETCD/, '--store-ca', files(h2)[1]!, '--store-cert', theirs.cert, '--store-key', theirs.key);
  await refused('with half of a pair', /WEFT-CONFIG: .*cert and key come together/, '--store-cert', theirs.cert);

  const joined = await weft(h2, 'join', token, '--name', 'h2', ...files(h2));
  t.equal(joined.code, 0, joined.stderr);
  await until('h2 is alive', async () => /h2 .* alive$/m.test((await weft(h1, 'node', 'ls')).stdout), 10_000);
  await until('h2 has the network', async () => (await weftJson<object[]>(h2, 'network', 'ls')).length === 1, 10_000);
  for (const [host, name] of [[h1, 'a'], [h2, 'b']] as const) await weftJson(host, 'sandbox', 'add', name, '--network', 'web');
  await until('they reach each other', async () => (await h2.exec(['ip', 'netns', 'exec', 'b', 'busybox', 'ping', '-c', '1', '-W', '1', 'a'])).code === 0, 10_000);
  t.match((await weft(h2, 'status')).stdout, new RegExp(`store +etcd at ${etcd.url}`));

  await etcd.stop();
  await until('status says what is degraded', async () => /^store .*: does not answer\n.*in hand: \d+ addresses left/m.test((await weft(h2, 'status')).stdout), 20_000);
  await weftJson(h2, 'sandbox', 'add', 'c', '--network', 'web');
  t.match((await weft(h2, 'network', 'create', 'late')).stderr, /WEFT-STORE-UNREACHABLE/);
  await etcd.start();
  await until('it goes on', async () => (await weft(h2, 'network', 'create', 'late')).code === 0, 20_000);
});
