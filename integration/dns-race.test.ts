/**
 *   outside (name server)
 *      |
 *   router
 *      |
 *     h1     Docker 20.10: the namespace appears between Join and process 1
 *      └ web: target; containers that ask as the first thing they do
 *
 * Containers start while weftd is still on its way into their namespaces. The first question is answered, by us or by Docker's resolver, and nearly
 * always by us: a local name's time to live tells them apart.
 *
 *   STARTS=200 node integration/dns-race.test.ts
 */
import { join } from 'node:path';
import tap, { test } from 'tap';
import { buildClient } from './dns-clients/build.ts';
import { IMAGE } from './lab/image.ts';
import { createLab } from './lab/lab.ts';
import { until } from './lab/run.ts';
import { weft, weftJson, weftUp } from './lab/weft.ts';

const STARTS = Number(process.env['STARTS'] ?? 40);
/** Besides those: that ask for the outside first. */
const OUTSIDE_STARTS = Math.ceil(STARTS / 4);
const AT_ONCE = 4;
const OURS_AT_LEAST = 0.99;
const OUR_TTL = 5;
const DOCKERS_TTL = 600;
/** A client asks again after 5 s (resolv.conf(5)): what came later was lost. */
const RETRY_US = 5_000_000;
const OUTSIDE = '198.51.100.7';
tap.setTimeout(120_000 + STARTS * 2_000);

/** By first.go. */
interface First { said: string; ttl: number; address: string; us: number }

function read(said: string): First {
  const [ttl = '', address = '', us = ''] = said.trim().split(' ');
  return { said: said.trim(), ttl: Number(ttl), address, us: Number(us) };
}

void test('the first question of process 1', async (t) => {
  const lab = await createLab({ name: 'dnsrace', hosts: 1, docker: true });
  t.teardown(() => lab.destroy());
  const host = lab.host(1);
  const programs = join(lab.directory, 'clients');
  const built = await buildClient(programs, 'first');
  if ('missing' in built) return void t.pass('asked', { skip: `there is no ${built.missing}` });
  lab.spawnOn('outside', [process.execPath, join(import.meta.dirname, 'lab/upstream.ts'), `www.example=${OUTSIDE}`]);
  await weftUp(host);
  await until('Docker answers', async () => /docker +answers/.test((await weft(host, 'status')).stdout));
  await weftJson(host, 'network', 'create', 'web');
  await until('Docker has the network', async () => (await host.tryDocker('network', 'inspect', 'web')).code === 0);
  await host.docker('run', '-d', '--stop-signal', 'KILL', '--network', 'web', '--name', 'target', IMAGE, 'sleep', '100000');
  const target = await host.docker('inspect', '-f', '{{.NetworkSettings.Networks.web.IPAddress}}', 'target');
  const ask = async (name: string): Promise<First> => read(await host.docker('run', '--rm', '--network', 'web', '-v', `${programs}:/clients:ro`, IMAGE, '/clients/first', name));
  await until('its name is there', async () => (await ask('target')).ttl === OUR_TTL);

  const names = [...Array.from({ length: STARTS }, () => 'target'), ...Array.from({ length: OUTSIDE_STARTS }, () => 'www.example')];
  const answers: Record<string, First[]> = { 'target': [], 'www.example': [] };
  await Promise.all(Array.from({ length: AT_ONCE }, async () => {
    for (let name = names.shift(); name !== undefined; name = names.shift()) answers[name]!.push(await ask(name));
  }));
  const [local, outside] = [answers['target']!, answers['www.example']!];
  t.same(local.filter(({ address, us }) => address !== target || us >= RETRY_US), [], `${local.length} local names: all answered, and rightly`);
  const ours = local.filter(({ ttl }) => ttl === OUR_TTL).length;
  t.equal(local.filter(({ ttl }) => ttl === DOCKERS_TTL).length, local.length - ours, 'the others by Docker');
  t.ok(ours >= OURS_AT_LEAST * STARTS, `${ours} of ${STARTS} by us`);
  t.same(outside.filter(({ address, us }) => address !== OUTSIDE || us >= RETRY_US), [], `${outside.length} names of the outside`);
  t.comment(`the slowest took ${Math.max(...local.map(({ us }) => us))} µs, ${Math.max(...outside.map(({ us }) => us))} µs outside`);
});
