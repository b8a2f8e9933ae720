/**
 *      router      where packets between hosts vanish
 *     /   |  \
 *   h1   h2   h3   Docker, weftd, and a copy of the cluster's own store on each
 *
 * A cluster while things go wrong. What is checked is what users have: traffic, addresses, one view of the cluster.
 *
 *   CHURN_S=600 SEED=7 node integration/cluster-faults.test.ts
 */
import tap, { type Test, test } from 'tap';
import type { NetworkAnswer, SandboxAnswer, StatusAnswer } from '../agent/api.ts';
import { seededRandom } from '../base/random.ts';
import { violations } from '../ipam/tenures-for-tests.ts';
import { Churn } from './faults/churn.ts';
import { type CutTime, Troubles } from './faults/troubles.ts';
import { type Outage, type Party, Traffic } from './faults/traffic.ts';
import { clusterView, findings, kernelView, settledKernelViews, usedAddresses } from './faults/views.ts';
import { formCluster, isWhole } from './lab/cluster.ts';
import type { Host, Service } from './lab/host.ts';
import { IMAGE } from './lab/image.ts';
import { createLab } from './lab/lab.ts';
import { createPartitions, type Partitions } from './lab/partitions.ts';
import { until, wait } from './lab/run.ts';
import { control, ready, weft, weftJson } from './lab/weft.ts';

const CHURN_MS = 1000 * Number(process.env['CHURN_S'] ?? 60);
const SEED = Number(process.env['SEED'] ?? Date.now() % 1_000_000);
/** ipam/README.md */
const REST_MS = 60_000;
/** After the end of a cut, and at any time on a machine that is busy. */
const HICCUP_MS = 1_500;
const SETTLED_MS = 60_000;
/** After a row of cuts TCP may wait for two minutes before it sends again (TCP_RTO_MAX in the kernel's include/net/tcp.h). */
const RETRANSMITTED_MS = 130_000;
/** After Docker answered for the last time: 75 s, and a tick of 15 s. */
const FORGOTTEN_MS = 120_000;
tap.setTimeout(CHURN_MS + 600_000);

interface Scene { hosts: readonly [Host, Host, Host]; services: ReadonlyMap<Host, Service>; partitions: Partitions; parties: readonly Party[]; traffic: readonly Traffic[] }

void test('a cluster of three hosts', async (t) => {
  const lab = await createLab({ name: 'faults', hosts: 3, docker: true, dockerFlags: ['--live-restore'] });
  t.teardown(() => lab.destroy());
  const services = await formCluster(lab);
  const hosts = [lab.host(1), lab.host(2), lab.host(3)] as const;
  const partitions = await createPartitions(lab);

  await t.test('makes one network when three hosts make it at the same instant', (each) => sameInstant(each, hosts));

  await weftJson(hosts[0], 'network', 'create', 'web');
  // Too small for three nodes: they borrow from each other.
  await weftJson(hosts[1], 'network', 'create', '--subnet', '10.200.0.0/27', 'small');
  for (const host of hosts) await until(`Docker of ${host.name} has the networks`, async () => /^small$[^]*^web$/m.test((await host.docker('network', 'ls', '--format', '{{.Name}}'))), 20_000);
  const parties = await Promise.all(hosts.map(async (host): Promise<Party> => {
    const container = `still-${host.name}`;
    await host.docker('run', '-d', '--network', 'web', '--name', container, IMAGE, 'sleep', '100000');
    return { host, container, address: await host.docker('inspect', '-f', '{{.NetworkSettings.Networks.web.IPAddress}}', container) };
  }));
  const traffic = await Promise.all(parties.map((party, i) => Traffic.between(party, parties[(i + 1) % parties.length]!)));
  t.teardown(() => traffic.forEach((each) => each.stop()));
  const scene: Scene = { hosts, services, partitions, parties, traffic };

  // Once built for an endpoint, a network's bridge and tunnel stay.
  for (const host of hosts) await host.docker('run', '--rm', '--network', 'small', IMAGE, 'true');
  await settled(hosts);
  const before = await settledKernelViews(hosts);
  await t.test(`lives through a random trouble every second for ${CHURN_MS / 1000} s, seed ${SEED}`, (each) => churn(each, scene));
  await t.test('lives without its store', (each) => storeAway(each, scene));
  await t.test('is as it was before', (each) => repaired(each, scene, before));
});

async function sameInstant(t: Test, hosts: Scene['hosts']): Promise<void> {
  const pools = async (host: Host): Promise<string[]> => (await weftJson<{ subnet: string }[]>(host, 'ipam', 'ls')).map(({ subnet }) => subnet);
  const names = (host: Host): Promise<string[]> => control<NetworkAnswer[]>(host, 'GET', 'networks').then((all) => all.map(({ id, subnets }) => `${id} ${subnets[0]?.subnet}`));
  const made = await Promise.allSettled(hosts.map((host) => control<NetworkAnswer>(host, 'POST', 'networks', { name: 'twin', driver: 'overlay' })));
  const won = made.flatMap((each) => (each.status === 'fulfilled' ? [each.value] : []));
  t.equal(won.length, 1, 'one of the three makes it');
  for (const each of made) if (each.status === 'rejected') t.match(each.reason, { message: /^WEFT-NETWORK-EXISTS/ });
  for (const host of hosts) await until(`${host.name} has it`, async () => (await names(host)).join() === `${won[0]!.id} ${won[0]!.subnets[0]!.subnet}`);
  t.same(await pools(hosts[0]), [won[0]!.subnets[0]!.subnet], 'the others left no subnet behind');
  for (const host of hosts) await until(`Docker of ${host.name} has it`, async () => (await host.docker('network', 'ls', '-q', '--filter', 'name=twin')) !== '', 20_000);
  await control(hosts[2], 'DELETE', 'networks/twin');
  for (const host of hosts) await until(`${host.name} has it no more`, async () => (await names(host)).length === 0 && (await host.docker('network', 'ls', '-q', '--filter', 'name=twin')) === '', 20_000);

  const byDocker = await Promise.all(hosts.map((host) => host.tryDocker('network', 'create', '-d', 'weft-overlay', '--ipam-driver', 'weft', '--subnet', '10.201.0.0/24', 'twin')));
  t.equal(byDocker.filter(({ code }) => code === 0).length, 1, 'and of the same subnet, through Docker');
  for (const { code, stderr } of byDocker) if (code !== 0) t.match(stderr, /WEFT-SUBNET-OVERLAP|already exists/);
  for (const host of hosts) await until(`${host.name} has it`, async () => (await host.docker('network', 'ls', '-q', '--filter', 'name=twin')).split('\n').length === 1 && (await names(host)).length === 1, 20_000);
  t.same(await pools(hosts[0]), ['10.201.0.0/24']);
  t.equal((await weft(hosts[1], 'network', 'rm', 'twin')).code, 0);
  for (const host of hosts) await until(`${host.name} has it no more`, async () => (await host.docker('network', 'ls', '-q', '--filter', 'name=twin')) === '', 20_000);
}

async function churn(t: Test, { hosts, services, partitions, traffic }: Scene): Promise<void> {
  const coming = new Churn({ hosts, networks: ['web', 'small'], dockerNetwork: 'web', seed: SEED });
  const troubles = new Troubles({
    hosts, services, partitions, random: seededRandom(SEED),
    dockerKilled: (host) => {
      const at = coming.history.mark();
      return () => coming.lost(host, at);
    },
  });
  const start = performance.now();
  coming.start();
  const count = await troubles.run(CHURN_MS);
  await coming.end();
  t.comment(JSON.stringify({ troubles: count, ...coming.counts, refused: coming.refused, seconds: Math.round((performance.now() - start) / 1000) }));
  t.ok(coming.counts.given > CHURN_MS / 1000 && coming.counts.containers > CHURN_MS / 10_000, 'it went on all the while');
  t.same(violations(coming.history.tenures, REST_MS), [], 'no address was given twice');

  for (const each of traffic) {
    const cuts = troubles.cuts.filter(({ between }) => between.every((host) => host === each.from.host || host === each.to.host));
    t.same(each.outages(HICCUP_MS).filter((outage) => !isExplained(outage, cuts)), [], `${each.name}: interrupted by cuts only`);
  }
  for (const each of traffic) {
    const { sent } = each.stream();
    await until('what was sent has arrived', () => each.stream().received >= sent, RETRANSMITTED_MS).catch(() => undefined);
    t.ok(each.stream().received >= sent && each.stream().inOrder, `${each.name}: one TCP connection, nothing lost of ${sent} lines`);
  }

  await settled(hosts);
  if (!t.passing()) t.comment(troubles.log.join('\n'));
}

/** Everything as before: what every node sees, its addresses, its kernel. */
async function repaired(t: Test, { hosts, parties }: Scene, before: readonly string[]): Promise<void> {
  const seen = async (): Promise<string[]> => (await clusterView(hosts[0])).filter((line) => line.startsWith('endpoint')).map((line) => line.split(' ')[4]!);
  await until('what a killed Docker forgot is removed', async () => (await seen()).length === parties.length, SETTLED_MS, 500).catch(() => undefined);
  t.same(await seen(), parties.map(({ container }) => container), 'all nodes see the same, and nothing of the churn');
  for (const [i, host] of hosts.entries()) {
    await until('it is taken off the kernel', async () => await kernelView(host) === before[i], SETTLED_MS, 500).catch(() => undefined);
    t.equal(await kernelView(host), before[i], `${host.name}: nothing is left in the kernel`);
    await until('what starts that were killed had been given is released', async () => await usedAddresses(host) === 1, FORGOTTEN_MS, 500).catch(() => undefined);
    t.equal(await usedAddresses(host), 1, `${host.name}: all its addresses were given back`);
    await until('what a killed Docker forgot is removed', async () => (await findings(host)).length === 0, SETTLED_MS, 500).catch(() => undefined);
    t.same(await findings(host), [], `${host.name}: weft ipam check is clean`);
  }
}

/** Cuts that follow each other leave no time for traffic between them. */
function isExplained({ from, to }: Outage, cuts: readonly CutTime[]): boolean {
  let explained = from;
  for (const cut of cuts.toSorted((a, b) => a.from - b.from)) if (cut.from - explained < HICCUP_MS) explained = Math.max(explained, cut.to + HICCUP_MS);
  return to - explained < HICCUP_MS;
}

/** All copies of the store are there, all nodes alive, and all see the same. */
async function settled(hosts: readonly Host[]): Promise<void> {
  await until('the store is whole', async () => (await Promise.all(hosts.map(isWhole))).every(Boolean), SETTLED_MS, 500);
  await until('all nodes see the same', async () => {
    const views = await Promise.all(hosts.map(clusterView));
    return new Set(views.map((view) => view.join('\n'))).size === 1 && views[0]!.filter((line) => /^node .* alive$/.test(line)).length === hosts.length;
  }, SETTLED_MS, 500);
}

async function storeAway(t: Test, { hosts, services, traffic }: Scene): Promise<void> {
  const [h1, h2, h3] = hosts;
  const status = (host: Host): Promise<StatusAnswer> => control<StatusAnswer>(host, 'GET', 'status');
  const left = async (host: Host): Promise<number> => (await status(host)).pools.filter(({ subnet }) => subnet.startsWith('10.192.')).reduce((sum, { free, resting }) => sum + free + resting, 0);
  const start = performance.now();
  for (const host of [h1, h2]) await host.must(['pkill', '-STOP', '-x', 'etcd']);
  await until('weft status says what is degraded, and how many addresses are left', async () =>
    /^store .*: does not answer\n.*in hand: \d+ address(es)? left .*10\.192\.\d+\.0\/24.*Waiting for the store:/m.test((await weft(h3, 'status')).stdout), 20_000);
  t.match((await weft(h3, 'status')).stdout, /on h1, h2, h3: their hosts are there and the store does not answer/);
  t.match((await weft(h1, 'status')).stdout, /this node's copy of the store: etcd does not answer/, 'and on the host itself what is wrong');

  const addresses: string[] = [];
  for (const host of hosts) {
    const before = await left(host);
    const { address } = await control<SandboxAnswer>(host, 'POST', 'sandboxes', { name: 'late', network: 'web' });
    addresses.push(address!);
    t.equal(await left(host), before - 1, `${host.name} starts from the addresses in hand`);
  }
  await h3.docker('run', '-d', '--network', 'web', '--name', 'late-docker', IMAGE, 'sleep', '100000');
  addresses.push(await h3.docker('inspect', '-f', '{{.NetworkSettings.Networks.web.IPAddress}}', 'late-docker'));
  t.equal(new Set(addresses.map((each) => each.split('/')[0])).size, addresses.length);
  const reaches = async (from: string, to: string): Promise<boolean> => (await h3.exec(['ip', 'netns', 'exec', from, 'busybox', 'ping', '-c', '1', '-W', '1', to])).code === 0;
  await until('a new sandbox reaches one of another host by its name', () => reaches('late', 'late-docker'), 10_000);
  const asked = performance.now();
  t.match((await weft(h3, 'network', 'create', 'another')).stderr, /WEFT-STORE-UNREACHABLE/, 'a network has to wait');
  t.ok(performance.now() - asked < 15_000, `which is said after ${Math.round(performance.now() - asked)} ms`);
  await services.get(h3)!.crash();
  await ready(h3);
  t.ok(await reaches('late', 'still-h1'), 'weftd starts without the store');

  for (const host of [h1, h2]) await host.must(['pkill', '-CONT', '-x', 'etcd']);
  await settled(hosts);
  await wait(HICCUP_MS);
  for (const each of traffic) t.same(each.outages(HICCUP_MS).filter(({ to }) => to > start), [], `${each.name}: not interrupted`);
  await h3.docker('rm', '-f', 'late-docker');
  for (const host of hosts) await control(host, 'DELETE', 'sandboxes/late');
}
