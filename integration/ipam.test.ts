/**
 *     router
 *     /    \
 *   h1      h2          etcd on h1; Docker in the later tests only
 *
 * `weft ipam` on real hosts: who has which addresses, what is found wrong with them, and what becomes of a dead host's.
 */
import { readFileSync } from 'node:fs';
import tap, { test } from 'tap';
import type { CheckAnswer, PoolAnswer } from '../agent/ipam-api.ts';
import { startEtcd } from './lab/etcd.ts';
import type { Host } from './lab/host.ts';
import { IMAGE } from './lab/image.ts';
import { createLab } from './lab/lab.ts';
import { until } from './lab/run.ts';
import { weft, weftJson, weftUp } from './lab/weft.ts';

tap.setTimeout(240_000);
// Each has hosts of its own, and most of the time nothing to do: addresses rest, and a host has to be silent for long enough.
tap.jobs = 3;

test('weft ipam', { buffered: true }, async (t) => {
  const lab = await createLab({ name: 'ipam', hosts: 2 });
  t.teardown(() => lab.destroy());
  const [h1, h2] = [lab.host(1), lab.host(2)];
  const etcd = await startEtcd(h1);
  const [, second] = await Promise.all([h1, h2].map((host) => weftUp(host, { store: etcd.url })));
  await weftJson(h1, 'network', 'create', '--subnet', '10.192.0.0/28', 'web');
  await until('h2 has it', async () => (await weftJson<object[]>(h2, 'network', 'ls')).length === 1);
  await weftJson(h1, 'sandbox', 'add', 'a', '--network', 'web');
  await weftJson(h2, 'sandbox', 'add', 'b', '--network', 'web');
  const check = (): Promise<CheckAnswer> => weft(h1, '--json', 'ipam', 'check').then(({ stdout }) => JSON.parse(stdout) as CheckAnswer);

  await until('h1 knows of b', async () => (await weftJson<PoolAnswer[]>(h1, 'ipam', 'ls'))[0]?.shares.find(({ name }) => name === 'h2')?.used === 1);
  const [pool] = await weftJson<PoolAnswer[]>(h1, 'ipam', 'ls');
  t.match(pool, { subnet: '10.192.0.0/28', network: 'web', unclaimed: 14, shares: [{ name: 'h1', blocks: 1, used: 1, free: 0 }, { name: 'h2', blocks: 1, used: 1 }] });
  t.match((await weft(h1, 'ipam', 'ls')).stdout, /^10\.192\.0\.0\/28 +web +\(nobody\) +- +14/m);
  t.match(await weft(h1, 'ipam', 'check'), { code: 0, stdout: /^0 findings in 1 pools, as node h1 sees them/ });

  await h1.must(['ip', '-n', 'a', 'addr', 'add', '10.192.0.9/28', 'dev', 'eth0']);
  t.match(await weft(h1, 'ipam', 'check'), { code: 1, stdout: /kernel: a has 10\.192\.0\.9 of 10\.192\.0\.0\/28 in its namespace/ });
  await h1.must(['ip', '-n', 'a', 'addr', 'del', '10.192.0.9/28', 'dev', 'eth0']);

  const base64 = (text: string): string => Buffer.from(text).toString('base64');
  const stray = JSON.stringify({ key: base64('/weft/v1/blocks/10.9.0.0_24/3'), value: base64(JSON.stringify({ node: 'x', name: 'x', pool: 'x', chooser: 'weft' })) });
  const leaveStray = (): Promise<string> => h1.must(['curl', '-sf', '-d', stray, `${etcd.url}/v3/kv/put`]);
  await leaveStray();
  const { findings } = await check();
  t.match(findings, [{ kind: 'orphan', fixable: true }]);
  await leaveStray();
  await h1.must(['sh', '-c', `cat > /run/report.json << 'END'\n${JSON.stringify({ node: 'h1', pools: 1, findings })}\nEND`]);
  t.match((await weft(h1, 'ipam', 'check', '--fix', '/run/report.json')).stdout, /not so any more: left alone/, 'written anew since the report');
  t.match((await weft(h1, 'ipam', 'check', '--fix')).stdout, /orphan: .*\n {2}removed/);
  t.same((await check()).findings, []);

  t.match(await weft(h1, 'ipam', 'reclaim', 'h2'), { code: 1, stderr: /WEFT-RECLAIM-ALIVE.*gossip has it as alive/ });
  t.match(await weft(h1, 'ipam', 'reclaim', '--yes', 'h1'), { code: 1, stderr: /WEFT-RECLAIM-ALIVE.*this command runs on it/ });
  t.match(await weft(h1, 'ipam', 'reclaim', 'nobody'), { code: 1, stderr: /WEFT-RECLAIM-UNKNOWN.*\(h2\)/ });

  await h2.must(['ip', 'link', 'add', 'tun0', 'type', 'bridge']);
  await h2.must(['ip', 'link', 'set', 'tun0', 'up']);
  await h2.must(['ip', 'route', 'add', '10.192.0.0/16', 'dev', 'tun0']);
  await until('the VPN is reported on h1', async () => /! network web \(10\.192\.0\.0\/28\) overlaps 10\.192\.0\.0\/16 \(the route by tun0 of node h2\)/.test((await weft(h1, 'status')).stdout));
  for (const host of [h1, h2]) await until(`and in the log of ${host.name}`, () => readFileSync(`${host.directory}/weftd.log`, 'utf8').includes('in each other\'s way'));
  await h2.must(['ip', 'link', 'del', 'tun0']);
  await until('and its end too', async () => !(await weft(h1, 'status')).stdout.includes('tun0'));

  await second!.kill();
  await until('h2 is dead for long enough', async () => (await weft(h1, 'ipam', 'reclaim', 'h2')).code === 0, 150_000);
  t.match((await weft(h1, 'ipam', 'reclaim', 'h2')).stdout, /Node h2 \(\w+, dead\)[^]*10\.192\.0\.0\/28 +web +1 +1[^]*--yes/);
  t.match((await weftJson<PoolAnswer[]>(h1, 'ipam', 'ls'))[0]!.shares.length, 2, 'nothing was done');
  t.equal((await weft(h1, 'ipam', 'reclaim', '--yes', 'h2')).stdout, '1 blocks of node h2 are free now\n');
  t.equal((await weftJson<PoolAnswer[]>(h1, 'ipam', 'ls'))[0]!.shares.length, 1);
});

test('Docker in a /29: restarts find their addresses, also on another host', { buffered: true }, async (t) => {
  const lab = await createLab({ name: 'ipamdocker', hosts: 2, docker: true });
  t.teardown(() => lab.destroy());
  const [h1, h2] = [lab.host(1), lab.host(2)];
  const etcd = await startEtcd(h1);
  for (const host of [h1, h2]) await weftUp(host, { store: etcd.url });
  await h1.docker('network', 'create', '-d', 'weft-overlay', '--ipam-driver', 'weft', '--subnet', '10.70.0.0/29', 'small');
  await until('h2 has it', async () => (await h2.docker('network', 'ls', '--format', '{{.Name}}')).split('\n').includes('small'));
  const run = (host: Host, name: string, ...args: string[]) => host.docker('run', '-d', '--stop-signal', 'KILL', '--network', 'small', '--name', name, ...args);
  const addressOf = (host: Host, name: string) => host.docker('inspect', '-f', '{{.NetworkSettings.Networks.small.IPAddress}}', name);

  await run(h1, 'crashing', '--restart', 'always', IMAGE, 'sh', '-c', 'exit 1');
  await run(h1, 'fixed', '--ip', '10.70.0.4', IMAGE, 'sleep', '100000');
  for (let i = 0; i < 5; i++) await h1.docker('restart', 'fixed');
  t.equal((await addressOf(h1, 'fixed')).trim(), '10.70.0.4', 'who had it gets it at once');
  // Five addresses for hosts, one of them fixed: it has been through all others by now, and each rests for a minute.
  for (let i = 0; i < 8; i++) await h1.docker('restart', 'crashing');
  t.match(await h1.docker('inspect', '-f', '{{.State.Error}}|', 'crashing'), /^\|/, 'no start was refused');

  await h1.docker('rm', '-f', 'crashing', 'fixed');
  const refused = await h2.exec(['docker', 'run', '--rm', '--network', 'small', '--ip', '10.70.0.4', IMAGE, 'true']);
  t.match(refused, { code: 125, stderr: /WEFT-ADDRESS-FOREIGN.*h1/ }, 'it rests before another host has it');
  await until('it has rested', async () => (await h2.exec(['docker', 'run', '--rm', '--network', 'small', '--ip', '10.70.0.4', IMAGE, 'true'])).code === 0, 90_000);
  t.equal((await weft(h1, 'ipam', 'check')).stdout, '0 findings in 1 pools, as node h1 sees them\n');
});

test('a Docker that was killed finds the addresses of its containers, and nothing of before stays claimed', { buffered: true }, async (t) => {
  const lab = await createLab({ name: 'ipamkill', hosts: 1, docker: true });
  t.teardown(() => lab.destroy());
  const host = lab.host(1);
  await weftUp(host);
  const drivers = ['weft-overlay', 'weft-bridge'];
  for (const [i, driver] of drivers.entries()) {
    const run = (name: string, ...args: string[]) => host.docker('run', '-d', '--stop-signal', 'KILL', '--network', driver, '--name', `${name}-${i}`, ...args, IMAGE, 'sleep', '100000');
    await host.docker('network', 'create', '-d', driver, '--ipam-driver', 'weft', '--subnet', `10.7${i}.0.0/24`, driver);
    await run('steady', '--restart', 'always', '--ip', `10.7${i}.0.6`);
    await run('manual', '--ip', `10.7${i}.0.7`);
    await run('any', '--restart', 'always');
  }
  const facts = (name: string) => host.docker('inspect', '-f', '{{.State.Running}} {{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}} {{.State.Error}}|', name);
  /** Running, or given up with an error. */
  const started = async (name: string): Promise<string | false> => {
    const text = await facts(name);
    return (text.startsWith('true') || !text.endsWith(' |')) && text;
  };
  for (const way of ['TERM', 'KILL', 'KILL'] as const) {
    await host.stopDocker(way);
    await host.startDocker();
    for (const i of drivers.keys()) {
      const steady = await until('steady is started', () => started(`steady-${i}`));
      t.equal(steady, `true 10.7${i}.0.6 |`, `what restarts by itself after SIG${way}, on ${drivers[i]}`);
      const { code, stderr } = await host.tryDocker('start', `manual-${i}`);
      t.equal(`${code} ${stderr}`, '0 ', `what is started by hand after SIG${way}`);
      t.equal((await facts(`manual-${i}`)), `true 10.7${i}.0.7 |`);
    }
  }
  for (const i of drivers.keys()) await host.docker('rm', '-f', `steady-${i}`, `manual-${i}`, `any-${i}`);
  await until('no address is in use', async () => (await weftJson<PoolAnswer[]>(host, 'ipam', 'ls')).every(({ shares }) => shares.every(({ used }) => used === 0)));
  t.equal((await weft(host, 'ipam', 'check')).stdout, '0 findings in 2 pools, as node h1 sees them\n');
});
