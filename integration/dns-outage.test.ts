/**
 *   outside (name server: there, away, there, away …)
 *      |
 *   router
 *      |
 *     h1     Docker, weftd
 *      └ web: probe, target
 *
 * While a container asks for names of the outside that nobody answers, names of containers are found as fast as ever.
 */
import { join } from 'node:path';
import tap, { type Test, test } from 'tap';
import { askUdp, outcome, question } from '../dns/testing.ts';
import { openNetns } from '../linux/netns.ts';
import type { Netns } from '../linux/types.ts';
import { IMAGE } from './lab/image.ts';
import { createLab, OUTSIDER_ADDRESS } from './lab/lab.ts';
import { until, wait } from './lab/run.ts';
import { weft, weftJson, weftUp } from './lab/weft.ts';

/** Each with the name server and without it; the median of them counts, so that a machine that stands still for a moment spoils neither side. */
const ROUNDS = 7;
const QUESTIONS = 600;
/** Questions for the outside that are asked between two for a container, and never for the same name twice: some 100 a second. */
const EVERY = 10;
/** Longer than a question waits for others (FORWARD_TIMEOUT_MS in dns/forwarder.ts). */
const PATIENCE_MS = 5_000;
/** Of the 99th percentiles, on a machine that does other things as well. */
const TIMES = 2;
const NOISE_MS = 1;
tap.setTimeout(180_000);

const percentile = (values: readonly number[], share: number): number => values.toSorted((a, b) => a - b)[Math.floor(share * (values.length - 1))]!;

void test('a name server that is away', async (t) => {
  const lab = await createLab({ name: 'dnsoutage', hosts: 1, docker: true });
  t.teardown(() => lab.destroy());
  const host = lab.host(1);
  await weftUp(host);
  await until('Docker answers', async () => /docker +answers/.test((await weft(host, 'status')).stdout));
  lab.spawnOn('outside', [process.execPath, join(import.meta.dirname, 'lab/upstream.ts'), 'www.example=198.51.100.7']);
  await weftJson(host, 'network', 'create', 'web');
  await until('Docker has the network', async () => (await host.tryDocker('network', 'inspect', 'web')).code === 0);
  for (const name of ['probe', 'target']) await host.docker('run', '-d', '--stop-signal', 'KILL', '--network', 'web', '--name', name, IMAGE, 'sleep', '100000');
  const netns = openNetns(await host.containerNetns('probe'));
  t.teardown(() => netns.close());
  const address = await host.docker('inspect', '-f', '{{.NetworkSettings.Networks.web.IPAddress}}', 'target');
  await until('its name is there', async () => outcome(await askUdp(netns, question('target'))) === address);
  t.equal(outcome(await askUdp(netns, question('www.example'))), '198.51.100.7');

  const drop = (change: '-A' | '-D'): Promise<unknown> => lab.on('router', ['iptables', change, 'FORWARD', '-d', OUTSIDER_ADDRESS, '-p', 'udp', '--dport', '53', '-j', 'DROP']);
  const took = { there: [] as number[], away: [] as number[] };
  await ask(t, netns, address, 'first');
  for (let round = 0; round < ROUNDS; round++) {
    took.there.push(percentile(await ask(t, netns, address, `there${round}`), 0.99));
    await drop('-A');
    took.away.push(percentile(await ask(t, netns, address, `away${round}`), 0.99));
    if (round === 0) t.equal(await within(askUdp(netns, question('nobody.example')).then(outcome)), 'SERVFAIL', 'the outside is said to be away');
    await drop('-D');
    // What waits for the name server has its answer before the next round.
    await wait(PATIENCE_MS);
  }
  const [there, away] = [percentile(took.there, 0.5), percentile(took.away, 0.5)];
  t.ok(away <= TIMES * there + NOISE_MS, `99 of 100 within ${away.toFixed(2)} ms without the name server, ${there.toFixed(2)} ms with it`);
});

const within = <T>(answer: Promise<T>): Promise<T | 'silence'> => Promise.race([answer, wait(PATIENCE_MS).then(() => 'silence' as const)]);

/** How long each question for the container took, milliseconds. */
async function ask(t: Test, netns: Netns, address: string, round: string): Promise<number[]> {
  const took: number[] = [];
  const wrong: string[] = [];
  for (let i = 0; i < QUESTIONS; i++) {
    if (i % EVERY === 0) void askUdp(netns, question(`n${i}.${round}.example`)).catch(() => {});
    const start = performance.now();
    const said = outcome(await askUdp(netns, question('target')));
    took.push(performance.now() - start);
    if (said !== address) wrong.push(said);
    await wait(1);
  }
  t.same(wrong, [], `${round}: every answer is right`);
  return took;
}
