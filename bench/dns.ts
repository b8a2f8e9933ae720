/**
 * What an answer costs: names of containers, names of the outside that were asked for before, names that do not exist.
 *
 *   h1: weftd as it ships, and Docker's resolver on a user bridge     h2: weftd that takes one datagram at a time
 *   peer: dnsmasq, unbound, aardvark-dns, one at a time, without the address translation that stands before the others
 *   outside: the name server
 *
 * In a container's namespace, by dnsperf. Interleaved in random order, in one run.
 */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { openNetns } from '../linux/netns.ts';
import { askUdp, outcome, question } from '../dns/testing.ts';
import type { Host } from '../integration/lab/host.ts';
import { IMAGE } from '../integration/lab/image.ts';
import { createLab, OUTSIDER_ADDRESS } from '../integration/lab/lab.ts';
import { must, run, until } from '../integration/lab/run.ts';
import { ready, weftUp } from '../integration/lab/weft.ts';
import { cpuSeconds, installedPeers, latency, load, type Costs, type Place } from './dns-servers.ts';
import { inRandomOrder, median, report } from './figures.ts';

const ROUNDS = Number(process.env['ROUNDS'] ?? 5);
const NAMES = 200;
const COMMAND = 'npm run bench -- dns';
const RESOLVER = '127.0.0.11';
const PEER = '10.99.8.10';
const KINDS = ['container', 'external', 'nxdomain'] as const;
type Kind = typeof KINDS[number];

const numbered = (prefix: string, suffix: string): string[] => Array.from({ length: NAMES }, (_, i) => `${prefix}${i}${suffix}`);
const NAMES_OF: Record<Kind, (suffix: string) => string[]> = {
  container: (suffix) => numbered('n', suffix), external: () => numbered('e', '.example'), nxdomain: () => numbered('x', '.example'),
};

interface Server { pin(cores: string): Promise<unknown>; cpu(): Promise<number>; stop?(): void }
interface Subject { name: string; place: Place; kinds: readonly Kind[]; suffix: string; start(): Promise<Server> }

/** A process of a host, by the number that it has there. */
const processOf = (host: Host, pid: number): Server => ({
  pin: (cores) => host.must(['taskset', '-acp', cores, String(pid)]),
  cpu: async () => cpuSeconds(await host.must(['cat', `/proc/${pid}/stat`])),
});

if ((await run(['which', 'dnsperf'])).code !== 0) throw new Error('this needs dnsperf: apt-get install dnsperf');
const lab = await createLab({ name: 'benchdns', hosts: 2, docker: true });
try {
  lab.spawnOn('outside', [process.execPath, new URL('./dns-outside.ts', import.meta.url).pathname]);
  const aliases = NAMES_OF.container('').flatMap((name) => ['--network-alias', name]);
  const start = async (host: Host, network: string): Promise<Place> => {
    await host.docker('run', '-d', '--stop-signal', 'KILL', '--name', `on-${network}`, '--network', network, ...aliases, IMAGE, 'sleep', '100000');
    return { netns: await host.containerNetns(`on-${network}`), address: RESOLVER };
  };
  const weft = async (host: Host, name: string, dns: object): Promise<Subject> => {
    const service = await weftUp(host);
    const path = '/etc/weft/weft.json';
    const config = JSON.parse(await host.must(['cat', path])) as object;
    await service.stop();
    await host.must(['sh', '-c', `cat > ${path}`], { input: JSON.stringify({ ...config, dns }) });
    await service.start();
    await ready(host);
    await host.docker('network', 'create', '-d', 'weft-overlay', '--ipam-driver', 'weft', 'wo');
    const place = await start(host, 'wo');
    const netns = openNetns(place.netns);
    await until('its names are there', async () => /^\d/.test(outcome(await askUdp(netns, question(`n${NAMES - 1}`)))));
    netns.close();
    return { name, place, kinds: KINDS, suffix: '', start: async () => processOf(host, await service.pid()) };
  };
  const [h1, h2] = [lab.host(1), lab.host(2)];
  const subjects: Subject[] = [await weft(h1, 'weft', {}), await weft(h2, 'weft_plain', { batches: false })];
  await h1.docker('network', 'create', 'ub');
  const dockerd = Number(await h1.must(['cat', '/run/dockerd.pid']));
  subjects.push({ name: 'docker', place: await start(h1, 'ub'), kinds: KINDS, suffix: '', start: async () => processOf(h1, dockerd) });

  await lab.addMachine('peer', [{ device: 'eth0', routerEnd: 'r-peer', address: PEER }]);
  const peer: Place = { netns: `/run/netns/${lab.namespace('peer')}`, address: '127.0.0.1' };
  await must(['ip', '-n', lab.namespace('peer'), 'link', 'set', 'lo', 'up']);
  for (const { name, suffix, start: begin } of installedPeers({ directory: lab.directory, names: NAMES_OF.container(''), upstream: OUTSIDER_ADDRESS })) {
    subjects.push({
      // aardvark-dns takes its name servers from the machine's own resolv.conf alone.
      name, place: peer, kinds: name === 'aardvark' ? ['container'] : KINDS, suffix,
      start: async () => {
        const { pid, stop } = await begin(peer);
        await until(`${name} listens`, async () => (await run(['nsenter', `--net=${peer.netns}`, 'ss', '-Hlun'])).stdout.includes(':53 '), 10_000);
        return { stop, pin: (cores) => must(['taskset', '-acp', cores, String(pid)]), cpu: async () => cpuSeconds(await must(['cat', `/proc/${pid}/stat`])) };
      },
    });
  }

  const queries = (subject: Subject, kind: Kind): string => {
    const path = join(lab.directory, `${subject.name}-${kind}.txt`);
    writeFileSync(path, NAMES_OF[kind](subject.suffix).map((name) => `${name} A\n`).join(''));
    return path;
  };
  const costs = new Map<string, Costs[]>();
  const times = new Map<string, { p50: number; p99: number }[]>();
  const add = <T>(map: Map<string, T[]>, key: string, value: T): void => void (map.get(key) ?? map.set(key, []).get(key)!).push(value);
  for (let round = -1; round < ROUNDS; round++) {
    for (const subject of inRandomOrder(subjects)) {
      const { name, place, kinds, suffix } = subject;
      const server = await subject.start();
      try {
        for (const kind of kinds) {
          const path = queries(subject, kind);
          // What is started anew has nothing in its cache.
          if (server.stop || round < 0) await load(place, path, server.cpu);
          const cost = await load(place, path, server.cpu);
          if (round >= 0) add(costs, `${kind}_${name}`, cost);
        }
        const time = await latency(place, NAMES_OF.container(suffix), server.pin);
        if (round >= 0) add(times, name, time);
      } finally {
        server.stop?.();
      }
    }
  }

  const figures: Record<string, number> = { n: ROUNDS };
  for (const [key, values] of costs) {
    figures[`${key}_per_cpu_second`] = median(values.map(({ perCpuSecond }) => perCpuSecond));
    figures[`${key}_per_second`] = median(values.map(({ perSecond }) => perSecond));
  }
  for (const [name, values] of times) for (const key of ['p50', 'p99'] as const) figures[`container_${name}_${key}_us`] = median(values.map((each) => each[key]));
  const ratio = (kind: Kind, ours: string, theirs: string): number => figures[`${kind}_${ours}_per_cpu_second`]! / figures[`${kind}_${theirs}_per_cpu_second`]!;
  const peers = subjects.map(({ name }) => name).filter((name) => !/^(weft|docker)/.test(name));
  console.log(`repeat with: ${COMMAND}`);
  report('dns', {
    ...Object.fromEntries(KINDS.map((kind) => [`${kind}_qps_vs_docker`, ratio(kind, 'weft', 'docker')])),
    plain_container_qps_vs_docker: ratio('container', 'weft_plain', 'docker'),
    container_p50_vs_docker: figures['container_weft_p50_us']! / figures['container_docker_p50_us']!,
    ...Object.fromEntries(peers.map((peerName) => [`container_qps_vs_${peerName}`, ratio('container', 'weft', peerName)])),
  }, figures);
} finally {
  await lab.destroy();
}
process.exit(0);
