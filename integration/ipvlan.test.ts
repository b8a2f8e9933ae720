/**
 *     router                    192.168.50.0/24, one segment
 *       |                      ┌────────┬────────┐
 *      h1                     h1 eth1        outside eth1
 *                             .50.1          .50.9, with a route to 10.60.0.0/24 by h1
 *
 * Docker on h1. Containers behind its MAC address, on a kernel that has such links; one that has not is told so, whoever asks.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import tap, { test } from 'tap';
import { hostNetns } from '../linux/netns.ts';
import { openRtnl } from '../linux/rtnl.ts';
import { IMAGE } from './lab/image.ts';
import { createLab, type Lab } from './lab/lab.ts';
import { until } from './lab/run.ts';
import { addSegment } from './lab/segment.ts';
import { weft, weftJson, weftUp } from './lab/weft.ts';

tap.setTimeout(500_000);

const OUTSIDE = '192.168.50.9';
/** Under QEMU a container's start takes seconds. */
const PATIENCE_MS = 60_000;

const rtnl = openRtnl(hostNetns);
const isThere = rtnl.hasLinkKind('ipvlan');
rtnl.close();

async function oneHost(lab: Lab) {
  const h1 = lab.host(1);
  await addSegment(lab, 'eth1', { h1: '192.168.50.1/24', outside: `${OUTSIDE}/24` });
  await weftUp(h1, { advertise: h1.address });
  await until('Docker answers', async () => /docker +answers/.test((await weft(h1, 'status')).stdout), PATIENCE_MS);
  return {
    h1,
    outside: (...command: string[]) => lab.on('outside', command),
    create: (name: string, ...args: string[]) => h1.tryDocker('network', 'create', '-d', 'weft-ipvlan', ...args, name),
  };
}

test('a kernel without ipvlan', { skip: isThere && 'this kernel has it' }, async (t) => {
  const lab = await createLab({ name: 'ipvlanless', hosts: 1, docker: true });
  t.teardown(() => lab.destroy());
  const { h1, create } = await oneHost(lab);
  const reason = /WEFT-LINK-KIND: the kernel of node h1 has no ipvlan links; load the module \(`modprobe ipvlan`\).*CONFIG_IPVLAN, or use weft-macvlan/;
  t.match(await create('lan', '-o', 'parent=eth1', '--subnet', '192.168.50.0/24'), { code: 1, stderr: reason });
  t.match(await create('alone', '--subnet', '10.77.0.0/24'), { code: 1, stderr: reason }, 'without a parent as well');
  t.match(await weft(h1, 'network', 'create', '-d', 'ipvlan', '-o', 'parent=eth1', '--subnet', '192.168.50.0/24', 'lan'), { stderr: reason }, 'by weft');
  t.match((await create('lan', '-o', 'parent=eth1', '-o', 'ipvlan_mode=bridge', '--subnet', '192.168.50.0/24')).stderr, /WEFT-OPTION-VALUE.*one of l2, l3, l3s/);
  t.same(await weftJson(h1, 'network', 'ls'), [], 'nothing stays of it');
  t.same(await weftJson(h1, 'ipam', 'ls'), []);
  t.equal(await h1.docker('network', 'ls', '--filter', 'driver=weft-ipvlan', '--format', '{{.Name}}'), '');
  // What the error says would help.
  t.match(await h1.tryDocker('network', 'create', '-d', 'weft-macvlan', '-o', 'parent=eth1', '--subnet', '192.168.50.0/24', 'lan'), { code: 0 });
});

test('Docker\'s containers on ipvlan networks', { skip: !isThere && 'this kernel was built without CONFIG_IPVLAN' }, async (t) => {
  const lab = await createLab({ name: 'ipvlan', hosts: 1, docker: true });
  t.teardown(() => lab.destroy());
  const { h1, outside, create } = await oneHost(lab);
  const run = (name: string, network: string, ...args: string[]) => h1.tryDocker('run', '-d', '--stop-signal', 'KILL', '--network', network, '--name', name, ...args, IMAGE, 'sleep', '100000');
  const pings = async (container: string, target: string): Promise<boolean> => (await h1.tryDocker('exec', container, 'ping', '-c', '1', '-W', '2', target)).code === 0;
  const inside = (container: string, ...command: string[]): Promise<string> => h1.docker('exec', container, ...command);
  const mac = /ether (\S+)/.exec(await h1.must(['ip', '-o', 'link', 'show', 'eth1']))![1]!;

  await t.test('l2, with the host\'s own way in', async (t) => {
    t.match(await create('lan', '-o', 'parent=eth1', '-o', 'weft.host_access=true', '--subnet', '192.168.50.0/24', '--gateway', OUTSIDE, '--ip-range', '192.168.50.128/25'), { code: 0 });
    t.match(await run('a1', 'lan'), { code: 0 });
    t.match(await run('a2', 'lan'), { code: 0 });
    t.match(await inside('a1', 'ip', '-o', 'link', 'show', 'eth0'), mac, 'its MAC address is the host\'s');
    t.match(await inside('a1', 'ip', 'route'), `default via ${OUTSIDE}`);
    await until('a name is found', () => pings('a1', 'a2'), PATIENCE_MS);
    t.notMatch(readFileSync(join(h1.directory, 'weftd.log'), 'utf8'), 'could not be hooked up', 'by Weft\'s own resolver');
    t.ok(await pings('a1', OUTSIDE));
    const ip = await h1.docker('inspect', '-f', '{{.NetworkSettings.Networks.lan.IPAddress}}', 'a1');
    t.equal((await outside('busybox', 'ping', '-c', '1', '-W', '2', ip)).code, 0, 'the LAN reaches it');
    t.equal((await h1.exec(['busybox', 'ping', '-c', '1', '-W', '2', ip])).code, 0, 'and so does the host');
    await outside('ip', 'address', 'add', '192.168.50.200/24', 'dev', 'eth1');
    t.match(await run('a3', 'lan', '--ip', '192.168.50.200'), { code: 125, stderr: /WEFT-ADDRESS-ON-LAN/ });
    await h1.tryDocker('rm', 'a3');
    t.match(await run('a3', 'lan', '--mac-address', '02:00:00:00:00:07'), { code: 125, stderr: /WEFT-MAC-SHARED.*02:00:00:00:00:07.*weft-macvlan/ });
    await h1.tryDocker('rm', 'a3');
    t.match((await create('other', '-o', 'parent=eth1', '-o', 'ipvlan_mode=l3', '--subnet', '10.60.0.0/24')).stderr, /WEFT-PARENT-UNFIT.*one mode and flag/);
    await h1.docker('rm', '-f', 'a1', 'a2');
    await h1.docker('network', 'rm', 'lan');
    await until('it is gone everywhere', async () => (await weftJson<unknown[]>(h1, 'network', 'ls')).length === 0, PATIENCE_MS);
  });

  for (const mode of ['l3', 'l3s'] as const) {
    await t.test(mode, async (t) => {
      await outside('ip', 'route', 'replace', '10.60.0.0/24', 'via', '192.168.50.1');
      t.match(await create(mode, '-o', 'parent=eth1', '-o', `ipvlan_mode=${mode}`, '--subnet', '10.60.0.0/24'), { code: 0 });
      t.match(await run('c1', mode), { code: 0 });
      t.match(await inside('c1', 'ip', 'route'), /^default dev eth0/m);
      t.notMatch(await inside('c1', 'ip', '-o', 'link'), 'eth1', 'no interface for Docker\'s own way out');
      t.ok(await pings('c1', OUTSIDE));
      await h1.docker('rm', '-f', 'c1');
      await h1.docker('network', 'rm', mode);
      await until('it is gone everywhere', async () => (await weftJson<unknown[]>(h1, 'network', 'ls')).length === 0, PATIENCE_MS);
    });
  }

  t.notMatch(await h1.must(['ip', '-br', 'link']), /wi[hp]?-/, 'nothing is left');
});
