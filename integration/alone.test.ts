/**
 *        router
 *      /   |   \
 *    h1   h2   h3     a copy of the store on each; web: s1, s2, s3, one on each
 *
 * weftd of h1 starts while it hears nobody: the others' weftd are dead, and the store with them; then they live, and their gossip does not get through.
 * What h1 has under way goes on, and its sandboxes find the others' by name.
 */
import tap, { type Test, test } from 'tap';
import type { SandboxAnswer } from '../agent/api.ts';
import { withoutLength } from '../base/ip.ts';
import { netnsOf, NumberedFlow } from './faults/numbered-flow.ts';
import { formCluster } from './lab/cluster.ts';
import type { Host } from './lab/host.ts';
import { createLab } from './lab/lab.ts';
import { until, wait } from './lab/run.ts';
import { control, ready, weftJson } from './lab/weft.ts';

/** Packets a second. */
const RATE = 100;
/** Longer than from one look at everything to the next. */
const LONG_MS = 40_000;
/** The others give up the ways to a node that they have not heard for 30 s (drivers/README.md). */
const UNHEARD_MS = 15_000;
/** What h1 has heard is on its disk (cluster/saved.ts). */
const SAVED_MS = 2_000;
const UNDER_WAY_MS = 500;
const GOSSIP_PORT = 7947;
tap.setTimeout(480_000);

void test('a node that starts alone', async (t) => {
  const lab = await createLab({ name: 'alone', hosts: 3 });
  t.teardown(() => lab.destroy());
  const services = await formCluster(lab);
  const hosts = lab.hosts as [Host, Host, Host];
  const [h1, h2, h3] = hosts;
  const service = services.get(h1)!;
  await weftJson(h1, 'network', 'create', 'web');
  for (const host of hosts) await until(`${host.name} has it`, async () => (await control<object[]>(host, 'GET', 'networks')).length === 1);
  const places: { netns: string; address: string }[] = [];
  for (const [i, host] of hosts.entries()) {
    const { address } = await control<SandboxAnswer>(host, 'POST', 'sandboxes', { name: `s${i + 1}`, network: 'web' });
    places.push({ netns: netnsOf(host, `s${i + 1}`), address: withoutLength(address!) });
  }
  const [s1, s2, s3] = places as [typeof places[number], typeof places[number], typeof places[number]];
  const flows = [
    await NumberedFlow.open('s1 to s2', { ...s1, port: 20_001 }, { ...s2, port: 7_000 }),
    await NumberedFlow.open('s1 to s3', { ...s1, port: 20_002 }, { ...s3, port: 7_000 }),
    await NumberedFlow.open('s3 to s1', { ...s3, port: 20_003 }, { ...s1, port: 7_000 }),
  ];
  t.teardown(() => flows.forEach((flow) => flow.close()));
  for (const flow of flows) {
    await until(`${flow.name} works`, async () => {
      flow.probe();
      await wait(100);
      return flow.works;
    });
  }
  const found = async (name: string): Promise<string> => (await h1.exec(['ip', 'netns', 'exec', 's1', 'busybox', 'nslookup', name])).stdout;
  const finds = async (each: Test, name: string, address: string): Promise<void> => {
    await until(`${name} is found`, async () => (await found(name)).includes(address), 10_000);
    each.pass(`${name} is found`);
  };
  await finds(t, 's2', s2.address);
  await finds(t, 's3', s3.address);
  const goesOn = async (each: Test, restart: () => Promise<void>, ms: number): Promise<void> => {
    const before = flows.map((flow) => flow.count());
    for (const flow of flows) flow.start(RATE);
    await restart();
    await finds(each, 's2', s2.address);
    await finds(each, 's3', s3.address);
    await wait(ms);
    for (const flow of flows) flow.pause();
    await wait(UNDER_WAY_MS);
    for (const [i, flow] of flows.entries()) {
      const { sent, lost, doubled, reordered } = flow.count();
      each.same({ lost, doubled, reordered }, { lost: [], doubled: 0, reordered: 0 }, `${flow.name}: ${sent - before[i]!.sent} packets`);
    }
  };
  const restart = async (): Promise<void> => {
    await service.kill();
    await service.start();
    await until('weftd answers', () => control(h1, 'GET', 'networks'));
  };

  await wait(SAVED_MS);
  await t.test('among dead ones, without the store', async (each) => {
    for (const host of [h2, h3]) await services.get(host)!.kill();
    await goesOn(each, restart, LONG_MS);
    // By now its own disk is all that it has ever heard.
    await goesOn(each, restart, 0);
  });
  await t.test('among others that it does not hear', async (each) => {
    for (const host of [h2, h3]) {
      await services.get(host)!.start();
      await ready(host);
    }
    await until('h1 hears them', async () => (await control<{ state: string }[]>(h1, 'GET', 'nodes')).every(({ state }) => state === 'alive'), 60_000);
    const cut = (verb: '-I' | '-D') => Promise.all(['udp', 'tcp'].flatMap((protocol) => ['--dport', '--sport'].map((port) => h1.must(['iptables', verb, 'INPUT', '-p', protocol, port, String(GOSSIP_PORT), '-j', 'DROP']))));
    await cut('-I');
    await goesOn(each, restart, UNHEARD_MS);
    await cut('-D');
    await goesOn(each, async () => {}, 0);
  });
});
