/**
 *      router
 *     /  |  |  \
 *   h1  h2  h3  h4        no Docker; the store is on h1, h2 and h3
 *
 * A host that died for good: the commands of docs/how-to/dead-host.md, in its order, and what they say.
 */
import tap, { test } from 'tap';
import type { PoolAnswer } from '../agent/ipam-api.ts';
import { createLab } from './lab/lab.ts';
import { until } from './lab/run.ts';
import { ready, startWeftd, weft, weftJson, weftUp } from './lab/weft.ts';

tap.setTimeout(300_000);

test('a host that died for good', async (t) => {
  const lab = await createLab({ name: 'deadhost', hosts: 4 });
  t.teardown(() => lab.destroy());
  const [h1, h2, h3, h4] = [lab.host(1), lab.host(2), lab.host(3), lab.host(4)];
  const status = async (): Promise<string> => (await weft(h1, 'status')).stdout;
  const list = async (): Promise<string> => (await weft(h1, 'node', 'ls')).stdout;

  await weftUp(h1);
  const { token } = await until('there is a token', () => weftJson<{ token: string }>(h1, 'token'), 40_000);
  for (const host of [h2, h3, h4]) {
    t.equal((await weft(host, 'join', token, '--no-start', '--name', host.name)).code, 0);
    await startWeftd(host);
    await ready(host);
    if (host === h3) await until('three have a vote', async () => /on h1, h2, h3: 1 voter may be lost/.test(await status()), 60_000);
  }
  await weftJson(h1, 'network', 'create', 'web');
  await until('h2 has the network', async () => (await weftJson<object[]>(h2, 'network', 'ls')).length === 1, 10_000);
  const { address } = await weftJson<{ address: string }>(h2, 'sandbox', 'add', 'db', '--network', 'web');
  const isKnown = async (): Promise<boolean> => (await weft(h1, 'network', 'inspect', 'web')).stdout.includes('"db"');
  await until('h1 knows its container', isKnown, 10_000);
  t.match((await weft(h1, 'ipam', 'reclaim', 'h2')).stderr, 'WEFT-RECLAIM-ALIVE');

  await h2.powerCut();
  await until('h1 finds it dead', async () => /h2 .* dead$/m.test(await list()), 30_000);
  t.notOk(await isKnown(), 'its records are hidden');
  t.match(await status(), /! node h2 .* does not answer/);
  await until('a majority is left, and status says what to do', async () => /h2 away, replace it with `weft node promote`/.test(await status()), 20_000);

  t.equal((await weft(h1, 'node', 'promote', 'h4')).code, 0);
  await until('another host holds the copy', async () => /on h1, h3, h4: 1 voter may be lost without effect/.test(await status()), 60_000);

  const shares = async (): Promise<string[]> => (await weftJson<PoolAnswer[]>(h1, 'ipam', 'ls')).flatMap((pool) => pool.shares.map(({ name }) => name));
  t.ok((await shares()).includes('h2'), 'its blocks are its own still');
  const plan = await until('it has been silent for long enough', async () => {
    const { code, stdout } = await weft(h1, 'ipam', 'reclaim', 'h2');
    return code === 0 ? stdout : undefined;
  }, 120_000, 1_000);
  t.match(plan, /Node h2 \([0-9a-f]{16}, dead\) has these addresses.*\n.*\n.*10\.192\.0\.0\/24 +web +1 +16\n.*\n.*\nTo go on: weft ipam reclaim --yes [0-9a-f]{16}/);
  t.match((await weft(h1, 'ipam', 'reclaim', '--yes', 'h2')).stdout, '1 blocks of node h2 are free now');
  t.notOk((await shares()).includes('h2'));

  t.equal((await weft(h1, 'node', 'rm', 'h2')).code, 0);
  await until('it is listed nowhere', async () => !/ h2 /.test((await weft(h3, 'node', 'ls')).stdout), 10_000);
  t.match((await weft(h1, 'ipam', 'check')).stdout, /^0 findings/m);
  // The address of a container that nobody will see again.
  const again = await weftJson<{ address: string }>(h3, 'sandbox', 'add', 'db', '--network', 'web', '--ip', address.split('/')[0]!);
  t.equal(again.address, address, 'another host hands its addresses out');
});
