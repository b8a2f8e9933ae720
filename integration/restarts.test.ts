/**
 *        outside ── server, client
 *           |
 *        router
 *       /      \
 *     h1        h2      Docker, weftd; etcd on h1
 *   web: aa     bb      lan (a bridge network): ll on h1
 *
 * weftd of both hosts is killed, stopped and replaced by another copy of itself, again and again. What the containers have
 * under way does not notice.
 *
 *   RESTARTS_S=300 SEED=7 node integration/restarts.test.ts
 */
import { cp, mkdir, rename, symlink } from 'node:fs/promises';
import { join } from 'node:path';
import tap, { type Test, test } from 'tap';
import { seededRandom } from '../base/random.ts';
import { NumberedFlow, stayOnOneProcessor } from './faults/numbered-flow.ts';
import { clusterView } from './faults/views.ts';
import { startEtcd } from './lab/etcd.ts';
import type { Host, Service } from './lab/host.ts';
import { IMAGE } from './lab/image.ts';
import { createLab, type Lab, OUTSIDER_ADDRESS } from './lab/lab.ts';
import { until, wait } from './lab/run.ts';
import { BUNDLE, ready, weftUp } from './lab/weft.ts';

const RESTARTS_MS = 1000 * Number(process.env['RESTARTS_S'] ?? 30);
const SEED = Number(process.env['SEED'] ?? Date.now() % 1_000_000);
/** Packets a second, of each flow. */
const RATE = 200;
const PUBLISHED = 8053;
const SERVED = 7000;
/** Longer than it takes to be thought dead, and less than a failed node's endpoints are kept (cluster/failed-nodes.ts). */
const AWAY_MS = 12_000;
/** How long a packet may be, on a busy machine. */
const UNDER_WAY_MS = 1_000;
tap.setTimeout(RESTARTS_MS + 300_000);

/** A directory with two copies of the bundle, and a link to one of them. */
class Installation {
  readonly path: string;
  readonly #directory: string;
  #copy = 0;

  constructor(host: Host) {
    this.#directory = join(host.directory, 'installed');
    this.path = join(this.#directory, 'current');
  }

  async make(): Promise<this> {
    await mkdir(this.#directory, { recursive: true });
    for (const copy of ['0', '1']) await cp(BUNDLE, join(this.#directory, copy), { recursive: true });
    await symlink('0', this.path);
    return this;
  }

  /** As package managers do: the next start runs the other one. */
  async replace(): Promise<void> {
    this.#copy = 1 - this.#copy;
    const next = join(this.#directory, 'next');
    await symlink(String(this.#copy), next);
    await rename(next, this.path);
  }
}

interface Node { host: Host; service: Service; installation: Installation }

async function startNode(host: Host, store: string): Promise<Node> {
  const installation = await new Installation(host).make();
  return { host, installation, service: await weftUp(host, { store, bundle: installation.path }) };
}

const WAYS: Record<string, (node: Node, pause: number) => Promise<void>> = {
  killed: async ({ service }, pause) => {
    await service.kill();
    await wait(pause);
    await service.start();
  },
  // While it starts, as often as not.
  crashed: async ({ service }, pause) => {
    await service.crash();
    await wait(pause);
    await service.crash();
  },
  stopped: async ({ service }, pause) => {
    await service.stop();
    await wait(pause);
    await service.start();
  },
  upgraded: async ({ service, installation }) => {
    await installation.replace();
    await service.stop();
    await service.start();
  },
};

void test('weftd that is killed, stopped and replaced while its containers talk', async (t) => {
  const lab = await createLab({ name: 'restarts', hosts: 2, docker: true });
  t.teardown(() => lab.destroy());
  const [h1, h2] = [lab.host(1), lab.host(2)];
  const etcd = await startEtcd(h1);
  const nodes = await Promise.all([h1, h2].map((host) => startNode(host, etcd.url)));
  await h1.docker('network', 'create', '-d', 'weft-overlay', '--ipam-driver', 'weft', 'web');
  await h1.docker('network', 'create', '-d', 'weft-bridge', 'lan');
  await until('h2 has the network', async () => (await h2.docker('network', 'ls', '-q', '--filter', 'name=web')) !== '', 20_000);
  await stayOnOneProcessor();
  const flows = await openFlows(lab, h1, h2);
  t.teardown(() => flows.forEach((flow) => flow.close()));

  await t.test(`loses no packet in ${RESTARTS_MS / 1000} s, seed ${SEED}`, async (each) => {
    const counts = await restart(nodes, flows);
    each.comment(JSON.stringify(counts));
    for (const [way, count] of Object.entries(counts)) each.ok(count > 0, `${way} ${count} times`);
    report(each, flows);
  });
  await t.test(`nor while one is away for ${AWAY_MS / 1000} s, and the other is killed meanwhile`, async (each) => {
    for (const flow of flows) flow.start(RATE);
    await nodes[0]!.service.kill();
    await wait(AWAY_MS);
    each.ok((await clusterView(h2)).includes('node h1 dead'), 'it is thought dead');
    await nodes[1]!.service.crash();
    await ready(h2);
    await nodes[0]!.service.start();
    await ready(h1);
    for (const flow of flows) flow.pause();
    await wait(UNDER_WAY_MS);
    report(each, flows);
  });
  await t.test('and is as it was', async (each) => {
    each.equal((await h2.tryDocker('run', '--rm', '--network', 'web', IMAGE, 'ping', '-c', '1', '-W', '5', 'aa')).code, 0, 'names and new containers');
  });
});

/** Each has answered before this resolves. */
async function openFlows(lab: Lab, h1: Host, h2: Host): Promise<NumberedFlow[]> {
  const container = async (host: Host, network: string, name: string, ...more: string[]) => {
    await host.docker('run', '-d', '--stop-signal', 'KILL', '--network', network, '--name', name, ...more, IMAGE, 'sleep', '100000');
    return { netns: await host.containerNetns(name), address: await host.docker('inspect', '-f', `{{.NetworkSettings.Networks.${network}.IPAddress}}`, name) };
  };
  const a = await container(h1, 'web', 'aa', '-p', `${PUBLISHED}:${SERVED}/udp`);
  const b = await container(h2, 'web', 'bb');
  const l = await container(h1, 'lan', 'll', '-p', `${PUBLISHED + 1}:${SERVED}/udp`);
  const outside = { netns: `/run/netns/${lab.namespace('outside')}`, address: OUTSIDER_ADDRESS };
  let port = 20_000;
  const from = (place: { netns: string; address: string }) => ({ ...place, port: port++ });
  const flows = [
    await NumberedFlow.open('aa to bb', from(a), { ...b, port: 7_100 }),
    await NumberedFlow.open('bb to outside', from(b), { ...outside, port: 7_101 }),
    await NumberedFlow.open('ll to outside, by the bridge', from(l), { ...outside, port: 7_102 }),
    await NumberedFlow.open('outside to aa, by the port of h2', from(outside), { ...a, port: SERVED }, { address: h2.address, port: PUBLISHED }),
    await NumberedFlow.open('outside to ll, by the port of h1', from(outside), { ...l, port: SERVED }, { address: h1.address, port: PUBLISHED + 1 }),
  ];
  for (const flow of flows) {
    await until(`${flow.name} works`, async () => {
      flow.probe();
      await wait(100);
      return flow.works;
    }, 20_000);
  }
  return flows;
}

/** One node or both at once, down for a moment or for seconds, begun again when it answers or before that. Returns how often each way was taken. */
async function restart(nodes: readonly Node[], flows: readonly NumberedFlow[]): Promise<Record<string, number>> {
  const random = seededRandom(SEED);
  const counts = Object.fromEntries(Object.keys(WAYS).map((way) => [way, 0]));
  const end = Date.now() + RESTARTS_MS;
  for (const flow of flows) flow.start(RATE);
  for (let i = 0; Date.now() < end || i < Object.keys(WAYS).length; i++) {
    // Each of them, also in a short run.
    const way = Object.keys(WAYS)[i % Object.keys(WAYS).length]!;
    // Both at first: what they have just learnt is on no disk yet.
    const chosen = i === 0 ? nodes : [nodes, nodes.slice(0, 1), nodes.slice(1)][random.int(3)]!;
    const pause = random.int(1_500);
    counts[way]!++;
    await Promise.all(chosen.map((node) => WAYS[way]!(node, pause)));
    if (random.int(2) === 0) await Promise.all(chosen.map(({ host }) => ready(host)));
    await wait(random.int(1_000));
  }
  await Promise.all(nodes.map(({ host }) => ready(host)));
  for (const flow of flows) flow.pause();
  await wait(UNDER_WAY_MS);
  return counts;
}

function report(t: Test, flows: readonly NumberedFlow[]): void {
  for (const flow of flows) {
    const { sent, ...troubles } = flow.count();
    t.same(troubles, { lost: [], doubled: 0, reordered: 0 }, `${flow.name}: ${sent} packets`);
  }
}
