/**
 *      router      where packets between hosts vanish
 *     /   |  \
 *   h1   h2   h3   Docker, weftd, and a copy of the cluster's own store on each
 *
 * A cluster while things go wrong. Its checks are on what users have: traffic, addresses, one view of the cluster.
 *
 *   CHURN_S=600 SEED=7 node integration/cluster-faults.test.ts
 */
import tap, { test } from 'tap';
import { seededRandom } from '../base/random.ts';
import { violations } from '../ipam/tenures-for-tests.ts';
import { Churn } from './faults/churn.ts';
import { type Party, Traffic } from './faults/traffic.ts';
import { Troubles } from './faults/troubles.ts';
import { clusterView, findings, kernelView, usedAddresses } from './faults/views.ts';
import { formCluster, isWhole } from './lab/cluster.ts';
import { IMAGE } from './lab/image.ts';
import { createLab } from './lab/lab.ts';
import { createPartitions } from './lab/partitions.ts';
import { until } from './lab/run.ts';
import { weftJson } from './lab/weft.ts';

const CHURN_MS = 1000 * Number(process.env['CHURN_S'] ?? 60);
const SEED = Number(process.env['SEED'] ?? Date.now() % 1_000_000);
/** ipam/README.md */
const REST_MS = 60_000;
/** After the end of a cut, and at any time on a machine that is busy. */
const HICCUP_MS = 1_500;
tap.setTimeout(CHURN_MS + 400_000);

void test(`a random trouble every second for ${CHURN_MS / 1000} s, seed ${SEED}`, async (t) => {
  const lab = await createLab({ name: 'faults', hosts: 3, docker: true, dockerFlags: ['--live-restore'] });
  t.teardown(() => lab.destroy());
  const { hosts } = lab;
  const services = await formCluster(lab);
  await weftJson(lab.host(1), 'network', 'create', 'web');
  // Too small for three nodes: they borrow from each other.
  await weftJson(lab.host(2), 'network', 'create', '--subnet', '10.200.0.0/27', 'small');
  for (const host of hosts) await until(`Docker of ${host.name} has the networks`, async () => /^small$[^]*^web$/m.test((await host.docker('network', 'ls', '--format', '{{.Name}}'))), 20_000);
  const parties = await Promise.all(hosts.map(async (host): Promise<Party> => {
    const container = `still-${host.name}`;
    await host.docker('run', '-d', '--network', 'web', '--name', container, IMAGE, 'sleep', '100000');
    return { host, container, address: await host.docker('inspect', '-f', '{{.NetworkSettings.Networks.web.IPAddress}}', container) };
  }));
  const traffic = await Promise.all(parties.map((party, i) => Traffic.between(party, parties[(i + 1) % parties.length]!)));
  t.teardown(() => traffic.forEach((each) => each.stop()));
  await until('all is quiet', async () => (await Promise.all(hosts.map(isWhole))).every(Boolean), 20_000);
  const before = await Promise.all(hosts.map(kernelView));

  const churn = new Churn({ hosts, networks: ['web', 'small'], dockerNetwork: 'web', seed: SEED });
  const troubles = new Troubles({
    hosts, services, partitions: await createPartitions(lab), random: seededRandom(SEED),
    dockerKilled: (host) => {
      const at = churn.history.mark();
      return () => churn.lost(host, at);
    },
  });
  churn.start();
  const count = await troubles.run(CHURN_MS);
  await churn.end();
  t.comment(JSON.stringify({ troubles: count, ...churn.counts, refused: churn.refused }));
  t.ok(churn.counts.given > CHURN_MS / 1000 && churn.counts.containers > CHURN_MS / 10_000, 'it went on all the while');
  t.same(violations(churn.history.tenures, REST_MS), [], 'no address was given twice');

  for (const each of traffic) {
    const cuts = troubles.cuts.filter(({ between }) => between.every((host) => host === each.from.host || host === each.to.host));
    const unexplained = each.outages(HICCUP_MS).filter(({ from, to }) => {
      const covered = cuts.map((cut) => ({ from: cut.from, to: cut.to + HICCUP_MS })).sort((a, b) => a.from - b.from);
      let at = from;
      for (const cut of covered) if (cut.from - at < HICCUP_MS) at = Math.max(at, cut.to);
      return to - at > HICCUP_MS;
    });
    t.same(unexplained, [], `${each.name}: interrupted by cuts only`);
  }
  for (const each of traffic) each.pause();
  for (const each of traffic) {
    await until('the last lines arrive', () => each.stream().received >= each.stream().sent, 30_000).catch(() => undefined);
    const { sent, received, inOrder } = each.stream();
    t.ok(received === sent && inOrder, `${each.name}: one TCP connection, ${received} of ${sent} lines`);
  }

  const settled = (what: string, ask: () => Promise<boolean>): Promise<unknown> => until(what, ask, 90_000, 500).catch((error: unknown) => t.fail(String(error)));
  await settled('the store is whole', async () => (await Promise.all(hosts.map(isWhole))).every(Boolean));
  await settled('all nodes see the same', async () => new Set((await Promise.all(hosts.map(clusterView))).map((view) => view.join('\n'))).size === 1);
  const [view] = await Promise.all(hosts.map(clusterView));
  t.equal(view!.filter((line) => line.startsWith('endpoint')).length, parties.length, 'and nothing of the churn');
  t.equal(view!.filter((line) => / alive$/.test(line)).length, hosts.length);
  for (const [i, host] of hosts.entries()) {
    await settled(`${host.name} has nothing left`, async () => await kernelView(host) === before[i]);
    t.equal(await kernelView(host), before[i], `${host.name}: nothing is left in the kernel`);
    t.equal(await usedAddresses(host), 1, `${host.name}: all addresses of the churn were given back`);
    t.same(await findings(host), [], `${host.name}: weft ipam check is clean`);
  }
  if (!t.passing()) t.comment(troubles.log.join('\n'));
});
