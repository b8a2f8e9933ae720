/**
 * What a packet costs on its way between containers, and from a container to the outside.
 *
 *   h1 ──┐          ┌── h2      h1, h3: weft-overlay, weft-bridge, weft-macvlan, a hand-made VXLAN with a bridge, a bare veth pair, Docker's bridge
 *        ├─ router ─┤           h2, h4: Docker's own swarm overlay and macvlan
 *   h3 ──┘    │     └── h4      Hosts of a pair are on one segment.
 *          outside
 *
 * Interleaved in random order, in one run.
 */
import type { Host } from '../integration/lab/host.ts';
import { IMAGE } from '../integration/lab/image.ts';
import { createLab, OUTSIDER_ADDRESS, type Lab } from '../integration/lab/lab.ts';
import { startEtcd } from '../integration/lab/etcd.ts';
import { addSegment } from '../integration/lab/segment.ts';
import { must, until } from '../integration/lab/run.ts';
import { weftUp } from '../integration/lab/weft.ts';
import { inRandomOrder, median, report } from './figures.ts';
import { measure, requireTools, serve, type Costs, type Path } from './path-tools.ts';

const ROUNDS = Number(process.env['ROUNDS'] ?? 5);
const WARM_UP = 1;
const COMMAND = 'npm run bench -- path';

interface Subject { name: string; path: Path; before?: () => Promise<unknown> }

const netnsOf = (name: string): string => `/run/netns/${name}`;

/** Two containers on a network, and the way from the first to the second. */
async function containers(name: string, network: string, [from, to]: readonly [Host, Host]): Promise<Path> {
  const start = (host: Host, end: string): Promise<string> => host.docker('run', '-d', '--stop-signal', 'KILL', '--name', `${name}-${end}`, '--network', network, IMAGE, 'sleep', '100000');
  await start(from, 'a');
  await start(to, 'b');
  const address = await to.docker('inspect', '-f', '{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}', `${name}-b`);
  return { client: await from.containerNetns(`${name}-a`), server: await to.containerNetns(`${name}-b`), address };
}

/** A veth pair between two namespaces of their own. */
async function barePair(lab: Lab): Promise<Path> {
  const [a, b] = [lab.namespace('veth-a'), lab.namespace('veth-b')];
  for (const name of [a, b]) await must(['ip', 'netns', 'add', name]);
  await must(['ip', 'link', 'add', 'eth0', 'netns', a, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', b]);
  for (const [name, address] of [[a, '10.77.0.1/24'], [b, '10.77.0.2/24']] as const) {
    await must(['ip', '-n', name, 'addr', 'add', address, 'dev', 'eth0']);
    await must(['ip', '-n', name, 'link', 'set', 'eth0', 'up']);
  }
  return { client: netnsOf(a), server: netnsOf(b), address: '10.77.0.2' };
}

/** What an administrator would make: on each host a namespace with a VXLAN and a bridge, and one for the container. */
async function handMade(lab: Lab, hosts: readonly [Host, Host]): Promise<Path> {
  const ends = hosts.map((host, i) => ({ host, other: hosts[1 - i]!, bridge: lab.namespace(`hm-br${i}`), container: lab.namespace(`hm-ct${i}`), address: `10.78.0.${i + 1}` }));
  for (const { host, other, bridge, container, address } of ends) {
    for (const name of [bridge, container]) await must(['ip', 'netns', 'add', name]);
    // The tunnel's socket stays in the host.
    await must(['ip', '-n', host.namespace, 'link', 'add', 'hm-vx', 'type', 'vxlan', 'id', '77', 'dstport', '4790', 'local', host.address, 'remote', other.address]);
    await must(['ip', '-n', host.namespace, 'link', 'set', 'hm-vx', 'netns', bridge]);
    await must(['ip', '-n', bridge, 'link', 'add', 'br0', 'type', 'bridge']);
    await must(['nsenter', `--net=${netnsOf(bridge)}`, 'sysctl', '-q', '-w', 'net.bridge.bridge-nf-call-iptables=0']);
    await must(['ip', 'link', 'add', 'p0', 'netns', bridge, 'mtu', '1450', 'type', 'veth', 'peer', 'name', 'eth0', 'mtu', '1450', 'netns', container]);
    for (const port of ['hm-vx', 'p0']) await must(['ip', '-n', bridge, 'link', 'set', port, 'master', 'br0', 'up']);
    await must(['ip', '-n', bridge, 'link', 'set', 'br0', 'up']);
    await must(['ip', '-n', container, 'addr', 'add', `${address}/24`, 'dev', 'eth0']);
    await must(['ip', '-n', container, 'link', 'set', 'eth0', 'up']);
  }
  return { client: netnsOf(ends[0]!.container), server: netnsOf(ends[1]!.container), address: ends[1]!.address };
}

await requireTools();
const lab = await createLab({ name: 'path', hosts: 4, docker: true });
const stops: (() => void)[] = [];
try {
  const [h1, h2, h3, h4] = lab.hosts as [Host, Host, Host, Host];
  // A LAN, for macvlan.
  await addSegment(lab, 'eth1', { h1: undefined, h2: undefined, h3: undefined, h4: undefined });
  const etcd = await startEtcd(h1);
  for (const host of [h1, h3]) await weftUp(host, { store: etcd.url });
  await h2.docker('swarm', 'init', '--advertise-addr', h2.address);
  await h4.docker('swarm', 'join', '--token', await h2.docker('swarm', 'join-token', '-q', 'worker'), `${h2.address}:2377`);
  await h2.docker('network', 'create', '-d', 'overlay', '--attachable', 'so');
  await h1.docker('network', 'create', '-d', 'weft-overlay', '--ipam-driver', 'weft', 'wo');
  await h1.docker('network', 'create', '-d', 'weft-bridge', 'wb');
  await h1.docker('network', 'create', 'ub');
  await h1.docker('network', 'create', '-d', 'weft-macvlan', '-o', 'parent=eth1', '--subnet', '10.79.0.0/24', 'wm');
  for (const [i, host] of [h2, h4].entries()) await host.docker('network', 'create', '-d', 'macvlan', '-o', 'parent=eth1', '--subnet', '10.80.0.0/24', '--ip-range', `10.80.0.${64 * (i + 1)}/26`, 'km');
  await until('the macvlan is on both hosts', async () => (await h3.tryDocker('network', 'inspect', 'wm')).code === 0);
  await until('the network is on both hosts', async () => (await h3.tryDocker('network', 'inspect', 'wo')).code === 0);
  const bare = await containers('bare', 'wo', [h1, h3]);
  // Docker's, that is: weftd's own table is not to be flushed by anybody else, so packets are tracked all the same.
  const withoutRules = (): Promise<unknown> => Promise.all([bare.client, bare.server].map((netns) => must(['nsenter', `--net=${netns}`, 'nft', 'flush', 'ruleset'])));
  const outside = (client: string): Path => ({ client, server: netnsOf(lab.namespace('outside')), address: OUTSIDER_ADDRESS });
  const overlay = await containers('wo', 'wo', [h1, h3]);
  const dockerBridge = await containers('ub', 'ub', [h1, h1]);
  const subjects: Subject[] = [
    { name: 'veth', path: await barePair(lab) },
    { name: 'underlay', path: { client: h1.netnsPath, server: h3.netnsPath, address: h3.address } },
    { name: 'hand_made', path: await handMade(lab, [h1, h3]) },
    { name: 'weft_overlay', path: overlay },
    { name: 'weft_overlay_without_rules', path: bare, before: withoutRules },
    { name: 'docker_overlay', path: await containers('so', 'so', [h2, h4]) },
    { name: 'weft_bridge', path: await containers('wb', 'wb', [h1, h1]) },
    { name: 'docker_bridge', path: dockerBridge },
    { name: 'weft_macvlan', path: await containers('wm', 'wm', [h1, h3]) },
    { name: 'docker_macvlan', path: await containers('km', 'km', [h2, h4]) },
    { name: 'weft_overlay_northsouth', path: outside(overlay.client) },
    { name: 'docker_bridge_northsouth', path: outside(dockerBridge.client) },
  ];
  for (const server of new Set(subjects.map(({ path }) => path.server))) stops.push(await serve(server));

  const measured = new Map<string, Costs[]>(subjects.map(({ name }) => [name, []]));
  for (let i = -WARM_UP; i < ROUNDS; i++) {
    for (const { name, path, before } of inRandomOrder(subjects)) {
      const costs = await measure(path, before);
      if (i >= 0) measured.get(name)!.push(costs);
    }
  }
  const middle = (name: string, key: keyof Costs): number => median(measured.get(name)!.map((costs) => costs[key]));
  const figures: Record<string, number> = { n: ROUNDS };
  for (const { name } of subjects) {
    figures[`${name}_packets_per_cpu_second`] = middle(name, 'packetsPerCpuSecond');
    figures[`${name}_rtt_us`] = middle(name, 'roundTripUs');
    figures[`${name}_tcp_gbit_per_cpu_second`] = middle(name, 'tcpBitsPerCpuSecond') / 1e9;
  }
  const ratio = (key: keyof Costs, ours: string, theirs: string): number => middle(ours, key) / middle(theirs, key);
  console.log(`repeat with: ${COMMAND}`);
  report('path', {
    overlay_packets_vs_docker: ratio('packetsPerCpuSecond', 'weft_overlay', 'docker_overlay'),
    overlay_rtt_vs_docker: ratio('roundTripUs', 'weft_overlay', 'docker_overlay'),
    overlay_tcp_vs_docker: ratio('tcpBitsPerCpuSecond', 'weft_overlay', 'docker_overlay'),
    bridge_packets_vs_docker: ratio('packetsPerCpuSecond', 'weft_bridge', 'docker_bridge'),
    bridge_rtt_vs_docker: ratio('roundTripUs', 'weft_bridge', 'docker_bridge'),
    bridge_tcp_vs_docker: ratio('tcpBitsPerCpuSecond', 'weft_bridge', 'docker_bridge'),
    northsouth_vs_docker_bridge: ratio('packetsPerCpuSecond', 'weft_overlay_northsouth', 'docker_bridge_northsouth'),
    macvlan_packets_vs_docker: ratio('packetsPerCpuSecond', 'weft_macvlan', 'docker_macvlan'),
    macvlan_rtt_vs_docker: ratio('roundTripUs', 'weft_macvlan', 'docker_macvlan'),
    macvlan_tcp_vs_docker: ratio('tcpBitsPerCpuSecond', 'weft_macvlan', 'docker_macvlan'),
    overlay_packets_vs_hand_made: ratio('packetsPerCpuSecond', 'weft_overlay', 'hand_made'),
    overlay_without_rules_packets_vs_docker: ratio('packetsPerCpuSecond', 'weft_overlay_without_rules', 'docker_overlay'),
  }, figures);
} finally {
  for (const stop of stops) stop();
  await lab.destroy();
}
process.exit(0);
