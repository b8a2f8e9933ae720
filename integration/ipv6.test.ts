/**
 *        outside fd99:9::10
 *          |
 *        router
 *        /    \
 *      h1      h2          Docker on both, etcd on h1; fd99:1::1 and fd99:2::2 besides IPv4, by which they are a cluster
 *
 * Networks with both families and with IPv6 alone: overlays on both hosts, bridges on h1.
 */
import { resolve } from 'node:path';
import tap, { type Test, test } from 'tap';
import type { NetworkAnswer } from '../agent/api.ts';
import type { PoolAnswer } from '../agent/ipam-api.ts';
import { fetchEngine } from './lab/engines.ts';
import { startEtcd } from './lab/etcd.ts';
import type { Host, Service } from './lab/host.ts';
import { IMAGE } from './lab/image.ts';
import { addIpv6 } from './lab/ipv6.ts';
import { OUTSIDER_ADDRESS, type Lab, createLab } from './lab/lab.ts';
import { until } from './lab/run.ts';
import { ready, weft, weftJson, weftUp } from './lab/weft.ts';

tap.setTimeout(420_000);

const OUTSIDE = 'fd99:9::10';
/** Answers with the address of whoever asks. */
const SHOW_CALLER = 'mkdir -p /www/cgi-bin; printf \'#!/bin/sh\\necho Content-Type: text/plain; echo; echo $REMOTE_ADDR | tr -d []\\n\' > /www/cgi-bin/index.cgi; chmod +x /www/cgi-bin/index.cgi; httpd -p "[::]:80" -h /www';

interface Stage { lab: Lab; h1: Host; h2: Host; services: Service[]; before: string }

async function stage(t: Test, name: string, engine?: string): Promise<Stage> {
  const lab = await createLab({ name, hosts: 2, docker: true, engine });
  t.teardown(() => lab.destroy());
  await addIpv6(lab, OUTSIDE, [1, 2]);
  const [h1, h2] = [lab.host(1), lab.host(2)];
  const before = await kernelOf(h2);
  const etcd = await startEtcd(h1);
  const services = await Promise.all([h1, h2].map((host) => weftUp(host, { store: etcd.url })));
  await until('they see each other', async () => ((await weft(h1, 'status')).stdout.match(/ alive$/gm) ?? []).length === 2);
  for (const host of [h1, h2]) await until('Docker answers', async () => /docker +answers/.test((await weft(host, 'status')).stdout));
  return { lab, h1, h2, services, before };
}

const curl = (at: string): string[] => ['curl', '-s', '-m', '2', `http://${at}/`];

/** The host's own part of the kernel, without what moves by itself. */
const kernelOf = async (host: Host): Promise<string> => [
  ...await Promise.all([['ip', '-6', 'route'], ['ip', '-6', 'rule'], ['ip', '-6', '-o', 'address', 'show', 'scope', 'global'], ['ip', 'netns'], ['nft', 'list', 'tables'], ['ip6tables', '-S']].map((command) => host.must(command))),
  await host.must(['sh', '-c', 'ip -o link | cut -d: -f2; sysctl net.ipv4.ip_forward; sysctl -a --pattern "^net\\.ipv6\\.conf\\.(all|default|eth0)\\.(forwarding|accept_ra|disable_ipv6|accept_dad)$"']),
].join('\n');

const run = (host: Host, name: string, network: string, ...args: string[]) => host.docker('run', '-d', '--stop-signal', 'KILL', '--network', network, '--name', name, ...args, IMAGE, 'sleep', '100000');
const pings = async (host: Host, container: string, target: string, family: 4 | 6 = 6): Promise<boolean> => (await host.tryDocker('exec', container, 'ping', `-${family}`, '-c', '1', '-W', '1', target)).code === 0;
const reaches = (host: Host, container: string, target: string, family?: 4 | 6): Promise<unknown> => until(`${container} reaches ${target}`, () => pings(host, container, target, family));
const addressOf = (host: Host, container: string, network: string): Promise<string> => host.docker('inspect', '-f', `{{.NetworkSettings.Networks.${network}.GlobalIPv6Address}}`, container);
const subnetsOf = async (host: Host, network: string): Promise<string[]> => (await host.docker('network', 'inspect', '-f', '{{range .IPAM.Config}}{{.Subnet}} {{end}}', network)).split(' ');
const isolated = async (t: Test, host: Host, container: string, target: string): Promise<void> => void t.notOk(await pings(host, container, target), `${container} does not reach ${target}`);

void test('overlay networks of two hosts', async (t) => {
  const { lab, h1, h2, services: [, second], before } = await stage(t, 'ipv6o');
  lab.spawnOn('outside', [process.execPath, resolve(import.meta.dirname, 'lab/upstream.ts'), 'up.example=198.51.100.7']);
  await h1.docker('network', 'create', '-d', 'weft-overlay', '--ipam-driver', 'weft', '--ipv6', 'dual');
  await h2.docker('network', 'create', '-d', 'weft-overlay', '--ipv6', '--subnet', '10.73.0.0/24', '--subnet', 'fd23::/64', 'own');
  await weftJson(h1, 'network', 'create', '--no-ipv4', '--ipv6', '--subnet', 'FD21:0::/64', '--gateway', 'fd21::0:fe', 'six');
  for (const host of [h1, h2]) for (const name of ['dual', 'own', 'six']) await until(`${host.name} has ${name}`, async () => (await host.tryDocker('network', 'inspect', name)).code === 0);
  const { subnets } = await weftJson<NetworkAnswer>(h2, 'network', 'inspect', 'dual');
  t.match(subnets, [{ subnet: /^10\.192\./ }, { subnet: /^fd[0-9a-f]{2}:[0-9a-f]{1,4}:[0-9a-f]{1,4}:.*::\/64$|^fd[0-9a-f]{2}:[0-9a-f]{1,4}:[0-9a-f]{1,4}::\/64$/, gateway: /::1$/ }], 'a unique local /64 is chosen');
  for (const subnet of subnets) t.ok((await subnetsOf(h2, 'dual')).includes(subnet.subnet), `the copy has ${subnet.subnet}`);
  t.match(await weftJson<NetworkAnswer>(h2, 'network', 'inspect', 'six'), { subnets: [{ subnet: 'fd21::/64', gateway: 'fd21::fe' }] });

  await Promise.all([run(h1, 'api', 'dual'), run(h2, 'worker', 'dual')]);
  await Promise.all([run(h1, 'six1', 'six', '--ip6', 'fd21::51'), run(h2, 'six2', 'six')]);
  await Promise.all([run(h1, 'own1', 'own'), run(h2, 'own2', 'own')]);
  for (const [host, from, to] of [[h1, 'api', 'worker'], [h2, 'worker', 'api'], [h1, 'own1', 'own2'], [h2, 'own2', 'own1']] as const) {
    await reaches(host, from, to);
    await reaches(host, from, to, 4);
  }
  for (const [host, from, to] of [[h1, 'six1', 'six2'], [h2, 'six2', 'six1']] as const) await reaches(host, from, to);
  t.equal(await addressOf(h1, 'six1', 'six'), 'fd21::51');
  t.match(await h1.docker('exec', 'six1', 'cat', '/sys/class/net/eth0/address'), '02:42:00:00:00:51', 'its MAC follows from its address');
  t.match(await addressOf(h2, 'own2', 'own'), /^fd23::[0-9a-f]+$/);
  t.equal(await h1.docker('exec', 'api', 'cat', '/proc/sys/net/ipv6/conf/eth0/disable_ipv6'), '0');
  t.notMatch(await h1.docker('exec', 'six1', 'ip', 'link'), 'eth1', 'no bridge of Docker\'s beside it');

  t.test('names', async (t) => {
    const asks = async (container: string, ...question: string[]): Promise<string> => (await h1.tryDocker('exec', container, 'nslookup', ...question)).stdout;
    const worker = await addressOf(h2, 'worker', 'dual');
    t.match(await asks('api', '-type=aaaa', 'worker'), worker);
    t.match(await asks('api', worker), 'worker.dual');
    await until('an outside name resolves where there is no IPv4', async () => (await asks('six1', '-type=a', 'up.example')).includes('198.51.100.7'));
    t.equal((await weft(h1, 'network', 'inspect', 'dual')).stdout.includes(worker), true);
  });

  t.test('the way out, the hosts, and who does not reach whom', async (t) => {
    for (const [host, container] of [[h1, 'api'], [h2, 'worker'], [h1, 'six1'], [h2, 'six2']] as const) {
      await reaches(host, container, OUTSIDE);
      await reaches(host, container, 'fd99:2::2');
    }
    const worker = await addressOf(h2, 'worker', 'dual');
    t.equal((await h1.exec(['busybox', 'ping', '-6', '-c', '1', '-W', '2', worker])).code, 0, 'a host reaches a container of the other one');
    await isolated(t, h1, 'six1', worker);
    await isolated(t, h2, 'worker', 'fd21::51');
    await isolated(t, h2, 'worker', await addressOf(h2, 'own2', 'own'));
    await run(h1, 'both', 'dual');
    await h1.docker('network', 'connect', 'six', 'both');
    for (const name of ['worker', 'six2', OUTSIDE]) await reaches(h1, 'both', name);
    await h1.docker('restart', '-t', '0', 'both');
    for (const name of ['worker', 'six2', OUTSIDE]) await reaches(h1, 'both', name);
  });

  t.test('published ports', async (t) => {
    await run(h1, 'web', 'dual', '-p', '8085:80', '-p', '[fd99:1::1]:8087:80');
    await run(h2, 'web6', 'six', '-p', '8086:80');
    for (const [host, name] of [[h1, 'web'], [h2, 'web6']] as const) await host.docker('exec', name, 'sh', '-c', SHOW_CALLER);
    const asks = (from: 'outside' | Host, at: string) => (from === 'outside' ? lab.on(from, curl(at)) : from.exec(curl(at)));
    const answers = (from: 'outside' | Host, at: string): Promise<string> => until(`${at} answers`, async () => asks(from, at).then(({ code, stdout }) => code === 0 && stdout.trim()));
    const [at1, at2] = ['[fd99:1::1]', '[fd99:2::2]'];
    for (const at of [`${at1}:8085`, `${at2}:8085`, `${at1}:8086`, `${at2}:8086`, `${at1}:8087`]) t.equal(await answers('outside', at), OUTSIDE, `the caller is seen by way of ${at}`);
    for (const { address } of [h1, h2]) t.match(await answers('outside', `${address}:8085`), OUTSIDER_ADDRESS, 'by IPv4 as well');
    t.equal(await answers(h1, `${at2}:8085`), 'fd99:1::1', 'a program of the container\'s host, by the other one');
    t.equal(await answers(h2, `${at2}:8085`), 'fd99:2::2', 'a program of the other host, by its own');
    for (const at of [`${at2}:8087`, `${h1.address}:8086`]) t.match(await asks('outside', at), { code: 7 }, `${at} is refused`);
    const [address, address6] = [(await h1.docker('inspect', '-f', '{{.NetworkSettings.Networks.dual.IPAddress}}', 'web')), await addressOf(h1, 'web', 'dual')];
    const text = (await weft(h2, 'ps')).stdout;
    t.match(text, new RegExp(`^8085/tcp +web +ingress +${address}:80 \\[${address6}\\]:80 \\(h1\\)`, 'm'));
    t.match(text, /^\[fd99:1::1\]:8087\/tcp +web +host /m);
    t.match(await h1.tryDocker('run', '--rm', '--network', 'six', '-p', `${h1.address}:8088:80`, IMAGE, 'true'), { code: 125, stderr: /WEFT-FEATURE-MISSING.*without an IPv4 address/ });
    t.match(await asks(h1, '[::1]:8085'), { code: 7 }, '::1 refuses at once, so that programs go on to 127.0.0.1');
    t.match(await asks(h1, 'localhost:8085'), { code: 0 });
  });

  t.test('weftd comes back', async (t) => {
    const address = await addressOf(h1, 'api', 'dual');
    await second!.crash();
    await ready(h2);
    for (const [host, from, to] of [[h1, 'api', 'worker'], [h2, 'worker', 'api'], [h2, 'six2', 'six1']] as const) await reaches(host, from, to);
    await run(h2, 'late', 'six');
    await reaches(h1, 'six1', 'late');
    t.ok(await pings(h2, 'worker', address));
  });

  t.test('a host without IPv6', async (t) => {
    await h2.must(['sysctl', '-qw', 'net.ipv6.conf.all.disable_ipv6=1']);
    const refused = { code: 125, stderr: /WEFT-IPV6-DISABLED: network dual .*net\.ipv6\.conf\.all\.disable_ipv6 is 1; .*sysctl -w net\.ipv6\.conf\.all\.disable_ipv6=0/ };
    t.match(await h2.tryDocker('run', '--rm', '--network', 'dual', IMAGE, 'true'), refused);
    t.match(await h2.tryDocker('network', 'create', '-d', 'weft-overlay', '--ipam-driver', 'weft', '--ipv6', 'more'), { code: 1, stderr: /WEFT-IPV6-DISABLED/ });
    t.match(await weft(h2, 'network', 'create', '--ipv6', 'more'), { code: 1, stderr: /WEFT-IPV6-DISABLED/ });
    await reaches(h2, 'worker', 'api', 4);
    await h2.must(['sysctl', '-qw', 'net.ipv6.conf.all.disable_ipv6=0']);
    await h2.must(['ip', 'addr', 'add', 'fd99:2::2/128', 'dev', 'eth0', 'nodad']);
    await h2.must(['ip', '-6', 'route', 'replace', 'default', 'via', 'fe80::99', 'dev', 'eth0']);
    await reaches(h2, 'worker', 'api');
    await reaches(h2, 'worker', OUTSIDE);
  });

  t.test('nothing stays', async (t) => {
    for (const host of [h1, h2]) await host.must(['sh', '-c', 'docker rm -f $(docker ps -aq)']);
    await until('no addresses are in use', async () => {
      const pools = (await Promise.all([h1, h2].map((host) => weftJson<PoolAnswer[]>(host, 'ipam', 'ls')))).flat();
      return pools.every(({ shares }) => shares.every(({ used }) => !used));
    });
    for (const name of ['dual', 'own', 'six']) t.match(await weft(h1, 'network', 'rm', name), { code: 0 });
    await until('they are gone on both', async () => (await h2.docker('network', 'ls', '--filter', 'driver=weft-overlay', '-q')) === '');
    t.equal((await weft(h1, 'ipam', 'check')).stdout, '0 findings in 0 pools, as node h1 sees them\n');
    await until('the uplink is as it was', async () => (await h2.must(['ip', '-6', 'address', 'show', 'dev', 'weft-up'])) === '');
    await second!.stop();
    t.match(await weft(h2, 'down', '--purge'), { code: 0 });
    t.equal(await kernelOf(h2), before);
  });
});

void test('bridge networks of one host', async (t) => {
  const { lab, h1, services: [first] } = await stage(t, 'ipv6b');
  const create = (...args: string[]) => h1.docker('network', 'create', '-d', 'weft-bridge', ...args);
  await create('--ipv6', '--subnet', 'fd31::/64', 'mixed');
  await create('--ipam-driver', 'weft', '--ipv6', '--subnet', '10.74.0.0/24', 'chosen');
  await create('--ipam-driver', 'weft', '--ipam-opt', 'weft.ipv4=false', '--ipv6', '--subnet', 'fd33::/64', 'only');
  t.match((await weftJson<NetworkAnswer[]>(h1, 'network', 'ls')).map(({ subnets }) => subnets.length), [2, 2, 1]);
  await Promise.all(['mixed', 'chosen', 'only'].flatMap((network) => ['a', 'b'].map((name) => run(h1, `${network}-${name}`, network))));
  const addresses = await Promise.all(['mixed', 'chosen', 'only'].map((network) => addressOf(h1, `${network}-b`, network)));
  for (const [i, network] of ['mixed', 'chosen', 'only'].entries()) {
    await reaches(h1, `${network}-a`, `${network}-b`);
    await reaches(h1, `${network}-b`, `${network}-a`);
    await reaches(h1, `${network}-a`, OUTSIDE);
    if (network !== 'only') await reaches(h1, `${network}-a`, `${network}-b`, 4);
    for (const [j, address] of addresses.entries()) if (i !== j) await isolated(t, h1, `${network}-a`, address);
  }
  t.match(await weftJson(h1, 'sandbox', 'add', 'box', '--network', 'only', '--ip6', 'fd33::77'), { addressIpv6: 'fd33::77/64' });
  await reaches(h1, 'only-a', 'box');
  t.equal((await h1.exec(['ip', 'netns', 'exec', 'box', 'busybox', 'ping', '-6', '-c', '1', OUTSIDE])).code, 0);
  t.match(await h1.tryDocker('run', '--rm', '--network', 'only', '--ip6', 'fd33::77', IMAGE, 'true'), { code: 125, stderr: /WEFT-ADDRESS-IN-USE/ });
  t.match((await weft(h1, 'ps')).stdout, /fd33::77/);
  t.match(await weft(h1, 'sandbox', 'add', 'shop', '--network', 'only', '-p', '10.99.1.1:8080:80'), { code: 1, stderr: /WEFT-FEATURE-MISSING.*without an IPv4 address/ });
  t.match(await weft(h1, 'sandbox', 'add', 'shop', '--network', 'only', '-p', '8080:80', '-p', '[fd99:1::1]:8081:80'), { code: 0 });
  await run(h1, 'web', 'mixed', '-p', '8082:80');
  await run(h1, 'web6', 'only', '-p', '8083:80');
  for (const name of ['web', 'web6']) await h1.docker('exec', name, 'sh', '-c', SHOW_CALLER);
  h1.spawn(['ip', 'netns', 'exec', 'shop', process.execPath, '-e', 'require("http").createServer((q, r) => r.end(q.socket.remoteAddress)).listen(80, "::")']);
  for (const port of [8080, 8081, 8082, 8083]) t.equal(await until(`${port} answers`, () => lab.on('outside', curl(`[fd99:1::1]:${port}`)).then(({ code, stdout }) => code === 0 && stdout.trim())), OUTSIDE);
  t.match((await weft(h1, 'ps')).stdout, /^\[fd99:1::1\]:8081\/tcp +\S+ +host +\[fd33::[0-9a-f:]+\]:80 /m);
  t.match(await weft(h1, 'sandbox', 'rm', 'shop'), { code: 0 });

  await first!.crash();
  await ready(h1);
  await reaches(h1, 'mixed-a', 'mixed-b');
  await reaches(h1, 'only-a', OUTSIDE);

  await weft(h1, 'sandbox', 'rm', 'box');
  await h1.must(['sh', '-c', 'docker rm -f $(docker ps -aq)']);
  await h1.docker('network', 'rm', 'mixed', 'chosen', 'only');
  t.same(await weftJson(h1, 'network', 'ls'), []);
  await until('nothing of them is left', async () => !/wbr-|we-|wc-|fd3[13]::/.test(`${await h1.must(['ip', '-o', 'link'])}${await h1.must(['ip', '-6', 'route'])}`), 40_000);
  t.equal((await weft(h1, 'ipam', 'check')).stdout, '0 findings in 0 pools, as node h1 sees them\n');
});

void test('an engine that knows networks without IPv4', async (t) => {
  const engine = await fetchEngine('forky').catch(String);
  if (!engine.startsWith('/')) {
    t.pass('a newer engine', { skip: `the mirror has none: ${engine}` });
    return;
  }
  const { lab, h1, h2 } = await stage(t, 'ipv6e', engine);
  await h1.docker('network', 'create', '-d', 'weft-overlay', '--ipam-driver', 'weft', '--ipv4=false', '--ipv6', 'six');
  await weftJson(h2, 'network', 'create', '--ipv6', 'dual');
  for (const host of [h1, h2]) for (const name of ['six', 'dual']) await until(`${host.name} has ${name}`, async () => (await host.tryDocker('network', 'inspect', name)).code === 0);
  t.equal(await h2.docker('network', 'inspect', '-f', '{{.EnableIPv4}} {{.EnableIPv6}} {{len .IPAM.Config}}', 'six'), 'false true 1', 'the copy on the other host, too');
  await Promise.all([run(h1, 'six1', 'six'), run(h2, 'six2', 'six'), run(h1, 'dual1', 'dual'), run(h2, 'dual2', 'dual')]);
  for (const [host, from, to] of [[h1, 'six1', 'six2'], [h2, 'six2', 'six1'], [h1, 'dual1', 'dual2'], [h2, 'dual2', 'dual1']] as const) {
    await reaches(host, from, to);
    await reaches(host, from, OUTSIDE);
  }
  await run(h1, 'web6', 'six', '-p', '8090:80');
  await h1.docker('exec', 'web6', 'sh', '-c', SHOW_CALLER);
  for (const at of ['[fd99:1::1]:8090', '[fd99:2::2]:8090']) t.equal(await until(`${at} answers`, () => lab.on('outside', curl(at)).then(({ code, stdout }) => code === 0 && stdout.trim())), OUTSIDE);
  t.match(await h1.docker('exec', 'six1', 'ip', '-6', 'route', 'show', 'default'), /^default via fd/, 'Docker itself sets the way out');
  await h1.docker('network', 'connect', 'dual', 'six1');
  await reaches(h1, 'six1', 'dual2', 4);
  await reaches(h1, 'six1', 'six2');
  await reaches(h1, 'six1', OUTSIDE);
  await h1.docker('network', 'create', '-d', 'weft-bridge', '--ipam-driver', 'weft', '--ipv4=false', '--ipv6', '--subnet', 'fd33::/64', 'only');
  await Promise.all([run(h1, 'only1', 'only'), run(h1, 'only2', 'only')]);
  await reaches(h1, 'only1', 'only2');
  await reaches(h1, 'only2', OUTSIDE);
});
