/**
 *     router
 *     /    \
 *   h1      h2          Docker on both, etcd on h1
 *
 * Networks everywhere: what one host makes or removes, whoever asked for it, and what no single host can take away.
 */
import tap, { type Test, test } from 'tap';
import type { NetworkAnswer, PruneAnswer } from '../agent/api.ts';
import { type Etcd, startEtcd } from './lab/etcd.ts';
import type { Host, Service } from './lab/host.ts';
import { IMAGE } from './lab/image.ts';
import { OUTSIDER_ADDRESS, createLab } from './lab/lab.ts';
import { until, wait } from './lab/run.ts';
import { ready, weft, weftJson, weftUp } from './lab/weft.ts';

tap.setTimeout(420_000);
// Each has hosts of its own.
tap.jobs = 2;

interface Stage { h1: Host; h2: Host; hosts: Host[]; etcd: Etcd; second: Service }

async function stage(t: Test, name: string): Promise<Stage> {
  const lab = await createLab({ name, hosts: 2, docker: true });
  t.teardown(() => lab.destroy());
  const [h1, h2] = [lab.host(1), lab.host(2)];
  const etcd = await startEtcd(h1);
  const [, second] = await Promise.all([h1, h2].map((host) => weftUp(host, { store: etcd.url })));
  await until('they see each other', async () => ((await weft(h1, 'status')).stdout.match(/ alive$/gm) ?? []).length === 2);
  for (const host of [h1, h2]) await until('Docker answers', async () => /docker +answers/.test((await weft(host, 'status')).stdout));
  return { h1, h2, hosts: [h1, h2], etcd, second: second! };
}

/** Weft's networks as Docker of a host has them. */
const inDocker = async (host: Host): Promise<string> =>
  (await host.docker('network', 'ls', '--filter', 'driver=weft-overlay', '--format', '{{.Name}}')).split('\n').sort().join(' ');
const inWeft = async (host: Host): Promise<string> => (await weftJson<NetworkAnswer[]>(host, 'network', 'ls')).map(({ name }) => name).sort().join(' ');
const everywhere = (hosts: readonly Host[], names: string): Promise<unknown> => until(`all hosts have '${names}' and nothing else`, async () => {
  for (const host of hosts) {
    const [docker, ours] = [await inDocker(host), await inWeft(host)];
    if (docker !== names || ours !== names) throw new Error(`${host.name}: Docker has '${docker}', Weft '${ours}'`);
  }
  return true;
}, 30_000, 200);
const inspect = (host: Host, name: string): Promise<NetworkAnswer> => weftJson<NetworkAnswer>(host, 'network', 'inspect', name);
const run = (host: Host, name: string, network: string, ...args: string[]) => host.docker('run', '-d', '--stop-signal', 'KILL', '--network', network, '--name', name, ...args, IMAGE, 'sleep', '100000');
const pings = async (host: Host, container: string, target: string): Promise<boolean> => (await host.tryDocker('exec', container, 'ping', '-c', '1', '-W', '1', target)).code === 0;

void test('who is on a network: connect, disconnect, inspect, prune', { buffered: true }, async (t) => {
  const { h1, h2, hosts } = await stage(t, 'connect');
  await weftJson(h1, 'network', 'create', '--subnet', '10.70.0.0/24', '--aux-address', 'printer=10.70.0.9', '--label', 'team=blue', 'web');
  await weftJson(h2, 'network', 'create', 'idle', '--subnet', '10.192.0.0/25', '--aux-address', 'printer=10.192.0.66');
  await weftJson(h2, 'network', 'create', 'back');
  await everywhere(hosts, 'back idle web');
  await run(h1, 'api', 'web');
  await weftJson(h2, 'sandbox', 'add', 'box', '--network', 'web');

  t.equal((await weft(h1, 'network', 'connect', '--ip', '10.192.1.77', '--alias', 'database', 'back', 'api')).stdout, 'api\n');
  t.equal((await weft(h2, 'network', 'connect', '--alias', 'cabinet', 'back', 'box')).stdout, 'box\n');
  const inBox = (...command: string[]) => h2.exec(['ip', 'netns', 'exec', 'box', 'busybox', ...command]);
  await until('box reaches api by its alias on the network that both were connected to', async () => (await inBox('ping', '-c', '1', '-W', '1', 'database')).code === 0);
  await until('and api box', () => pings(h1, 'api', 'cabinet'));

  const seen = await until('h2 knows all of it', async () => {
    const answer = await inspect(h2, 'back');
    return answer.endpoints.length === 2 && answer.endpoints.every(({ name }) => name !== undefined) && answer;
  });
  t.match(seen.peers.map(({ node, address }) => `${node} ${address}`).sort(), ['h1 10.99.1.1', 'h2 10.99.2.2']);
  t.match(seen.endpoints.map(({ name, node, ip }) => [name, node, ip]).sort(), [['api', 'h1', '10.192.1.77'], ['box', 'h2', /^10\.192\.1\./]]);
  t.ok(seen.endpoints.every(({ mac }) => /^02:42(:[0-9a-f]{2}){4}$/.test(mac)));
  t.match(seen, { driver: 'overlay', scope: 'cluster', createdOn: 'h2', attachable: true, vni: Number, subnets: [{ subnet: '10.192.1.0/24', gateway: '10.192.1.1' }] });
  t.equal(seen.dockerId, await h2.docker('network', 'inspect', '-f', '{{.Id}}', 'back'));
  t.match(await inspect(h2, 'web'), { createdOn: 'h1', labels: { team: 'blue' }, subnets: [{ subnet: '10.70.0.0/24', gateway: '10.70.0.1', aux: { printer: '10.70.0.9' } }] });

  const refused = async (code: RegExp, ...args: string[]): Promise<void> => void t.match(await weft(h1, 'network', ...args), { code: 1, stderr: code }, args.join(' '));
  await refused(/WEFT-NETWORK-UNKNOWN.*nowhere/, 'connect', 'nowhere', 'api');
  await refused(/WEFT-CONTAINER-UNKNOWN.*nobody/, 'connect', 'back', 'nobody');
  await refused(/WEFT-CONTAINER-UNKNOWN.*box/, 'connect', 'back', 'box');
  for (const [reserved, holder] of [['10.192.0.1', 'gateway'], ['10.192.0.66', 'printer']] as const) {
    await refused(new RegExp(`WEFT-ADDRESS-IN-USE.*${reserved}.*${holder}`), 'connect', '--ip', reserved, 'idle', 'api');
    t.match(await h2.tryDocker('run', '--rm', '--network', 'idle', '--ip', reserved, IMAGE, 'true'), { code: 125, stderr: /WEFT-ADDRESS-IN-USE/ }, `${reserved} on another host`);
  }
  t.match(await weft(h2, 'network', 'disconnect', 'idle', 'box'), { code: 1, stderr: /WEFT-NOT-CONNECTED.*box.*idle/ });
  await weftJson(h1, 'network', 'create', '-d', 'bridge', 'ours');
  await refused(/WEFT-NETWORK-ABSENT.*ours.*docker network create -d weft-bridge/, 'connect', 'ours', 'api');

  t.same((await weftJson<PruneAnswer>(h1, 'network', 'prune')).unused.map(({ name }) => name).sort(), ['idle', 'ours']);
  t.match((await weft(h1, 'network', 'prune')).stdout, /^idle \(10\.192\.0\.0\/25\) has no endpoints on any host\n[^]*prune --yes\n$/m);
  t.match(await inWeft(h1), 'idle', 'saying is not doing');

  t.equal((await weft(h1, 'network', 'disconnect', 'back', 'api')).code, 0);
  t.equal((await weft(h2, 'network', 'disconnect', 'back', 'box')).code, 0);
  t.notMatch(await h2.must(['ip', '-n', 'box', '-o', 'link']), 'eth1');
  t.match(await h2.must(['ip', '-n', 'box', '-o', 'link']), 'eth0');
  await until('nobody is on it', async () => (await inspect(h1, 'back')).endpoints.length === 0);
  await until('the disconnected address is free again', async () => (await weftJson<{ used: number }[]>(h1, 'ipam', 'ls')).length > 0);
  await run(h2, 'late', 'idle');
  await until('h1 knows of it', async () => (await inspect(h1, 'idle')).endpoints.length === 1);
  t.same((await weft(h1, 'network', 'prune', '--yes')).stdout.trim().split('\n').sort(), ['back', 'ours'], 'an endpoint on another host keeps a network');
  await everywhere(hosts, 'idle web');
  t.equal((await weft(h1, 'ipam', 'check')).stdout, '0 findings in 2 pools, as node h1 sees them\n');
});

void test('the same network on all hosts, whatever a host misses or loses', { buffered: true }, async (t) => {
  const { h1, h2, hosts, second } = await stage(t, 'everywhere');
  await h1.docker('network', 'create', '-d', 'weft-overlay', '--ipam-driver', 'weft', '--subnet', '10.70.0.0/24', '--ip-range', '10.70.0.128/25', '--aux-address', 'printer=10.70.0.200', '--label', 'team=blue', '-o', 'weft.mtu=1300', 'web');
  await everywhere(hosts, 'web');
  const format = '{{json .Labels}} {{index .Options "weft.mtu"}} {{json .IPAM.Config}} {{.Internal}}';
  // Docker of the host that made it shows what was asked for, and that was no gateway.
  const facts = async (host: Host): Promise<string> => (await host.docker('network', 'inspect', '-f', format, 'web')).replace('"Gateway":"10.70.0.129",', '');
  const asMade = await facts(h1);
  t.match(asMade, /"team":"blue".* 1300 .*10\.70\.0\.128\/25.*10\.70\.0\.200/);
  t.equal(await facts(h2), asMade, 'labels, options, range and auxiliary addresses');
  const again = await h2.tryDocker('network', 'create', '-d', 'weft-overlay', 'web');
  t.match(again, { code: 1, stderr: /already exists/ });

  await run(h1, 'api', 'web');
  await h2.docker('system', 'prune', '-f');
  await until('h2 has it again', async () => await inDocker(h2) === 'web');
  t.equal(await facts(h2), asMade, 'put back as it was');

  const makeBridge = () => h2.tryDocker('network', 'create', '-d', 'weft-bridge', '--subnet', '10.78.0.0/24', 'here');
  t.equal((await makeBridge()).code, 0);
  await h2.stopDocker();
  await h2.must(['rm', '-rf', `${h2.directory}/docker/network`]);
  await h2.startDocker();
  await until('a Docker that forgot its networks has it again', async () => await inDocker(h2) === 'web');
  t.equal(await facts(h2), asMade);
  await run(h2, 'worker', 'web');
  await until('and it works', () => pings(h2, 'worker', 'api'));
  await wait(10_000);
  await h2.stopDocker();
  // What it kept mounted goes a moment after it.
  await until('all its files can be removed', async () => (await h2.exec(['rm', '-rf', `${h2.directory}/docker`])).code === 0, 15_000);
  await h2.startDocker();
  await until('also one that lost everything', async () => await inDocker(h2) === 'web');
  await run(h2, 'worker', 'web');
  await until('works with it', () => pings(h2, 'worker', 'api'));
  await until('its own bridge network is gone with it', async () => await inWeft(h2) === 'web');
  t.match(await makeBridge(), { code: 0, stderr: '' }, 'and can be made again');
  await h2.docker('network', 'rm', 'here');
  await until('nothing is left of the lost container', async () => (await weft(h2, 'ipam', 'check')).stdout === '0 findings in 1 pools, as node h2 sees them\n', 60_000, 500);

  await second.stop();
  // As when a host's own state is lost, and Docker's is not.
  await h2.must([process.execPath, '-e', 'new (require("node:sqlite").DatabaseSync)("/var/lib/weft/local.db").exec("DELETE FROM entries WHERE key LIKE \'docker/networks/%\'")']);
  await weftJson(h1, 'network', 'create', 'late');
  await weftJson(h1, 'network', 'create', 'short-lived');
  t.equal((await weft(h1, 'network', 'rm', 'short-lived')).code, 0);
  await second.start();
  await ready(h2);
  await everywhere(hosts, 'late web');
  await run(h2, 'recognised', 'web');
  await h2.docker('rm', '-f', 'recognised');
  await second.stop();
  t.equal((await weft(h1, 'network', 'rm', 'late')).code, 0);
  await second.start();
  await ready(h2);
  await everywhere(hosts, 'web');

  await h2.docker('network', 'create', '--subnet', '10.71.0.0/24', 'clash');
  await weftJson(h1, 'network', 'create', 'clash');
  await until('the clash is reported', async () => /this host has a Docker network clash of its own/.test((await weft(h2, 'status')).stdout));
  t.equal(await h2.docker('network', 'inspect', '-f', '{{.Driver}}', 'clash'), 'bridge', 'and the host\'s own is not touched');
  t.match(await weft(h2, 'network', 'connect', 'clash', 'worker'), { code: 1, stderr: /WEFT-NETWORK-ABSENT.*another one of that name/ });
  await h2.docker('network', 'rm', 'clash');
  await everywhere(hosts, 'clash web');

  await second.kill();
  await until('h2 is dead', async () => /^h2 .* dead$/m.test((await weft(h1, 'status')).stdout), 60_000, 200);
  const prune = await weftJson<PruneAnswer>(h1, 'network', 'prune', '--yes');
  t.match(prune, { unused: [], kept: [{ name: 'clash', why: 'node h2 does not answer and may have endpoints on it' }] });
  await h1.docker('network', 'rm', 'clash');
  await until('and what Docker removes meanwhile is put back', async () => await inDocker(h1) === 'clash web');
  await second.start();
  await ready(h2);
  await until('h2 is back', async () => !(await weft(h1, 'status')).stdout.includes('dead'), 60_000, 200);
  await h1.docker('network', 'rm', 'clash');
  await everywhere(hosts, 'web');

  const make = () => h1.docker('network', 'create', '-d', 'weft-overlay', '--ipam-driver', 'weft', '--subnet', '10.79.0.0/24', '--aux-address', 'printer=10.79.0.9', 'again');
  let made = await make();
  await everywhere(hosts, 'again web');
  // The other host's Docker gives up its copy and the pool of it while this one asks for the next.
  for (let i = 0; i < 3; i++) {
    await h1.docker('network', 'rm', 'again');
    const next = await make();
    t.not(next, made, 'its name and its subnet can be used again at once');
    await until('and both hosts have that one', async () => await inDocker(h2) === 'again web' && (await inspect(h2, 'again')).id === next);
    made = next;
  }
  t.equal((await weft(h2, 'ipam', 'check')).stdout, '0 findings in 2 pools, as node h2 sees them\n');
});

void test('two hosts make a network of one name at the same instant', { buffered: true }, async (t) => {
  const { h1, h2, hosts } = await stage(t, 'instant');
  for (let i = 0; i < 3; i++) {
    const results = await Promise.all(hosts.map((host) => weft(host, 'network', 'create', `w${i}`)));
    t.same(results.map(({ code }) => code).sort(), [0, 1], 'by weft: one succeeds');
    t.match(results.find(({ code }) => code === 1)!.stderr, /WEFT-NETWORK-EXISTS.* network w\d already/);
  }
  await everywhere(hosts, 'w0 w1 w2');
  t.equal(new Set((await weftJson<NetworkAnswer[]>(h1, 'network', 'ls')).map(({ vni }) => vni)).size, 3);

  const fixed = await Promise.all(hosts.map((host) => host.tryDocker('network', 'create', '-d', 'weft-overlay', '--ipam-driver', 'weft', '--subnet', '10.80.0.0/24', 'd0')));
  t.same(fixed.map(({ code }) => code).sort(), [0, 1], 'by Docker, of one subnet: one succeeds');
  t.match(fixed.find(({ code }) => code === 1)!.stderr, /WEFT-SUBNET-OVERLAP|already exists/);
  await everywhere(hosts, 'd0 w0 w1 w2');

  const both = await Promise.all(hosts.map((host) => host.tryDocker('network', 'create', '-d', 'weft-overlay', '--ipam-driver', 'weft', 'd1')));
  t.ok(both.some(({ code }) => code === 0), 'by Docker, of different subnets');
  await until('the cluster has one of that name, and both hosts have that one', async () => {
    const subnets = new Set<string>();
    for (const host of hosts) {
      await inspect(host, 'd1');
      subnets.add(await host.docker('network', 'inspect', '-f', '{{range .IPAM.Config}}{{.Subnet}}{{end}}', 'd1'));
    }
    return subnets.size === 1 && (await weftJson<NetworkAnswer[]>(h1, 'network', 'ls')).length === 5;
  });
  t.equal((await inspect(h1, 'd1')).id, (await inspect(h2, 'd1')).id);
  await everywhere(hosts, 'd0 d1 w0 w1 w2');
  for (const host of hosts) t.notMatch((await weft(host, 'status')).stdout, '! ');
  t.equal((await weft(h1, 'ipam', 'check')).stdout, '0 findings in 5 pools, as node h1 sees them\n');
});

void test('several subnets', { buffered: true }, async (t) => {
  const { h1, h2, hosts } = await stage(t, 'subnets');
  // Docker's command puts several subnets into any order; compose keeps it.
  const create = async (Name: string, Driver: string, ipam: string, Config: object[]): Promise<void> => {
    const body = JSON.stringify({ Name, Driver, CheckDuplicate: true, IPAM: { Driver: ipam, Config } });
    t.match(await h1.must(['curl', '-s', '--unix-socket', '/run/docker.sock', '-H', 'Content-Type: application/json', '-d', body, 'http://docker/networks/create']), '"Id"', Name);
  };
  await create('many', 'weft-overlay', 'weft', [{ Subnet: '10.70.0.0/30' }, { Subnet: '10.71.0.0/24', Gateway: '10.71.0.254', IPRange: '10.71.0.128/25' }]);
  await create('plain', 'weft-overlay', 'default', [{ Subnet: '10.72.0.0/30' }, { Subnet: '10.73.0.0/24' }]);
  await weftJson(h2, 'network', 'create', '--internal', '--subnet', '10.76.0.0/30', '--subnet', '10.77.0.0/24', '--aux-address', 'printer=10.77.0.254', '--gateway', '10.77.0.9', 'ours');
  await everywhere(hosts, 'many ours plain');
  await create('local', 'weft-bridge', 'weft', [{ Subnet: '10.74.0.0/30' }, { Subnet: '10.75.0.0/24' }]);
  const config = '{{range .IPAM.Config}}{{.Subnet}} {{.Gateway}} {{.IPRange}},{{end}}';
  t.equal(await h2.docker('network', 'inspect', '-f', config, 'many'), '10.70.0.0/30 10.70.0.1 ,10.71.0.0/24 10.71.0.254 10.71.0.128/25,');
  t.equal(await h1.docker('network', 'inspect', '-f', config, 'ours'), '10.76.0.0/30 10.76.0.1 ,10.77.0.0/24 10.77.0.9 ,');
  t.match(await h2.tryDocker('network', 'create', '-d', 'weft-overlay', '--ipam-driver', 'weft', '--subnet', '10.90.0.0/24', '--subnet', '10.71.0.0/25', 'bad'), { code: 1, stderr: /WEFT-SUBNET-OVERLAP.*10\.71\.0\.0\/24/ });
  t.match(await weft(h2, 'network', 'create', '--subnet', '10.90.0.0/24', '--subnet', '10.90.0.128/25', 'bad'), { code: 1, stderr: /WEFT-SUBNET-OVERLAP/ });

  const addressOf = (host: Host, name: string) => host.docker('inspect', '-f', '{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}', name);
  const places: [Host, string, string][] = [];
  for (const network of ['many', 'plain', 'ours']) for (const host of [h1, h1, h2]) places.push([host, network, `${network}-${places.length % 3}`]);
  for (const i of [0, 1, 2]) places.push([h1, 'local', `local-${i}`]);
  for (const [host, network, name] of places) await run(host, name, network);
  const found = new Map<string, string>();
  for (const [host, , name] of places) found.set(name, await addressOf(host, name));
  t.match([...found].filter(([name]) => name.startsWith('many')).map(([, address]) => address), ['10.70.0.2', /^10\.71\.0\.(12[89]|1[3-9]\d|2\d\d)$/, /^10\.71\.0\./], 'the first subnet, then the second');
  t.equal(new Set(found.values()).size, found.size);
  for (const network of ['many', 'plain', 'ours', 'local']) {
    const members = places.filter(([, on]) => on === network);
    t.equal(new Set(members.map(([, , name]) => found.get(name)!.split('.').slice(0, 2).join('.'))).size, 2, `${network}: both subnets are used`);
    for (const [host, , from] of members) {
      for (const [, , to] of members) t.ok(await until(`${from} reaches ${to}`, () => pings(host, from, to), 10_000).catch(() => false), `${from} reaches ${to} by name`);
      t.equal(await pings(host, from, OUTSIDER_ADDRESS), network !== 'ours', `${from}: the way out`);
    }
  }
  await run(h2, 'chosen', 'many', '--ip', '10.71.0.7', '-p', '8080:80');
  t.equal(await addressOf(h2, 'chosen'), '10.71.0.7');
  await until('it is reached from the other subnet', () => pings(h1, 'many-0', 'chosen'));
  await h2.docker('exec', '-d', 'chosen', 'sh', '-c', 'echo chosen > /www/index.html; exec httpd -f -h /www');
  for (const host of hosts) await until(`its port answers on ${host.name}`, async () => (await h1.exec(['curl', '-s', '-m', '2', `http://${host.address}:8080/`])).stdout === 'chosen\n', 10_000);

  await h2.docker('rm', '-f', 'chosen');
  for (const [host, , name] of places) await host.docker('rm', '-f', name);
  for (const host of hosts) await until(`nothing is wrong on ${host.name}`, async () => (await weft(host, 'ipam', 'check')).stdout === `0 findings in 8 pools, as node ${host.name} sees them\n`, 10_000);
  await h1.docker('network', 'rm', 'local');
  for (const name of ['many', 'plain', 'ours']) await until(`${name} can go`, async () => (await weft(h2, 'network', 'rm', name)).code === 0, 10_000);
  await everywhere(hosts, '');
  t.same(await weftJson(h1, 'ipam', 'ls'), [], 'and all their pools with them');
});

void test('without --ipam-driver weft: Docker climbs on its host, the others descend, and where they meet a start is refused', { buffered: true }, async (t) => {
  const { h1, h2, hosts } = await stage(t, 'climbing');
  await h1.docker('network', 'create', '-d', 'weft-overlay', '--subnet', '10.82.0.0/29', 'plain');
  await everywhere(hosts, 'plain');
  const addressOf = (host: Host, name: string) => host.docker('inspect', '-f', '{{.NetworkSettings.Networks.plain.IPAddress}}', name);
  t.equal(await h2.docker('network', 'inspect', '-f', '{{.IPAM.Driver}}', 'plain'), 'weft', 'the copy has Weft\'s addresses');
  const started: [Host, string][] = [[h1, 'one'], [h2, 'last'], [h1, 'two'], [h2, 'last2'], [h1, 'three']];
  for (const [host, name] of started) await run(host, name, 'plain');
  const given = [];
  for (const [host, name] of started) given.push(`${name} ${await addressOf(host, name)}`);
  t.same(given, ['one 10.82.0.2', 'last 10.82.0.6', 'two 10.82.0.3', 'last2 10.82.0.5', 'three 10.82.0.4']);
  const refused = await h1.tryDocker('run', '-d', '--network', 'plain', '--name', 'four', IMAGE, 'sleep', '100');
  t.match(refused, { code: 125, stderr: /WEFT-ADDRESS-ELSEWHERE.*10\.82\.0\.5.*h2.*docker network rm plain && docker network create -d weft-overlay --ipam-driver weft --subnet 10\.82\.0\.0\/29/ });
  t.match(await h2.tryDocker('run', '-d', '--network', 'plain', '--name', 'last3', IMAGE, 'sleep', '100'), { code: 125, stderr: /WEFT-POOL-EXHAUSTED/ });
  await h1.docker('rm', '-f', 'two', 'four');
  await h2.docker('rm', '-f', 'last3');
  t.match(await h2.tryDocker('run', '--rm', '--network', 'plain', '--ip', '10.82.0.3', IMAGE, 'true'), { code: 125, stderr: /WEFT-ADDRESS-FOREIGN.*h1/ }, 'a released one rests');
  await run(h1, 'five', 'plain', '--ip', '10.82.0.3');
  await until('and all reach each other', () => pings(h2, 'last', 'five'));
  t.equal((await weft(h1, 'ipam', 'check')).stdout, '0 findings in 1 pools, as node h1 sees them\n');
});
