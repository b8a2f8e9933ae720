/**
 * What a container waits for its network while fifty start at once: of each, the time that dockerd waits for the plugin's answers (address, endpoint,
 * join), so that Docker's own queues do not count. timing-proxy.ts stands in between.
 *
 *   h1: weft-overlay, weft-bridge, and the null plugin, which answers at once: what a busy machine makes of that
 *
 *   *_idle_p50_ms    one after the other
 *   *_burst_p50_ms, *_burst_p95_ms   fifty at once
 *
 * ROUNDS (3) bursts of each, in random order. Three minutes.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { IMAGE } from '../integration/lab/image.ts';
import { createLab } from '../integration/lab/lab.ts';
import { until } from '../integration/lab/run.ts';
import { weftUp } from '../integration/lab/weft.ts';
import { inRandomOrder, median, quantile, report } from './figures.ts';
import type { TimedCall } from './timing-proxy.ts';

const ROUNDS = Number(process.env['ROUNDS'] ?? 3);
const AT_ONCE = 50;
/** Of each, one after the other. */
const IDLE = 20;
const PLUGINS = ['weft', 'weft-overlay', 'weft-bridge', 'nothing'];
const REAL = '/run/plugins';
/** What a container waits for. */
const ATTACHING = /^\/(?:IpamDriver\.RequestAddress|NetworkDriver\.(?:CreateEndpoint|EndpointOperInfo|Join))$/;
const COMMAND = 'npm run bench -- burst';

/** Milliseconds of each endpoint that was made in these calls. */
function attachments(calls: readonly TimedCall[]): number[] {
  const byAddress = new Map<string, number>();
  const byEndpoint = new Map<string, number>();
  for (const { path, ms, endpoint, address } of calls) {
    if (!ATTACHING.test(path)) continue;
    if (endpoint === undefined) {
      if (address !== undefined) byAddress.set(address, ms);
    } else byEndpoint.set(endpoint, (byEndpoint.get(endpoint) ?? 0) + ms + (path.endsWith('CreateEndpoint') ? byAddress.get(address ?? '') ?? 0 : 0));
  }
  return [...byEndpoint.values()];
}

const lab = await createLab({ name: 'burstbench', hosts: 1, docker: true });
try {
  const host = lab.host(1);
  const log = join(host.directory, 'calls.log');
  await weftUp(host);
  await host.must(['sh', '-c', `mkdir ${REAL} && mv /run/docker/plugins/weft*.sock ${REAL}`]);
  const total = ROUNDS * AT_ONCE + IDLE + 2;
  host.spawn([process.execPath, new URL('./null-plugin.ts', import.meta.url).pathname, `${REAL}/nothing.sock`, String(total)]);
  await until('the null plugin', async () => (await host.exec(['test', '-S', `${REAL}/nothing.sock`])).code === 0, 60_000);
  host.spawn([process.execPath, new URL('./timing-proxy.ts', import.meta.url).pathname, log, REAL, ...PLUGINS], join(host.directory, 'proxy.log'));
  for (const plugin of PLUGINS) await until(`the proxy of ${plugin}`, async () => (await host.exec(['test', '-S', `/run/docker/plugins/${plugin}.sock`])).code === 0);
  await host.docker('network', 'create', '-d', 'weft-overlay', '--ipam-driver', 'weft', 'wo');
  await host.docker('network', 'create', '-d', 'weft-bridge', '--ipam-driver', 'weft', 'wb');
  await host.docker('network', 'create', '-d', 'nothing', 'nothing');
  const subjects = [{ name: 'weft_overlay', network: 'wo' }, { name: 'weft_bridge', network: 'wb' }, { name: 'null', network: 'nothing' }];

  let read = 0;
  const since = (): TimedCall[] => {
    const lines = readFileSync(log, 'utf8').trimEnd().split('\n');
    const calls = lines.slice(read).map((line) => JSON.parse(line) as TimedCall);
    read = lines.length;
    return calls;
  };
  /** Returns what each waited. */
  const start = async (network: string, names: readonly string[], atOnce: boolean): Promise<number[]> => {
    since();
    const one = (name: string) => host.must(['docker', 'run', '-d', '--stop-signal', 'KILL', '--network', network, '--name', name, IMAGE, 'sleep', '100000'], { timeoutMs: 300_000 });
    if (atOnce) await Promise.all(names.map(one));
    else for (const name of names) await one(name);
    const waited = attachments(since());
    if (waited.length !== names.length) throw new Error(`${waited.length} of ${names.length} attachments were seen`);
    await host.docker('rm', '-f', ...names);
    return waited;
  };
  const named = (count: number): string[] => Array.from({ length: count }, (_, i) => `c${i}`);
  const idle = new Map(subjects.map(({ name }) => [name, [] as number[]]));
  const burst = new Map(subjects.map(({ name }) => [name, [] as number[]]));
  for (const { network } of subjects) await start(network, named(2), false);
  for (let i = 0; i < IDLE; i++) for (const { name, network } of inRandomOrder(subjects)) idle.get(name)!.push(...await start(network, ['single'], false));
  for (let i = 0; i < ROUNDS; i++) for (const { name, network } of inRandomOrder(subjects)) burst.get(name)!.push(...await start(network, named(AT_ONCE), true));

  const figures: Record<string, number> = { n: ROUNDS * AT_ONCE };
  for (const { name } of subjects) {
    figures[`${name}_idle_p50_ms`] = median(idle.get(name)!);
    figures[`${name}_burst_p50_ms`] = median(burst.get(name)!);
    figures[`${name}_burst_p95_ms`] = quantile(burst.get(name)!, 0.95);
  }
  const ratios = Object.fromEntries(subjects.map(({ name }) => [`${name}_burst_p95_vs_idle_p50`, figures[`${name}_burst_p95_ms`]! / figures[`${name}_idle_p50_ms`]!]));
  console.log(`repeat with: ${COMMAND}`);
  report('burst', ratios, figures);
} finally {
  await lab.destroy();
}
process.exit(0);
