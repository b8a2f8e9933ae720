/**
 *      router
 *     /   |  \
 *   h1   h2   h3        no Docker; an etcd of the user's on h1
 *
 * A cluster by token: one host is set up, the others join it.
 */
import tap, { test } from 'tap';
import { startEtcd } from './lab/etcd.ts';
import type { Host } from './lab/host.ts';
import { createLab } from './lab/lab.ts';
import { until } from './lab/run.ts';
import { ready, startWeftd, weft, weftJson, weftUp, weftWith } from './lab/weft.ts';

tap.setTimeout(240_000);

test('hosts join by a token', async (t) => {
  const lab = await createLab({ name: 'join', hosts: 3 });
  t.teardown(() => lab.destroy());
  const [h1, h2, h3] = [lab.host(1), lab.host(2), lab.host(3)];
  const etcd = await startEtcd(h1);
  await weftUp(h1, { store: etcd.url });
  const makeToken = (...args: string[]): Promise<string> => weftJson<{ token: string }>(h1, 'token', ...args).then(({ token }) => token);
  const token = await until('there is a certificate', () => makeToken(), 10_000);
  t.match(token, /^weft1-[0-9a-z]{50}-[0-9a-z]{25}@10\.99\.1\.1:7947$/);
  t.equal(await makeToken(), token, 'the same while it is valid');
  t.match((await weft(h1, 'token')).stdout, `weft join ${token}\n`);

  const join = (host: Host, given: string, ...args: string[]) => weft(host, 'join', given, '--no-start', '--name', host.name, ...args);
  const refused = async (what: string, given: string, code: string): Promise<void> => {
    const { code: exit, stderr } = await join(h2, given);
    t.ok(exit !== 0 && stderr.includes(code), `${what}: ${stderr.trim()}`);
    t.equal((await h2.exec(['ls', '/etc/weft', '/var/lib/weft/identity'])).stdout, '', `${what}: nothing is written`);
  };
  t.match((await weft(h2, 'status')).stderr, /WEFT-CONFIG.*weft up/, 'a host that is not set up');
  await refused('no token', 'banana', 'WEFT-TOKEN-MALFORMED');
  await refused('another secret', token.replace(/-[0-9a-z]{25}@/, `-${'0'.repeat(25)}@`), 'WEFT-TOKEN-REFUSED');
  await refused('another cluster', token.replace(/weft1-[0-9a-z]{3}/, 'weft1-000'), 'WEFT-JOIN-STRANGER');
  await refused('nobody there', token.replace('10.99.1.1', '10.99.1.3'), 'WEFT-JOIN-UNREACHABLE');
  const { stderr } = await weft(h2, 'join', token, '--no-start', '--name', 'h1');
  t.match(stderr, /WEFT-NODE-EXISTS.*--name/);

  const start = performance.now();
  t.equal((await join(h2, token)).code, 0);
  t.match((await weft(h2, 'status')).stderr, /WEFT-AGENT-DOWN.*weft up/, 'set up, and not started');
  await startWeftd(h2);
  await ready(h2);
  await until('h1 sees h2', async () => /h2 .* alive$/m.test((await weft(h1, 'node', 'ls')).stdout), 10_000, 20);
  t.ok(performance.now() - start < 10_000, `in the cluster after ${Math.round(performance.now() - start)} ms`);
  t.match((await join(h2, token)).stderr, 'WEFT-JOIN-AGAIN');
  t.equal((await h2.must(['stat', '-c', '%a', '/var/lib/weft/identity', '/var/lib/weft/identity/node.pem', '/etc/weft/weft.json'])).trim(), '700\n600\n600');

  const rotated = await makeToken('rotate');
  t.not(rotated, token);
  t.match((await join(h3, token)).stderr, 'WEFT-TOKEN-REFUSED', 'the old one is of no use');
  await h3.must(['sh', '-c', `echo '${rotated}' > /run/token`]);
  t.equal((await weft(h3, 'join', '--token-file', '/run/token', '--no-start', '--name', 'h3')).code, 0, 'from a file');
  const third = await startWeftd(h3);
  await ready(h3);

  await weftJson(h2, 'network', 'create', 'web');
  for (const host of [h1, h3]) await until(`${host.name} has the network`, async () => (await weftJson<object[]>(host, 'network', 'ls')).length === 1, 10_000);
  for (const [host, name] of [[h1, 'a'], [h3, 'c']] as const) await weftJson(host, 'sandbox', 'add', name, '--network', 'web');
  await until('they reach each other', async () => (await h3.exec(['ip', 'netns', 'exec', 'c', 'busybox', 'ping', '-c', '1', '-W', '1', 'a'])).code === 0, 10_000);

  const sealing = async (): Promise<string> => (JSON.parse((await stored(h1, etcd.url, 'gossip-keys'))!) as { keys: string[] }).keys[0]!;
  const before = await sealing();
  t.equal((await weft(h2, 'key', 'rotate')).code, 0);
  await until('the gossip key is another one', async () => await sealing() !== before, 20_000);
  t.equal(((await weft(h1, 'node', 'ls')).stdout.match(/ alive/g) ?? []).length, 3, 'and all are alive');

  t.match((await weft(h1, 'node', 'rm', 'h3')).stderr, 'WEFT-NODE-ALIVE');
  t.match((await weft(h1, 'node', 'rm', 'nobody')).stderr, 'WEFT-NODE-UNKNOWN');
  await third.kill();
  await until('h3 is gone', async () => /h3 .* dead$/m.test((await weft(h1, 'node', 'ls')).stdout), 20_000);
  t.equal((await weft(h1, 'node', 'rm', 'h3')).code, 0);
  await until('it is listed no more', async () => !/ h3 /.test((await weft(h2, 'node', 'ls')).stdout), 5_000);

  t.equal((await weft(h3, 'down', '--purge')).code, 0);
  const joinReading = (input: string) => weftWith(h3, { input }, 'join', '--no-start', '--name', 'h3');
  t.match((await joinReading('')).stderr, 'WEFT-TOKEN-MALFORMED');
  t.equal((await joinReading(`${await makeToken()}\n`)).code, 0, 'from the standard input');
});

/** A value of ours in the store. */
async function stored(host: Host, url: string, key: string): Promise<string | undefined> {
  const body = JSON.stringify({ key: Buffer.from(`/weft/v1/${key}`).toString('base64') });
  const { kvs = [] } = JSON.parse(await host.must(['curl', '-sf', '-d', body, `${url}/v3/kv/range`])) as { kvs?: { value: string }[] };
  return kvs[0] && Buffer.from(kvs[0].value, 'base64').toString();
}
