/**
 *      outside fd99:9::10
 *           |
 *         router
 *        /      \
 *      h1        h2          Docker on both; fd99:1::1 and fd99:2::2, and no IPv4 between them
 *
 * A cluster of hosts that reach each other by IPv6 alone, from the first `weft up` on; one with IPv4 does not get in.
 */
import tap, { test } from 'tap';
import type { NodeAnswer } from '../agent/api.ts';
import type { Host } from './lab/host.ts';
import { IMAGE } from './lab/image.ts';
import { addIpv6, ipv6Of } from './lab/ipv6.ts';
import { createLab } from './lab/lab.ts';
import { must, until } from './lab/run.ts';
import { ready, startWeftd, weft, weftJson, weftUp } from './lab/weft.ts';

tap.setTimeout(240_000);

const OUTSIDE = 'fd99:9::10';

test('hosts that reach each other by IPv6 alone', async (t) => {
  const lab = await createLab({ name: 'ipv6u', hosts: 2, docker: true });
  t.teardown(() => lab.destroy());
  const [h1, h2] = [lab.host(1), lab.host(2)];
  const withoutIpv4 = (number: number): Promise<string> => must(['ip', '-n', lab.namespace(`h${number}`), '-4', 'addr', 'flush', 'dev', 'eth0']);
  await addIpv6(lab, OUTSIDE, [1]);
  await withoutIpv4(1);
  await weftUp(h1);
  const { token } = await until('there is a token', () => weftJson<{ token: string }>(h1, 'token'));
  t.match(token, /@\[fd99:1::1\]:7947$/);

  const join = (...args: string[]) => weft(h2, 'join', token, '--no-start', '--name', 'h2', ...args);
  t.match(await join(), { code: 1, stderr: /WEFT-UNDERLAY-FAMILY: .*fd99:1::1.*10\.99\.2\.2/ }, 'a host with IPv4 alone');
  await must(['ip', '-n', lab.namespace('router'), 'addr', 'add', 'fe80::99/64', 'dev', 'r-h2', 'nodad']);
  await must(['ip', '-n', lab.namespace('router'), 'route', 'add', 'fd99:2::2/128', 'dev', 'r-h2']);
  await must(['ip', '-n', lab.namespace('h2'), 'addr', 'add', 'fd99:2::2/128', 'dev', 'eth0', 'nodad']);
  await must(['ip', '-n', lab.namespace('h2'), '-6', 'route', 'add', 'default', 'via', 'fe80::99', 'dev', 'eth0']);
  t.match(await join('--advertise', '10.99.2.2'), { code: 1, stderr: /WEFT-UNDERLAY-FAMILY/ }, 'nor by its IPv4 address, when it has both');
  t.match(await join(), { code: 0 }, 'of both it takes the one of the cluster\'s family');
  await withoutIpv4(2);
  await startWeftd(h2);
  await ready(h2);
  await until('they are members', async () => (await weftJson<NodeAnswer[]>(h1, 'node', 'ls')).filter(({ state }) => state === 'alive').length === 2);
  t.same((await weftJson<NodeAnswer[]>(h2, 'node', 'ls')).map(({ address }) => address).sort(), [ipv6Of(1), ipv6Of(2)]);

  await h1.docker('network', 'create', '-d', 'weft-overlay', '--ipam-driver', 'weft', '--ipv6', 'web');
  await until('h2 has the network', async () => (await h2.tryDocker('network', 'inspect', 'web')).code === 0);
  const run = (host: Host, name: string, ...args: string[]): Promise<string> => host.docker('run', '-d', '--stop-signal', 'KILL', '--network', 'web', '--name', name, ...args, IMAGE, 'sleep', '100000');
  await Promise.all([run(h1, 'api'), run(h2, 'worker', '-p', '8085:80')]);
  for (const [host, from, to] of [[h1, 'api', 'worker'], [h2, 'worker', 'api']] as const) {
    for (const family of ['-4', '-6']) await until(`${from} reaches ${to} by its name`, async () => (await host.tryDocker('exec', from, 'ping', family, '-c', '1', '-W', '1', to)).code === 0);
    t.match(await host.docker('exec', from, 'ip', '-o', 'link', 'show', 'eth0'), ' mtu 1430 ', 'VXLAN over IPv6 takes 70 bytes');
    t.match(await host.tryDocker('exec', from, 'ping', '-4', '-c', '1', '-W', '2', '-s', String(1430 - 28), to), { code: 0 }, 'the largest packet');
  }
  await h2.docker('exec', 'worker', 'sh', '-c', 'echo served > /www/index.html; httpd -p "[::]:80" -h /www');
  for (const number of [1, 2]) {
    await until('it is served', async () => (await lab.on('outside', ['curl', '-s', '-m', '2', `http://[${ipv6Of(number)}]:8085/`])).stdout === 'served\n');
  }

  const probe = await weft(h2, 'node', 'probe', 'h1');
  t.match(probe, { code: 0 });
  t.comment(probe.stdout);
  for (const host of [h1, h2]) t.notMatch((await weft(host, 'status')).stdout, /^! /m, 'nobody has a problem');
});
