/**
 * What a container waits for its network: `network connect` to a running container, and `docker run`.
 *
 *   h1: weft-overlay, weft-bridge, Docker's user bridge, and the null plugin        h2: Docker's own swarm overlay
 *
 * Interleaved in random order, in one run. Milliseconds by the Docker API (connect) and by the CLI (run).
 */
import Docker from 'dockerode';
import { startEtcd } from '../integration/lab/etcd.ts';
import type { Host } from '../integration/lab/host.ts';
import { IMAGE } from '../integration/lab/image.ts';
import { createLab } from '../integration/lab/lab.ts';
import { until, wait } from '../integration/lab/run.ts';
import { weftUp } from '../integration/lab/weft.ts';
import { inRandomOrder, median, quantile, report, timed } from './figures.ts';

const ROUNDS = Number(process.env['ROUNDS'] ?? 30);
const WARM_UP = 2;
/** The kernel takes away what was removed for tens of milliseconds more, and holds its lock of links: the next subject would wait for what was the last one's. */
const SETTLE_MS = 150;
const COMMAND = 'npm run bench -- attach';

const lab = await createLab({ name: 'attach', hosts: 2, docker: true });
try {
  const [h1, h2] = [lab.host(1), lab.host(2)];
  const etcd = await startEtcd(h1);
  await weftUp(h1, { store: etcd.url });
  h1.spawn([process.execPath, new URL('./null-plugin.ts', import.meta.url).pathname, '/run/docker/plugins/nothing.sock', String(2 * (ROUNDS + WARM_UP) + 4)]);
  await until('the null plugin', async () => (await h1.exec(['test', '-S', '/run/docker/plugins/nothing.sock'])).code === 0);
  await h2.docker('swarm', 'init', '--advertise-addr', h2.address);
  await h1.docker('network', 'create', '-d', 'weft-overlay', '--ipam-driver', 'weft', 'wo');
  await h1.docker('network', 'create', '-d', 'weft-bridge', 'wb');
  await h1.docker('network', 'create', 'ub');
  await h1.docker('network', 'create', '-d', 'nothing', 'nothing');
  await h2.docker('network', 'create', '-d', 'overlay', '--attachable', 'so');
  const subjects: { name: string; host: Host; network: string }[] = [
    { name: 'weft_overlay', host: h1, network: 'wo' }, { name: 'weft_bridge', host: h1, network: 'wb' }, { name: 'user_bridge', host: h1, network: 'ub' },
    { name: 'null', host: h1, network: 'nothing' }, { name: 'docker_overlay', host: h2, network: 'so' },
  ];
  const clients = new Map<Host, Docker>();
  for (const host of [h1, h2]) {
    await host.docker('run', '-d', '--stop-signal', 'KILL', '--name', 'subject', IMAGE, 'sleep', '100000');
    clients.set(host, new Docker({ socketPath: `/proc/${host.pid}/root/run/docker.sock` }));
  }
  const connect = new Map<string, number[]>(subjects.map(({ name }) => [name, []]));
  const run = new Map<string, number[]>(subjects.map(({ name }) => [name, []]));
  for (let i = -WARM_UP; i < ROUNDS; i++) {
    for (const { name, host, network } of inRandomOrder(subjects)) {
      const engine = clients.get(host)!.getNetwork(network);
      const took = await timed(() => engine.connect({ Container: 'subject' }));
      await engine.disconnect({ Container: 'subject' });
      await wait(SETTLE_MS);
      if (i >= 0) connect.get(name)!.push(took);
    }
    for (const { name, host, network } of inRandomOrder(subjects)) {
      const took = await timed(() => host.docker('run', '--rm', '--network', network, IMAGE, 'true'));
      await wait(SETTLE_MS);
      if (i >= 0) run.get(name)!.push(took);
    }
  }
  const figures: Record<string, number> = { n: ROUNDS };
  for (const [kind, values] of [['connect', connect], ['run', run]] as const) {
    for (const { name } of subjects) {
      figures[`${kind}_${name}_p50_ms`] = median(values.get(name)!);
      figures[`${kind}_${name}_p95_ms`] = quantile(values.get(name)!, 0.95);
    }
  }
  const ratio = (kind: string, a: string, b: string): number => figures[`${kind}_${a}_p50_ms`]! / figures[`${kind}_${b}_p50_ms`]!;
  const ratios = Object.fromEntries([['', 'weft_overlay'], ['bridge_', 'weft_bridge']].flatMap(([prefix, name]) => [
    [`${prefix}connect_p50_vs_null`, ratio('connect', name!, 'null')],
    [`${prefix}connect_p50_vs_user_bridge`, ratio('connect', name!, 'user_bridge')],
    [`${prefix}connect_p50_vs_docker_overlay`, ratio('connect', name!, 'docker_overlay')],
    [`${prefix}run_p50_vs_user_bridge`, ratio('run', name!, 'user_bridge')],
  ]));
  console.log(`repeat with: ${COMMAND}`);
  report('attach', ratios, figures);
} finally {
  await lab.destroy();
}
process.exit(0);
