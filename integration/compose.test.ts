/**
 *      router
 *     /      \
 *   h1        h2        Docker and docker-compose on both, etcd on h1
 *
 * One compose file on two hosts: the network that `up` made on the one is the project's own on the other.
 */
import { readFileSync } from 'node:fs';
import tap, { test } from 'tap';
import type { NetworkAnswer } from '../agent/api.ts';
import { startEtcd } from './lab/etcd.ts';
import type { Host } from './lab/host.ts';
import { IMAGE } from './lab/image.ts';
import { createLab } from './lab/lab.ts';
import { type Result, until } from './lab/run.ts';
import { weft, weftJson, weftUp } from './lab/weft.ts';

tap.setTimeout(180_000);

/** `default` as most files have it; `back` with all that can be said of a network. */
const FILE = JSON.stringify({
  version: '3.5',
  services: Object.fromEntries(['api', 'worker'].map((name) => [name, { image: IMAGE, command: 'sleep 100000', stop_signal: 'KILL', networks: ['default', 'back'] }])),
  networks: {
    default: { driver: 'weft-overlay' },
    back: { driver: 'weft-overlay', driver_opts: { 'weft.mtu': '1300' }, labels: { team: 'blue' }, ipam: { driver: 'weft', config: [{ subnet: '10.70.0.0/24' }] } },
  },
});
const PROJECT = 'shop';
const LABELS = ['project', 'network', 'version'].map((name) => `{{index .Labels "com.docker.compose.${name}"}}`).join(' ');

const compose = (host: Host, ...args: string[]): Promise<Result> =>
  host.exec(['docker-compose', '-H', 'unix:///run/docker.sock', '--ansi', 'never', '-p', PROJECT, '-f', '-', ...args], { input: FILE });
const networksOf = async (host: Host): Promise<string[]> => (await host.docker('network', 'ls', '--filter', 'driver=weft-overlay', '--format', '{{.Name}}')).split('\n').filter((name) => name !== '').sort();

test('a compose project on two hosts', async (t) => {
  const lab = await createLab({ name: 'compose', hosts: 2, docker: true });
  t.teardown(() => lab.destroy());
  const [h1, h2] = [lab.host(1), lab.host(2)];
  const etcd = await startEtcd(h1);
  await Promise.all([h1, h2].map((host) => weftUp(host, { store: etcd.url })));

  const first = await compose(h1, 'up', '-d', 'api');
  t.match(first, { code: 0, stderr: /Creating network "shop_default"[^]*Creating network "shop_back"|Creating network "shop_back"[^]*Creating network "shop_default"/ }, first.stderr);
  await until('h2 has the networks', async () => (await networksOf(h2)).join() === 'shop_back,shop_default');
  const labels = (host: Host, network: string): Promise<string> => host.docker('network', 'inspect', '-f', LABELS, network);
  for (const network of ['back', 'default']) {
    t.match(await labels(h1, `shop_${network}`), new RegExp(`^shop ${network} 1\\.`));
    t.equal(await labels(h2, `shop_${network}`), await labels(h1, `shop_${network}`), `${network}: its labels are on both hosts`);
  }

  const second = await compose(h2, 'up', '-d', 'worker');
  t.match(second, { code: 0, stderr: /^(?![^]*(network|WARNING|ERROR))/i }, `h2 takes them for its own: ${second.stderr}`);
  t.same(await networksOf(h2), ['shop_back', 'shop_default']);
  t.equal((await weftJson<NetworkAnswer[]>(h2, 'network', 'ls')).length, 2, 'and there are no others');
  const reaches = async (host: Host, from: string, to: string): Promise<boolean> => (await host.tryDocker('exec', `${PROJECT}_${from}_1`, 'ping', '-c', '1', '-W', '1', to)).code === 0;
  await until('worker reaches api by its name', () => reaches(h2, 'worker', 'api'), 10_000);
  await until('and api worker', () => reaches(h1, 'api', 'worker'), 10_000);

  const again = await compose(h1, 'up', '-d', 'api');
  t.match(again, { code: 0, stderr: /shop_api_1 is up-to-date/ }, 'on the host that made them nothing has changed');

  t.match(await compose(h2, 'down'), { code: 0, stderr: /Removing network shop_default/ });
  await until('h2 has them back: h1 is on them', async () => (await networksOf(h2)).join() === 'shop_back,shop_default', 20_000);
  t.same(await networksOf(h1), ['shop_back', 'shop_default']);
  t.equal((await compose(h2, 'up', '-d', 'worker')).code, 0, 'and may begin again');
  await until('worker reaches api', () => reaches(h2, 'worker', 'api'), 10_000);

  t.equal((await compose(h1, 'down')).code, 0);
  await until('h1 has them back: h2 is on them', async () => (await networksOf(h1)).join() === 'shop_back,shop_default', 20_000);
  t.equal((await compose(h2, 'down')).code, 0);
  for (const host of [h1, h2]) {
    await until(`with the last one they are gone from ${host.name}`, async () => {
      if ((await networksOf(host)).length === 0) return true;
      // Why somebody has put them back.
      throw new Error(readFileSync(`${h2.directory}/weftd.log`, 'utf8').split('\n').findLast((line) => line.includes('put back on this host')) ?? 'nobody put them back');
    }, 20_000);
  }
  t.equal((await weft(h1, 'ipam', 'check')).stdout, '0 findings in 0 pools, as node h1 sees them\n');
});
