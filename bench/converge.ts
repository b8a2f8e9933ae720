/**
 * How soon a container that starts on one host is found and reached from another.
 *
 *   h1, h2: weft-overlay, a prober in a container of h1, containers start on h2
 *   h3, h4: Docker's own swarm overlay, likewise
 *
 * Interleaved in random order, in one run. Milliseconds.
 */
import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { endpointDigits } from '../drivers/names.ts';
import { startEtcd } from '../integration/lab/etcd.ts';
import type { Host } from '../integration/lab/host.ts';
import { IMAGE } from '../integration/lab/image.ts';
import { createLab } from '../integration/lab/lab.ts';
import { until } from '../integration/lab/run.ts';
import { weftUp } from '../integration/lab/weft.ts';
import { openNetns } from '../linux/netns.ts';
import { openRtnl } from '../linux/rtnl.ts';
import { inRandomOrder, median, quantile, report } from './figures.ts';
import type { Probe } from './prober.ts';

const ROUNDS = Number(process.env['ROUNDS'] ?? 30);
const WARM_UP = 2;
const PROBE_TIMEOUT_MS = 30_000;
const COMMAND = 'npm run bench -- converge';

const now = (): number => Number(process.hrtime.bigint()) / 1e6;

/** Starts the prober in a container; resolves when it asks. */
async function startProber(netnsPath: string, name: string): Promise<() => Promise<Probe>> {
  const child = spawn('nsenter', [`--net=${netnsPath}`, process.execPath, new URL('./prober.ts', import.meta.url).pathname, name], { stdio: ['ignore', 'pipe', 'inherit'] });
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const timer = setTimeout(() => child.kill(), PROBE_TIMEOUT_MS);
  await lines.next();
  return async () => {
    const { value } = await lines.next() as { value?: string };
    clearTimeout(timer);
    if (value === undefined) throw new Error(`${name} was not reached within ${PROBE_TIMEOUT_MS} ms`);
    return JSON.parse(value) as Probe;
  };
}

const lab = await createLab({ name: 'converge', hosts: 4, docker: true });
try {
  const [h1, h2, h3, h4] = [lab.host(1), lab.host(2), lab.host(3), lab.host(4)];
  const etcd = await startEtcd(h1);
  for (const host of [h1, h2]) await weftUp(host, { store: etcd.url });
  await h1.docker('network', 'create', '-d', 'weft-overlay', '--ipam-driver', 'weft', 'net');
  await h3.docker('swarm', 'init', '--advertise-addr', h3.address);
  await h4.docker('swarm', 'join', '--token', await h3.docker('swarm', 'join-token', '-q', 'worker'), `${h3.address}:2377`);
  await h3.docker('network', 'create', '-d', 'overlay', '--attachable', 'net');
  const subjects: { name: 'weft_overlay' | 'docker_overlay'; from: Host; on: Host; netns: string }[] = [];
  for (const [name, from, on] of [['weft_overlay', h1, h2], ['docker_overlay', h3, h4]] as const) {
    await until(`the network is on ${from.name}`, async () => (await from.docker('network', 'ls', '--format', '{{.Name}}')).split('\n').includes('net'));
    await from.docker('run', '-d', '--stop-signal', 'KILL', '--name', 'prober', '--network', 'net', IMAGE, 'sleep', '100000');
    subjects.push({ name, from, on, netns: await from.containerNetns('prober') });
  }

  // When the container's link on h2 got its carrier, by the kernel's word.
  let carrier: number | undefined;
  const fabric = openRtnl(openNetns(`/proc/${h2.pid}/root/run/netns/weft`));
  fabric.watch((event) => {
    if (event.type === 'link' && !event.gone && event.link.carrier && endpointDigits(event.link.name) !== undefined) carrier ??= now();
  });

  const probes = new Map(subjects.map(({ name }) => [name, [] as { called: number; carrier: number | undefined; probe: Probe }[]]));
  for (let i = -WARM_UP; i < ROUNDS; i++) {
    for (const { name, on, netns } of inRandomOrder(subjects)) {
      const container = `c${i + WARM_UP}`;
      const result = await startProber(netns, container);
      carrier = undefined;
      const called = now();
      const [probe] = await Promise.all([result(), on.docker('run', '-d', '--stop-signal', 'KILL', '--name', container, '--network', 'net', IMAGE, 'sleep', '100000')]);
      if (i >= 0) probes.get(name)!.push({ called, carrier, probe });
      await on.docker('rm', '-f', container);
    }
  }
  const figures: Record<string, number> = { n: ROUNDS };
  const weft = probes.get('weft_overlay')!;
  const afterCarrier = weft.map(({ carrier: at, probe }) => probe.resolved - (at ?? NaN));
  figures['resolve_after_carrier_p50_ms'] = median(afterCarrier);
  figures['resolve_after_carrier_p95_ms'] = quantile(afterCarrier, 0.95);
  figures['resolved_before_reachable'] = weft.filter(({ probe }) => !probe.firstAnswered).length;
  figures['docker_resolved_before_reachable'] = probes.get('docker_overlay')!.filter(({ probe }) => !probe.firstAnswered).length;
  for (const [name, all] of probes) {
    figures[`reach_after_call_${name}_p50_ms`] = median(all.map(({ called, probe }) => probe.reached - called));
    figures[`reach_after_resolve_${name}_p50_ms`] = median(all.map(({ probe }) => probe.reached - probe.resolved));
  }
  console.log(`repeat with: ${COMMAND}`);
  report('converge', { reach_after_call_vs_docker_overlay: figures['reach_after_call_weft_overlay_p50_ms']! / figures['reach_after_call_docker_overlay_p50_ms']! }, figures);
} finally {
  await lab.destroy();
}
process.exit(0);
