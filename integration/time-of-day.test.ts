/**
 *      router
 *     /   |  \
 *   h1   h2   h3        no Docker; the store on h1
 *
 * The time of day of h2 and h3 is wrong, and jumps: forward, backward, and while weftd is away.
 */
import tap, { type Test, test } from 'tap';
import type { NodeAnswer, SandboxAnswer, TokenAnswer } from '../agent/api.ts';
import type { Host, Service } from './lab/host.ts';
import { createLab } from './lab/lab.ts';
import { until } from './lab/run.ts';
import { setTimeOfDay, TIME_OF_DAY } from './lab/time-of-day.ts';
import { control, ready, startWeftd, weft, weftWith, weftJson, weftUp } from './lab/weft.ts';

tap.setTimeout(240_000);

const HOUR_S = 3_600;
/** A token's life. */
const DAY_S = 24 * HOUR_S;

void test('the time of day is wrong', async (t) => {
  const lab = await createLab({ name: 'timeofday', hosts: 3 });
  t.teardown(() => lab.destroy());
  const [h1, h2, h3] = [lab.host(1), lab.host(2), lab.host(3)];
  await weftUp(h1);
  await weftJson(h1, 'network', 'create', '--subnet', '10.200.0.0/28', 'web');
  const { token } = await until('a token', () => weftJson<{ token: string }>(h1, 'token'), 40_000);
  const service = await join(h2, token, 0);
  for (const [host, name] of [[h1, 'a'], [h2, 'b']] as const) await add(host, name);
  await until('they reach each other', () => pings(h1, 'a', 'b'), 10_000);

  for (const hours of [1, -1]) await t.test(`by ${hours} h, from one moment to the next`, (each) => jump(each, h1, h2, hours * HOUR_S));
  await t.test('it is set back while weftd is away', async (each) => {
    await setTimeOfDay(h2, HOUR_S);
    await service.crash();
    await ready(h2);
    await service.kill();
    await setTimeOfDay(h2, -HOUR_S);
    await service.start();
    await ready(h2);
    await works(each, h1, h2, 'returned');
  });
  await t.test('a token expires', async (each) => {
    const late = (await control<TokenAnswer>(h2, 'POST', 'token', {})).token;
    await setTimeOfDay(h2, DAY_S + HOUR_S);
    const { stderr } = await weft(h3, 'join', late, '--no-start', '--name', h3.name);
    each.match(stderr, /WEFT-TOKEN-REFUSED.*expired/);
    await works(each, h1, h2, 'next-day');
  });
  await t.test('a host that is an hour behind joins one that is right', async (each) => {
    await setTimeOfDay(h2, 0);
    await join(h3, (await weftJson<TokenAnswer>(h1, 'token')).token, -HOUR_S);
    await works(each, h1, h3, 'behind');
    each.equal((await weft(h3, 'network', 'create', 'another')).code, 0);
  });
});

async function join(host: Host, token: string, seconds: number): Promise<Service> {
  await setTimeOfDay(host, seconds);
  const { code, stderr } = await weftWith(host, { environment: TIME_OF_DAY }, 'join', token, '--no-start', '--name', host.name);
  if (code !== 0) throw new Error(stderr);
  const service = await startWeftd(host, TIME_OF_DAY);
  await ready(host);
  return service;
}

const add = (host: Host, name: string, address?: string): Promise<string> =>
  control<SandboxAnswer>(host, 'POST', 'sandboxes', { name, network: 'web', ...(address !== undefined && { address }) }).then((answer) => answer.address!.split('/')[0]!);
const pings = async (host: Host, from: string, to: string): Promise<boolean> => (await host.exec(['ip', 'netns', 'exec', from, 'busybox', 'ping', '-c', '1', '-W', '1', to])).code === 0;

/** Both are alive, what one starts is known to the other, and both can change what is in the store. */
async function works(t: Test, right: Host, wrong: Host, name: string): Promise<void> {
  const stateOf = async (of: Host): Promise<string | undefined> => (await control<NodeAnswer[]>(right, 'GET', 'nodes')).find((node) => node.name === of.name)?.state;
  await until(`${wrong.name} is alive`, async () => await stateOf(wrong) === 'alive', 20_000);
  await add(wrong, name);
  await until(`${name} is found`, () => pings(right, 'a', name), 10_000);
  t.equal((await weft(wrong, 'network', 'create', name)).code, 0, 'a network can be made');
  await until('and is known', async () => (await weft(right, 'network', 'rm', name)).code === 0, 10_000);
  t.same((await weftJson<{ findings: object[] }>(wrong, 'ipam', 'check')).findings, []);
}

async function jump(t: Test, right: Host, wrong: Host, seconds: number): Promise<void> {
  const resting = await add(wrong, 'short');
  await control(wrong, 'DELETE', 'sandboxes/short');
  await setTimeOfDay(wrong, seconds);
  const { expires } = await control<TokenAnswer>(wrong, 'POST', 'token', { rotate: true });
  t.ok(Math.abs(expires - Date.now() - 1000 * (DAY_S + seconds)) < 60_000, 'its time of day is another one');
  await t.rejects(add(right, 'thief', resting), { message: /WEFT-ADDRESS/ }, 'a released address rests as long as ever');
  await works(t, right, wrong, `at${seconds}`);
  t.equal(await add(wrong, 'again', resting), resting, 'its own node may have it');
  await control(wrong, 'DELETE', 'sandboxes/again');
  await setTimeOfDay(wrong, 0);
}
