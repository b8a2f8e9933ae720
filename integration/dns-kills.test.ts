/**
 *   h1     Docker, weftd
 *      └ web: target; ten containers that ask for it, 2,000 times a second together
 *
 * weftd is killed under that load, again and again: Docker's resolver answers at once, and ours when it is back.
 *
 *   KILLS=50 SEED=7 node integration/dns-kills.test.ts
 */
import tap, { type Test, test } from 'tap';
import { seededRandom } from '../base/random.ts';
import { openNetns } from '../linux/netns.ts';
import { QueryLoad } from './faults/query-load.ts';
import type { Host, Service } from './lab/host.ts';
import { IMAGE } from './lab/image.ts';
import { createLab } from './lab/lab.ts';
import { until, wait } from './lab/run.ts';
import { weft, weftJson, weftUp } from './lab/weft.ts';

const KILLS = Number(process.env['KILLS'] ?? 4);
const SEED = Number(process.env['SEED'] ?? Date.now() % 1_000_000);
const CONTAINERS = 10;
const RATE = 2_000;
/** resolv.conf(5). */
const RETRY_MS = 5_000;
const OUR_TTL = 5;
const DOCKERS_TTL = 600;
/** Before the supervisor starts it again (lab/supervisor.ts). */
const DOWN_MS = 100;
const BACK_MS = 1_000;
/** What an empty program takes in Node on a machine that does nothing else: where it takes longer, weftd has as much longer. */
const EMPTY_MS = 50;
/** From one kill to the next: what the first one lost has been asked again. */
const PAUSE_MS = { least: RETRY_MS + 1_000, more: 1_000 };
tap.setTimeout(180_000 + KILLS * 8_000);

void test('weftd is killed while containers ask', async (t) => {
  const lab = await createLab({ name: 'dnskills', hosts: 1, docker: true });
  t.teardown(() => lab.destroy());
  const host = lab.host(1);
  const service = await weftUp(host);
  const load = await begin(t, host);
  t.comment(`seed ${SEED}`);
  const back = await kill(load, host, service);
  await load.end();
  t.comment(JSON.stringify(load.count), `ours again after ${back.map(({ ms, slowness }) => `${ms.toFixed(0)}/${slowness.toFixed(1)}`).join(', ')} ms`);
  const { count } = load;
  t.equal(count.lost, 0, `of ${count.asked} questions, ${count.askedAgain} were asked again, and none a third time`);
  t.same(count.wrong, {}, 'every answer is right');
  t.ok(count.answered[DOCKERS_TTL]! > 0 && count.answered[OUR_TTL]! > count.answered[DOCKERS_TTL]!, 'Docker\'s resolver meanwhile, ours as a rule');
  t.ok(Math.min(...back.map(({ ms, slowness }) => ms / slowness)) <= BACK_MS, 'ours answers in every container again within a second of its start');
  t.ok(Math.max(...back.map(({ ms }) => ms)) <= RETRY_MS, 'and always within a retry');
});

async function begin(t: Test, host: Host): Promise<QueryLoad> {
  await until('Docker answers', async () => /docker +answers/.test((await weft(host, 'status')).stdout));
  await weftJson(host, 'network', 'create', 'web');
  await until('Docker has the network', async () => (await host.tryDocker('network', 'inspect', 'web')).code === 0);
  const names = ['target', ...Array.from({ length: CONTAINERS }, (_, i) => `c${i}`)];
  for (const name of names) await host.docker('run', '-d', '--stop-signal', 'KILL', '--network', 'web', '--name', name, IMAGE, 'sleep', '100000');
  const spaces = await Promise.all(names.slice(1).map(async (name) => openNetns(await host.containerNetns(name))));
  t.teardown(() => spaces.forEach((space) => space.close()));
  const address = await host.docker('inspect', '-f', '{{.NetworkSettings.Networks.web.IPAddress}}', 'target');
  const load = new QueryLoad({ netns: spaces, name: 'target', address, rate: RATE, retryMs: RETRY_MS });
  t.teardown(() => load.close());
  load.start();
  const start = performance.now();
  await until('ours answers everywhere', () => load.answeredSince(OUR_TTL, start));
  return load;
}

/** How long after each start ours answered in all containers, and how many times slower than by itself the machine was. */
async function kill(load: QueryLoad, host: Host, service: Service): Promise<{ ms: number; slowness: number }[]> {
  const random = seededRandom(SEED);
  const back: { ms: number; slowness: number }[] = [];
  for (let i = 0; i < KILLS; i++) {
    await wait(PAUSE_MS.least + random.float() * PAUSE_MS.more);
    const before = performance.now();
    await host.must([process.execPath, '-e', '0']);
    const slowness = Math.max(1, (performance.now() - before) / EMPTY_MS);
    await service.crash();
    const killed = performance.now();
    // What was answered before the kill may be read a little later.
    await until('ours answers again', () => load.answeredSince(OUR_TTL, killed + DOWN_MS), 20_000, 5);
    back.push({ ms: performance.now() - killed - DOWN_MS, slowness });
  }
  return back;
}
