/**
 *      router
 *     /      \
 *   h1        h2        no Docker; the cluster's own store on h1
 *
 * h2 is taken out of the cluster while it is alive, and somebody there has kept its certificate, its gossip key and a
 * connection to the store.
 */
import { resolve } from 'node:path';
import tap, { test } from 'tap';
import type { Host } from './lab/host.ts';
import { createLab } from './lab/lab.ts';
import { until } from './lab/run.ts';
import { ready, startWeftd, weft, weftJson, weftUp } from './lab/weft.ts';

tap.setTimeout(240_000);

const INTRUDER = resolve(import.meta.dirname, 'lab/intruder.ts');
const STORE = ['curl', '-s', '-m', '3', '--cacert', '/run/kept/ca.pem', '--cert', '/run/kept/node.pem', '--key', '/run/kept/node.pem'];
const EVERYTHING = JSON.stringify({ key: 'AA==', range_end: 'AA==' });

test('who was taken out is refused everywhere', async (t) => {
  const lab = await createLab({ name: 'removal', hosts: 2 });
  t.teardown(() => lab.destroy());
  const [h1, h2] = [lab.host(1), lab.host(2)];
  await weftUp(h1);
  const makeToken = (): Promise<string> => until('a token', () => weftJson<{ token: string }>(h1, 'token').then(({ token }) => token), 40_000);
  const join2 = (token: string) => weft(h2, 'join', token, '--no-start', '--name', 'h2');
  const token = await makeToken();
  t.equal((await join2(token)).code, 0);
  const service = await startWeftd(h2);
  await ready(h2);
  const isAlive = (): Promise<unknown> => until('h1 sees h2', async () => /h2 .* alive$/m.test((await weft(h1, 'node', 'ls')).stdout), 10_000);
  await isAlive();

  await h2.must(['cp', '-r', '/var/lib/weft/identity', '/run/kept']);
  const url = `https://${h1.address}:7948/v3`;
  const read = async (): Promise<string> => (await h2.exec([...STORE, '-d', EVERYTHING, `${url}/kv/range`])).stdout;
  t.match(await read(), /"kvs"/, 'a node reads the store');
  const watch = h2.spawn([...STORE.filter((word) => word !== '-m' && word !== '3'), '-N', '-d', JSON.stringify({ create_request: { key: 'AA==', range_end: 'AA==' } }), `${url}/watch`]);
  const watchEnded = new Promise((done) => void watch.on('exit', done));
  const key = await gossipKey(h1);
  const { id } = (await weftJson<{ id: string; name: string }[]>(h1, 'node', 'ls')).find(({ name }) => name === 'h1')!;
  const knock = async (): Promise<Record<string, number>> => JSON.parse(await h2.must([process.execPath, INTRUDER, h1.address, '7947', id, key])) as Record<string, number>;

  t.ok(Object.values(await knock()).some((type) => type !== -1), 'a node is answered by gossip');
  t.match((await weft(h2, 'node', 'rm', 'h1', '--force')).stderr, /WEFT-STORE-QUORUM/, 'not the host with the only copy of the store');
  t.equal((await weft(h1, 'node', 'rm', 'h2', '--force')).code, 0);
  await until('h2 knows why', async () => /WEFT-NODE-REMOVED.*weft down --purge/.test((await weft(h2, 'status')).stderr), 10_000);
  await until('its certificate opens the store no more', async () => await read() === '', 5_000);
  await watchEnded;
  t.pass('nor does a connection that it had go on');
  await until('the gossip key is another one', async () => await gossipKey(h1) !== key, 20_000);
  const answers = await knock();
  t.equal(Object.keys(answers).length, 22);
  t.same(Object.entries(answers).filter(([, type]) => type !== -1), [], 'nobody answers to its gossip key');
  t.notMatch((await weft(h1, 'node', 'ls')).stdout, /h2|stranger/);

  await service.stop();
  const again = await startWeftd(h2);
  await until('it still knows after a restart', async () => /WEFT-NODE-REMOVED/.test((await weft(h2, 'status')).stderr), 10_000);
  await again.stop();
  const purged = await weft(h2, 'down', '--purge');
  t.equal(purged.code, 0, purged.stderr);
  t.match((await join2(token)).stderr, /WEFT-TOKEN-REFUSED/, 'the token that it may have read is of no use');
  t.equal((await join2(await makeToken())).code, 0);
  await startWeftd(h2);
  await ready(h2);
  await isAlive();
});

/** The one in use, as the store has it. */
async function gossipKey(host: Host): Promise<string> {
  const body = JSON.stringify({ key: Buffer.from('/weft/v1/gossip-keys').toString('base64') });
  const { kvs } = JSON.parse(await host.must(['curl', '-sf', '--unix-socket', '/var/lib/weft/etcd/client:0', '-d', body, 'http://localhost/v3/kv/range'])) as { kvs: { value: string }[] };
  return (JSON.parse(Buffer.from(kvs[0]!.value, 'base64').toString()) as { keys: string[] }).keys[0]!;
}
