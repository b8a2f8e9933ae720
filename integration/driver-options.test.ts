/**
 *   router
 *     |
 *    h1, eth1     Docker on h1; eth1 leads to nobody
 *
 * Options that several drivers have, as dockerd hands them over, on those that no other test gives them to.
 */
import tap, { test } from 'tap';
import type { NetworkAnswer } from '../agent/api.ts';
import { IMAGE } from './lab/image.ts';
import { createLab } from './lab/lab.ts';
import { until } from './lab/run.ts';
import { addSegment } from './lab/segment.ts';
import { weft, weftJson, weftUp } from './lab/weft.ts';

tap.setTimeout(240_000);

const PREFIX = 'com.docker.network.container_iface_prefix';

test('options of overlay and macvlan networks', async (t) => {
  const lab = await createLab({ name: 'options', hosts: 1, docker: true });
  t.teardown(() => lab.destroy());
  const h1 = lab.host(1);
  await addSegment(lab, 'eth1', { h1: '192.168.50.1/24', outside: '192.168.50.9/24' });
  await weftUp(h1, { advertise: h1.address });
  await until('Docker answers', async () => /docker +answers/.test((await weft(h1, 'status')).stdout));
  const run = async (name: string, network: string, ...args: string[]): Promise<void> =>
    void await h1.docker('run', '-d', '--stop-signal', 'KILL', '--network', network, '--name', name, ...args, IMAGE, 'sleep', '100000');
  const inside = (container: string, ...command: string[]): Promise<string> => h1.docker('exec', container, ...command);
  const pings = async (container: string, target: string): Promise<boolean> => (await h1.tryDocker('exec', container, 'ping', '-c', '1', '-W', '1', target)).code === 0;
  const vniOf = async (network: string): Promise<number | undefined> => (await weftJson<NetworkAnswer>(h1, 'network', 'inspect', network)).vni;

  await t.test('weft.vni', async (t) => {
    await h1.docker('network', 'create', '-d', 'weft-overlay', '--ipam-driver', 'weft', '-o', 'weft.vni=9000000', 'chosen');
    await weftJson(h1, 'network', 'create', '-o', 'weft.vni=8388609', 'first');
    await weftJson(h1, 'network', 'create', 'left');
    t.same(await Promise.all(['chosen', 'first', 'left'].map(vniOf)), [9_000_000, 8_388_609, 8_388_610], 'one that is left to Weft keeps clear of them');
    await run('c1', 'chosen');
    t.match(await h1.must(['ip', '-n', 'weft', '-d', 'link', 'show', 'type', 'vxlan']), /vxlan id 9000000 /, 'it is what goes on the wire');
    await h1.docker('rm', '-f', 'c1');
    await h1.docker('network', 'rm', 'chosen');
    await until('its number is free', async () => (await weft(h1, 'network', 'create', '-o', 'weft.vni=9000000', 'again')).code === 0, 10_000);
  });

  for (const [driver, ...args] of [['weft-overlay'], ['weft-macvlan', '-o', 'parent=eth1', '--subnet', '192.168.50.0/24', '--ip-range', '192.168.50.128/25']] as const) {
    await t.test(`container_iface_prefix: ${driver}`, async (t) => {
      t.match((await h1.tryDocker('network', 'create', '-d', driver, ...args, '-o', `${PREFIX}=a/b`, 'wrong')).stderr, /WEFT-OPTION-VALUE.*container_iface_prefix cannot be a\/b/);
      await h1.docker('network', 'create', '-d', driver, ...args, '-o', `${PREFIX}=lan`, 'named');
      await h1.docker('network', 'create', '-d', 'weft-bridge', '-o', `${PREFIX}=lan`, 'second');
      await run('c1', 'named');
      await run('c2', 'named');
      t.match(await inside('c1', 'ip', '-o', 'link', 'show', 'lan0'), /[<,]UP,LOWER_UP/);
      t.notMatch(await inside('c1', 'ip', '-o', 'link'), 'eth0');
      await until('names are found', () => pings('c1', 'c2'), 10_000);
      await h1.docker('network', 'connect', 'second', 'c1');
      t.match(await inside('c1', 'ip', '-o', 'link', 'show', 'lan1'), /lan1/, 'numbers go on with the next network');
      await h1.docker('rm', '-f', 'c1', 'c2');
      await h1.docker('network', 'rm', 'named', 'second');
    });
  }
});
