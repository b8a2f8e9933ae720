/**
 *     router                    192.168.50.0/24, one segment
 *     /    \                ┌────────┬─────────────┐
 *   h1      h2             h1 eth1  h2 eth1      outside eth1
 *                          .50.1    no address    .50.9, and 192.168.60.9
 *
 * Docker on both hosts, etcd on h1. Containers as machines of the LAN: across hosts, with what is not Weft's, and with
 * their own host.
 */
import { join } from 'node:path';
import tap, { test } from 'tap';
import type { NetworkAnswer } from '../agent/api.ts';
import { startEtcd } from './lab/etcd.ts';
import type { Host } from './lab/host.ts';
import { IMAGE } from './lab/image.ts';
import { createLab } from './lab/lab.ts';
import { until } from './lab/run.ts';
import { addSegment } from './lab/segment.ts';
import { ready, weft, weftJson, weftUp } from './lab/weft.ts';

tap.setTimeout(420_000);

const OUTSIDE = '192.168.50.9';
const LINKS = 'ip -o link | sed "s/^[0-9]*: //; s/[:@].*//" | sort; ip route; ls /run/netns';

test('macvlan networks on two hosts of one LAN', async (t) => {
  const lab = await createLab({ name: 'macvlan', hosts: 2, docker: true, nameserver: OUTSIDE });
  t.teardown(() => lab.destroy());
  const [h1, h2] = [lab.host(1), lab.host(2)];
  await addSegment(lab, 'eth1', { h1: '192.168.50.1/24', h2: undefined, outside: `${OUTSIDE}/24` });
  const etcd = await startEtcd(h1);
  const [first, second] = await Promise.all([h1, h2].map((host) => weftUp(host, { store: etcd.url, advertise: host.address })));
  await until('they see each other', async () => ((await weft(h1, 'status')).stdout.match(/ alive$/gm) ?? []).length === 2);
  for (const host of [h1, h2]) await until('Docker answers', async () => /docker +answers/.test((await weft(host, 'status')).stdout));
  lab.spawnOn('outside', [process.execPath, join(import.meta.dirname, 'lab/upstream.ts'), `nas.example=${OUTSIDE}`]);
  const outside = (...command: string[]) => lab.on('outside', command);
  const run = (host: Host, name: string, network: string, ...args: string[]) => host.docker('run', '-d', '--stop-signal', 'KILL', '--network', network, '--name', name, ...args, IMAGE, 'sleep', '100000');
  const pings = async (host: Host, container: string, target: string): Promise<boolean> => (await host.tryDocker('exec', container, 'ping', '-c', '1', '-W', '1', target)).code === 0;
  const hostPings = async (host: Host, target: string): Promise<boolean> => (await host.exec(['busybox', 'ping', '-c', '1', '-W', '1', target])).code === 0;
  const addressOf = (host: Host, name: string): Promise<string> => host.docker('inspect', '-f', '{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}', name);
  const before = await Promise.all([h1, h2].map((host) => host.must(['sh', '-c', LINKS])));

  t.match((await h1.tryDocker('network', 'create', '-d', 'weft-macvlan', '-o', 'parent=eth7', '--subnet', '192.168.50.0/24', 'lan')).stderr, /WEFT-PARENT-MISSING.*h1 has no interface eth7.*eth1/);
  t.match((await h1.tryDocker('network', 'create', '-d', 'weft-macvlan', '-o', 'parent=eth1.100', '--subnet', '192.168.50.0/24', 'lan')).stderr, /WEFT-PARENT-VLAN|^$/, 'a kernel without 802.1Q says so');
  await h1.tryDocker('network', 'rm', 'lan');
  const withWeft = (...args: string[]) => h1.tryDocker('network', 'create', '-d', 'weft-macvlan', '--ipam-driver', 'weft', ...args, '-o', 'parent=eth1', '--subnet', '192.168.50.0/24', 'ours');
  t.match((await withWeft()).stderr, /WEFT-SUBNET-OVERLAP.*eth1/, 'addresses from Weft: the subnet has to be called the LAN\'s');
  t.match(await withWeft('--ipam-opt', 'weft.lan=true'), { code: 0 });
  await until('it can go', async () => (await weft(h1, 'network', 'rm', 'ours')).code === 0, 10_000);
  await until('everywhere', async () => (await h2.docker('network', 'ls', '--filter', 'driver=weft-macvlan', '--format', '{{.Name}}')) === '');
  await h1.docker('network', 'create', '-d', 'weft-macvlan', '-o', 'parent=nowhere', '-o', 'weft.parent.h1=eth1', '-o', 'weft.parent.h2=eth1', '-o', 'weft.host_access=true',
    '--subnet', '192.168.50.0/24', '--gateway', OUTSIDE, '--ip-range', '192.168.50.128/25', 'lan');
  await until('h2 has it', async () => (await h2.docker('network', 'ls', '--filter', 'driver=weft-macvlan', '--format', '{{.Name}}')) === 'lan');
  await run(h1, 'a1', 'lan', '-p', '8080:80');
  await run(h1, 'a2', 'lan');
  await run(h2, 'b1', 'lan');
  const ips = { a1: await addressOf(h1, 'a1'), a2: await addressOf(h1, 'a2'), b1: await addressOf(h2, 'b1') };

  await t.test('who reaches whom', async (t) => {
    t.equal(new Set(Object.values(ips)).size, 3, Object.values(ips).join(', '));
    t.ok(await pings(h1, 'a1', ips.a2), 'the same host');
    t.ok(await pings(h1, 'a1', ips.b1), 'another host');
    for (const [host, from, name] of [[h1, 'a1', 'b1'], [h2, 'b1', 'a2'], [h1, 'a2', 'a1.lan']] as const) await until(`${from} finds ${name}`, () => pings(host, from, name), 10_000);
    t.ok(await pings(h1, 'a1', OUTSIDE), 'a machine of the LAN');
    for (const [name, ip] of Object.entries(ips)) t.equal((await outside('busybox', 'ping', '-c', '1', '-W', '1', ip)).code, 0, `and it reaches ${name}`);
    await until('a name of the LAN is found where it was before', () => pings(h1, 'a1', 'nas.example'), 10_000);
    t.match(await h1.docker('exec', 'a1', 'ip', 'route'), `default via ${OUTSIDE}`);
    t.notMatch(await h1.docker('exec', 'a1', 'ip', '-o', 'link'), 'eth1', 'no interface for Docker\'s own way out');
    t.notMatch((await weft(h1, 'ps')).stdout, '8080', 'a port is not published');
    t.notMatch((await weft(h1, 'status')).stdout, /overlaps|in the clear/, 'that the subnet is the LAN\'s is no trouble');
  });

  await t.test('hosts and their own containers', async (t) => {
    t.ok(await hostPings(h1, ips.a1) && await hostPings(h1, ips.a2) && await hostPings(h1, ips.b1), 'one with an address of the LAN');
    t.ok(await hostPings(h2, ips.b1), 'one without');
    t.ok(await pings(h1, 'a1', '192.168.50.1'));
    await h1.must(['sh', '-c', 'ip link del $(ip -o link | grep -o "wmh-[0-9a-f]*")']);
    await until('it is mended after the event', () => hostPings(h1, ips.a1), 5_000);
    t.match((await weft(h1, 'status')).stdout, /link wmh-.* was missing/);
  });

  await t.test('an address of a machine that nobody told us of', async (t) => {
    await outside('ip', 'address', 'add', '192.168.50.200/24', 'dev', 'eth1');
    const mac = /ether (\S+)/.exec((await outside('ip', '-o', 'link', 'show', 'eth1')).stdout)![1]!;
    const refused = await h2.tryDocker('run', '--rm', '--network', 'lan', '--ip', '192.168.50.200', IMAGE, 'true');
    t.match(refused, { code: 125, stderr: new RegExp(`WEFT-ADDRESS-ON-LAN.*192.168.50.200.*MAC ${mac}`) });
    await outside('ip', 'address', 'del', '192.168.50.200/24', 'dev', 'eth1');
    t.equal((await h2.tryDocker('run', '--rm', '--network', 'lan', '--ip', '192.168.50.200', IMAGE, 'true')).code, 0, 'once it has gone');
    t.match((await h2.tryDocker('run', '--rm', '--network', 'lan', '--ip', ips.a1, IMAGE, 'true')).stderr, /WEFT-ADDRESS-(FOREIGN|ELSEWHERE|IN-USE|ON-LAN)/, 'nor one of a container on another host');
  });

  await t.test('weftd killed and started; a container started again', async (t) => {
    await first!.kill();
    t.ok(await pings(h1, 'a1', ips.b1), 'traffic does not need weftd');
    t.ok(await hostPings(h1, ips.a1));
    await first!.start();
    await ready(h1);
    await until('names are back', () => pings(h2, 'b1', 'a1'), 15_000);
    await h1.docker('restart', '-t', '0', 'a1');
    await until('found at its new place', () => pings(h2, 'b1', 'a1'), 10_000);
    t.ok(await hostPings(h1, await addressOf(h1, 'a1')));
  });

  await t.test('another network on the same interface, made by weft, for a sandbox', async (t) => {
    await outside('ip', 'address', 'add', '192.168.60.9/24', 'dev', 'eth1');
    await weftJson(h2, 'network', 'create', '-d', 'macvlan', '-o', 'parent=eth1', '-o', 'macvlan_mode=private', '--subnet', '192.168.60.0/24', 'shut');
    const box = await weftJson<{ address: string }>(h2, 'sandbox', 'add', 'box', '--network', 'shut');
    const inBox = async (target: string): Promise<boolean> => (await h2.exec(['ip', 'netns', 'exec', 'box', 'busybox', 'ping', '-c', '1', '-W', '1', target])).code === 0;
    t.ok(await inBox('192.168.60.9'));
    t.match(await weftJson<NetworkAnswer>(h1, 'network', 'inspect', 'shut'), { driver: 'macvlan', scope: 'cluster', vni: undefined, endpoints: [{ node: 'h2', ip: box.address.split('/')[0] }] });
    t.equal((await weft(h2, 'sandbox', 'rm', 'box')).code, 0);
    await until('it can go', async () => (await weft(h2, 'network', 'rm', 'shut')).code === 0, 10_000);
  });

  await t.test('without a parent: a network of one host, cut off', async (t) => {
    await h1.docker('network', 'create', '-d', 'weft-macvlan', '--subnet', '10.77.0.0/24', 'alone');
    await run(h1, 'c1', 'alone');
    await run(h1, 'c2', 'alone');
    await until('they find each other', () => pings(h1, 'c1', 'c2'), 10_000);
    t.notOk(await pings(h1, 'c1', '192.168.50.1'));
    t.notMatch(await h1.docker('exec', 'c1', 'ip', 'route'), 'default');
    t.notMatch((await weft(h2, 'network', 'ls')).stdout, 'alone');
    await h1.docker('rm', '-f', 'c1', 'c2');
    await h1.docker('network', 'rm', 'alone');
  });

  await t.test('nothing is left', async (t) => {
    await h1.docker('rm', '-f', 'a1', 'a2');
    await h2.docker('rm', '-f', 'b1');
    t.match((await weft(h1, 'ipam', 'check')).stdout, /^0 findings/);
    await until('the network can go', async () => (await weft(h1, 'network', 'rm', 'lan')).code === 0, 10_000);
    await until('everywhere', async () => (await h2.docker('network', 'ls', '--filter', 'driver=weft-macvlan', '--format', '{{.Name}}')) === '');
    t.same(await weftJson(h1, 'ipam', 'ls'), []);
    for (const [i, host] of [h1, h2].entries()) {
      await until('links and routes go', async () => await host.must(['sh', '-c', LINKS]) === before[i], 5_000).catch(() => {});
      t.equal(await host.must(['sh', '-c', LINKS]), before[i], `${host.name} is as before`);
    }
  });

  await t.test('weft is taken off a host with containers on such networks', async (t) => {
    await weftJson(h1, 'network', 'create', '-d', 'macvlan', '-o', 'parent=eth1', '-o', 'weft.host_access=true', '--subnet', '192.168.50.0/24', '--ip-range', '192.168.50.128/25', 'lan');
    await until('h2 has it', async () => (await h2.docker('network', 'ls', '--filter', 'driver=weft-macvlan', '--format', '{{.Name}}')) === 'lan');
    await run(h2, 'b2', 'lan');
    t.match(await h2.must(['ip', '-br', 'link']), 'wmh-');
    await second!.stop();
    const purged = await weft(h2, 'down', '--purge');
    t.equal(purged.code, 0, purged.stdout + purged.stderr);
    t.notMatch(await h2.must(['ip', '-br', 'link']), /wm/);
    t.notMatch(await h2.must(['ip', 'route']), '192.168.50');
    t.equal(await h2.docker('network', 'ls', '--filter', 'driver=weft-macvlan', '--format', '{{.Name}}'), '');
  });
});
