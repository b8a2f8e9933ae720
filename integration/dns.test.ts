/**
 *   outside (name server)
 *      |
 *   router
 *      |
 *     h1       Docker, one host, no etcd
 *
 * What a container is told: the same questions to Docker's resolver and to ours, in the same container, each difference intended
 * (docs/reference/dns.md); health checks; the outside world with its name server gone; what an internal network lets out.
 */
import { join } from 'node:path';
import tap, { type Test, test } from 'tap';
import type { StatusAnswer } from '../agent/api.ts';
import { foreignPorts } from '../dns/resolver-ports.ts';
import { askTcp, askUdp, decode, outcome, question } from '../dns/testing.ts';
import { openNetns } from '../linux/netns.ts';
import type { Netns } from '../linux/types.ts';
import type { Host } from './lab/host.ts';
import { IMAGE } from './lab/image.ts';
import { createLab, OUTSIDER_ADDRESS } from './lab/lab.ts';
import { until } from './lab/run.ts';
import { weft, weftJson, weftUp } from './lab/weft.ts';

tap.setTimeout(240_000);

const OUTSIDE = '198.51.100.7';

async function inside(t: Test, host: Host, container: string): Promise<Netns> {
  const netns = openNetns(await host.containerNetns(container));
  t.teardown(() => netns.close());
  return netns;
}

const run = (host: Host, name: string, ...args: string[]): Promise<string> =>
  host.docker('run', '-d', '--stop-signal', 'KILL', '--name', name, ...args, IMAGE, 'sleep', '100000');
const ask = async (netns: Netns, name: string, type?: string, port?: number): Promise<string> => (await said(() => askUdp(netns, question(name, type), port))).split(' ').sort().join(' ');
const said = async (asking: () => Promise<Buffer>): Promise<string> => asking().then(outcome, (error: unknown) => (error as Error).message);
const addressOf = async (host: Host, container: string): Promise<string> => host.docker('inspect', '-f', '{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}', container);

test('names in containers', async (t) => {
  const lab = await createLab({ name: 'dns', hosts: 1, docker: true });
  t.teardown(() => lab.destroy());
  const h1 = lab.host(1);
  await weftUp(h1);
  await until('Docker answers', async () => /docker +answers/.test((await weft(h1, 'status')).stdout));
  const nameServer = lab.spawnOn('outside', [process.execPath, join(import.meta.dirname, 'lab/upstream.ts'), `www.example=${OUTSIDE}`]);
  await weftJson(h1, 'network', 'create', 'web');
  await until('Docker has the network', async () => (await h1.tryDocker('network', 'inspect', 'web')).code === 0);
  await run(h1, 'probe', '--network', 'web');
  const netns = await inside(t, h1, 'probe');
  await t.test('Docker\'s resolver and ours', async (t) => besides(t, h1, netns));
  await t.test('health checks', async (t) => health(t, h1, netns));
  await t.test('an internal network', async (t) => internal(t, h1));
  await t.test('the name server of the outside goes', async (t) => {
    t.equal(await ask(netns, 'www.example'), OUTSIDE);
    nameServer.kill('SIGKILL');
    await lab.on('outside', ['ip', 'addr', 'del', `${OUTSIDER_ADDRESS}/24`, 'dev', 'eth0']);
    t.equal(await ask(netns, 'www.example'), OUTSIDE, 'what is kept is answered');
    t.equal(await ask(netns, 'api1'), await addressOf(h1, 'api1'), 'names of containers do not need it');
    const { dns } = await weftJson<StatusAnswer>(h1, 'status');
    t.ok(dns['cached']! > 0 && dns['answered']! > 0, JSON.stringify(dns));
  });
});

async function besides(t: Test, h1: Host, netns: Netns): Promise<void> {
  for (const i of [1, 2]) await run(h1, `api${i}`, '--network', 'web', '--network-alias', 'api', '--hostname', `host${i}`, '--expose', '8080');
  const [one, two] = [await addressOf(h1, 'api1'), await addressOf(h1, 'api2')];
  const both = [one, two].sort().join(' ');
  await until('both are named, with their aliases', async () => await ask(netns, 'api') === both && await ask(netns, '_8080._tcp.host2', 'SRV') !== 'NXDOMAIN');
  const id = (await h1.docker('inspect', '-f', '{{.Id}}', 'api1')).slice(0, 12);
  const ports = foreignPorts(netns);
  t.equal(ports.udp.length, 1, 'Docker\'s resolver is there, too');
  const reverse = (ip: string): string => `${ip.split('.').reverse().join('.')}.in-addr.arpa`;
  /** Question, type, what both say or what Docker's says and ours. */
  const TABLE: [string, string, string, string?][] = [
    ['api1', 'A', one], ['API1', 'A', one], ['api1.web', 'A', one], ['host1', 'A', one], [id, 'A', one], ['api', 'A', both], ['api.web', 'A', both],
    ['api1', 'AAAA', ''], ['api1', 'MX', ''], [reverse(one), 'PTR', 'api1.web'],
    ['www.example', 'A', OUTSIDE], ['nobody.example', 'A', 'NXDOMAIN'], ['nobody', 'A', 'NXDOMAIN'], [reverse('198.51.100.9'), 'PTR', 'NXDOMAIN'],
    ['api1.WEB', 'A', 'NXDOMAIN', one], ['api1', 'TXT', 'NXDOMAIN', ''], ['tasks.api', 'A', 'NXDOMAIN', both], ['_80._tcp.api', 'SRV', 'NXDOMAIN', ''],
  ];
  for (const [name, type, docker, ours = docker] of TABLE) {
    t.equal(await ask(netns, name, type, ports.udp[0]), docker, `Docker: ${name} ${type}`);
    t.equal(await ask(netns, name, type), ours, `ours: ${name} ${type}`);
    if (type === 'A') t.equal((await said(() => askTcp(netns, question(name, type)))).split(' ').sort().join(' '), ours, `ours over TCP: ${name}`);
  }
  const services = decode(await askUdp(netns, question('_8080._tcp.api', 'SRV'))).answers!.map((each) => each.type === 'SRV' && `${each.data.target}:${each.data.port}`).sort();
  t.same(services, ['api1.web:8080', 'api2.web:8080']);
  const ttl = async (port?: number): Promise<number | undefined> => (decode(await askUdp(netns, question('api1'), port)).answers![0] as { ttl?: number }).ttl;
  t.same([await ttl(ports.udp[0]), await ttl()], [600, 5]);
}

async function health(t: Test, h1: Host, netns: Netns): Promise<void> {
  const check = ['--network', 'web', '--network-alias', 'checked', '--health-cmd', 'test -f /tmp/well', '--health-interval', '1s', '--health-retries', '1'];
  for (const i of [1, 2]) await run(h1, `checked${i}`, ...check);
  const ips = [await addressOf(h1, 'checked1'), await addressOf(h1, 'checked2')];
  const says = (what: string, answer: string): Promise<unknown> => until(what, async () => await ask(netns, 'checked') === answer, 20_000);
  await says('none is healthy: any may do', ips.toSorted().join(' '));
  await h1.docker('exec', 'checked1', 'touch', '/tmp/well');
  await says('the healthy one alone', ips[0]!);
  t.equal(await ask(netns, 'checked2'), ips[1], 'by its own name the other is still found');
  await h1.docker('exec', 'checked2', 'touch', '/tmp/well');
  await says('both', ips.toSorted().join(' '));
  await h1.docker('exec', 'checked1', 'rm', '/tmp/well');
  await says('the first fails now', ips[1]!);
}

async function internal(t: Test, h1: Host): Promise<void> {
  await weftJson(h1, 'network', 'create', '--internal', 'vault');
  await until('Docker has the network', async () => (await h1.tryDocker('network', 'inspect', 'vault')).code === 0);
  for (const name of ['safe', 'lock']) await run(h1, name, '--network', 'vault');
  const netns = await inside(t, h1, 'safe');
  await until('names are there', async () => await ask(netns, 'lock') === await addressOf(h1, 'lock'));
  const capture = await h1.capture('eth0', 'port 53');
  t.equal(await ask(netns, 'www.example'), 'SERVFAIL');
  t.equal(await said(() => askTcp(netns, question('www.example'))), 'SERVFAIL');
  t.notMatch(await capture.stop(), /www.example/, 'nothing left the host');
  await h1.docker('network', 'create', 'bridged');
  await run(h1, 'neighbour', '--network', 'bridged');
  await h1.docker('network', 'connect', 'bridged', 'safe');
  await until('on a network of Docker\'s, too: what only Docker knows', async () => await ask(netns, 'neighbour') === await addressOf(h1, 'neighbour'));
  t.equal(await ask(netns, 'www.example'), OUTSIDE, 'and the outside, which that network leads to');
  t.equal(await ask(netns, 'lock'), await addressOf(h1, 'lock'));
  await h1.docker('network', 'disconnect', 'bridged', 'safe');
  await until('and closed again without it', async () => await ask(netns, 'neighbour') === 'SERVFAIL');
}
