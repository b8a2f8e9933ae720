/**
 *        router
 *       /      \
 *   h1, etcd   h2, with a route and a Docker network of its own
 *
 * What users get wrong, through docker, weft and the plugin sockets: each is refused with the code that names cause and
 * fix, and afterwards kernel, stores and records of both hosts are as they were.
 */
import tap, { test } from 'tap';
import { startEtcd } from './lab/etcd.ts';
import type { Host } from './lab/host.ts';
import { IMAGE } from './lab/image.ts';
import { hostNetns } from '../linux/netns.ts';
import { openWireguard } from '../linux/wireguard.ts';
import { createLab } from './lab/lab.ts';
import { until, wait, type Result } from './lab/run.ts';
import { weft, weftJson, weftUp } from './lab/weft.ts';

tap.setTimeout(600_000);

/** All that lives in a host's kernel and in Docker, without counters and numbers that only grow. */
const HOST_STATE = `
for ns in host weft; do
  [ $ns = host ] && at= || at="ip netns exec weft"
  $at ip -o link | sed 's/^[0-9]*: //; s/@if[0-9]*/@/'
  $at ip -o -4 addr | sed 's/^[0-9]*: //; s/valid_lft.*//'
  $at ip route show table all
  $at ip rule
  $at bridge fdb | sort
  $at ip neigh show nud permanent | sort
  $at nft -s list ruleset
done
iptables-save | grep -v '^#' | sed 's/\\[[0-9:]*\\]//'
ls /run/netns
docker network ls --format '{{.Name}} {{.Driver}}' | sort
docker ps -a --format '{{.Names}}' | sort
`;

/** Rows of weftd's own database: of a copy, since weftd has it for itself. Not how far the others' news was heard, and not the addresses that rest after their release. */
const LOCAL_STATE = `
const { DatabaseSync } = require('node:sqlite');
const { cpSync, rmSync } = require('node:fs');
rmSync('/run/copy', { recursive: true, force: true });
cpSync('/var/lib/weft', '/run/copy', { recursive: true });
const db = new DatabaseSync('/run/copy/local.db');
for (const { name } of db.prepare("select name from sqlite_master where type = 'table' order by name").all()) for (const row of db.prepare('select * from "' + name + '"').all()) {
  if (!/^(state\\/progress|ipam\\/addresses\\/.*)/.test(row.key) || /"holder"/.test(row.value)) console.log(name, JSON.stringify(row));
}
`;

test('bad input is refused with its code, and leaves nothing behind', async (t) => {
  const lab = await createLab({ name: 'badinput', hosts: 2, docker: true });
  t.teardown(() => lab.destroy());
  const [h1, h2] = [lab.host(1), lab.host(2)];
  const etcd = await startEtcd(h1);
  for (const host of [h1, h2]) await weftUp(host, { store: etcd.url });
  await h2.must(['ip', 'route', 'add', '10.50.0.0/16', 'via', '10.99.2.254']);
  await h2.docker('network', 'create', '--subnet', '10.60.0.0/16', 'plain');
  const run = (...args: string[]) => h1.tryDocker('run', '-d', '--stop-signal', 'KILL', ...args, IMAGE, 'sleep', '100000');
  const ok = async (result: Promise<Result>) => {
    const { code, stderr } = await result;
    if (code !== 0) throw new Error(stderr);
  };
  await h1.docker('network', 'create', '-d', 'weft-overlay', '--ipam-driver', 'weft', '--subnet', '10.70.0.0/24', 'web');
  await h1.docker('network', 'create', '-d', 'weft-overlay', '--ipam-driver', 'weft', '--subnet', '10.71.0.0/30', 'tiny');
  await h1.docker('network', 'create', '-d', 'weft-bridge', '--subnet', '10.72.0.0/24', 'local');
  await ok(run('--name', 'api', '--network', 'web', '--ip', '10.70.0.9', '-p', '8080:80'));
  await ok(run('--name', 'only', '--network', 'tiny'));
  await ok(run('--name', 'site', '--network', 'local', '--ip', '10.72.0.9', '-p', '8090:80'));
  await ok(weft(h1, 'sandbox', 'add', 'box', '--network', 'web'));
  h1.spawn(['busybox', 'nc', '-ll', '-p', '8081', '-e', 'true']);
  await until('host 1 learns of host 2\'s route', async () => (await weft(h1, 'network', 'create', '--subnet', '10.50.1.0/24', 'x')).stderr.includes('WEFT-SUBNET-OVERLAP'), 15_000);

  async function world(): Promise<string> {
    const parts: string[] = [];
    for (const host of [h1, h2]) {
      parts.push(`== ${host.name}`, await host.must(['sh', '-c', HOST_STATE]), await host.must([process.execPath, '-e', LOCAL_STATE]));
      const { ports, endpoints } = await weftJson<{ ports: object; endpoints: object }>(host, 'ps');
      const { counts, problems } = await weftJson<{ counts: object; problems: object }>(host, 'status');
      parts.push(JSON.stringify({ ports, endpoints, counts, problems }), JSON.stringify(await weftJson(host, 'network', 'ls')));
    }
    parts.push('== store', await stored(h1, etcd.url));
    return parts.join('\n');
  }

  let before = await until('the hosts settle', async () => {
    const first = await world();
    await wait(2_000);
    return await world() === first && first;
  }, 30_000);

  const wireguard = openWireguard(hostNetns);
  wireguard?.close();
  interface Case { what: string; code: string; says: RegExp | string; run(): Promise<Result>; undo?(): Promise<unknown> }
  const docker = (...args: string[]) => () => h1.tryDocker(...args);
  const create = (driver: string, ...args: string[]) => docker('network', 'create', '-d', driver, ...args, 'bad');
  const start = (...args: string[]): Pick<Case, 'run' | 'undo'> => ({ run: () => run('--name', 'bad', ...args), undo: () => h1.tryDocker('rm', '-f', 'bad') });
  const ours = (...args: string[]) => () => weft(h1, ...args);
  const call = (plugin: string, method: string, body: string) => () =>
    h1.exec(['curl', '-s', '--unix-socket', `/run/docker/plugins/${plugin}.sock`, '-d', body, `http://p/${method}`]).then(failing);

  const cases: Case[] = [
    { what: 'an unknown option, of an overlay', code: 'WEFT-OPTION-UNKNOWN', says: 'weft.mtv', run: create('weft-overlay', '-o', 'weft.mtv=1400') },
    { what: 'an unknown option, of a bridge', code: 'WEFT-OPTION-UNKNOWN', says: 'colour', run: create('weft-bridge', '-o', 'colour=red') },
    { what: 'an unknown option, by weft', code: 'WEFT-OPTION-UNKNOWN', says: 'colour', run: ours('network', 'create', '-o', 'colour=red', 'bad') },
    { what: 'an option with a value that cannot be', code: 'WEFT-OPTION-VALUE', says: 'small', run: create('weft-overlay', '-o', 'weft.mtu=small') },
    { what: 'name servers that are not asked over TLS', code: 'WEFT-OPTION-VALUE', says: 'weft.dns.upstreams cannot be 9.9.9.9', run: create('weft-bridge', '-o', 'weft.dns.upstreams=9.9.9.9') },
    { what: 'an option that is there or not, with another value', code: 'WEFT-OPTION-VALUE', says: 'encrypted cannot be aes', run: create('weft-overlay', '-o', 'encrypted=aes') },
    ...(wireguard ? [] : [
      { what: 'encryption on a kernel without WireGuard', code: 'WEFT-ENCRYPTION', says: 'kernel has no WireGuard', run: create('weft-overlay', '-o', 'encrypted') },
      { what: 'encryption on a kernel without WireGuard, by weft', code: 'WEFT-ENCRYPTION', says: /network bad .*kernel has no WireGuard/, run: ours('network', 'create', '-o', 'encrypted', 'bad') },
    ]),
    { what: 'an unknown driver', code: 'WEFT-DRIVER-UNKNOWN', says: 'overlay, bridge', run: ours('network', 'create', '-d', 'host', 'bad') },
    { what: 'a subnet of another network', code: 'WEFT-SUBNET-OVERLAP', says: '10.70.0.0/24', run: create('weft-overlay', '--subnet', '10.70.0.128/25', '--ipam-driver', 'weft') },
    { what: 'a subnet of another network, on a bridge', code: 'WEFT-SUBNET-OVERLAP', says: '10.70.0.0/24', run: create('weft-bridge', '--subnet', '10.70.0.0/16', '--ipam-driver', 'weft') },
    { what: 'a subnet of another network, on a bridge with Docker\'s addresses', code: 'WEFT-SUBNET-OVERLAP', says: /10\.70\.0\.0\/24.*--subnet 10\.192\.0\.0\/24/, run: create('weft-bridge', '--subnet', '10.70.0.0/16') },
    { what: 'a second subnet of another network', code: 'WEFT-SUBNET-OVERLAP', says: '10.70.0.0/24', run: ours('network', 'create', '--subnet', '10.80.0.0/24', '--subnet', '10.70.0.0/25', 'bad') },
    { what: 'a network without addresses', code: 'WEFT-FEATURE-MISSING', says: 'without addresses', run: create('weft-overlay', '--ipam-driver', 'null') },
    { what: 'a network without addresses, on a bridge', code: 'WEFT-FEATURE-MISSING', says: 'without addresses', run: create('weft-bridge', '--ipam-driver', 'null') },
    { what: 'a larger IPv6 subnet than a /64', code: 'WEFT-SUBNET-MALFORMED', says: 'larger than a /64', run: create('weft-overlay', '--ipam-driver', 'weft', '--ipv6', '--subnet', '10.80.0.0/24', '--subnet', 'fd00:9::/48') },
    { what: 'an IPv6 gateway outside of the subnet', code: 'WEFT-GATEWAY-OUTSIDE', says: 'fd00:a::1', run: ours('network', 'create', '--subnet', 'fd00:9::/64', '--gateway', 'fd00:a::1', 'bad') },
    { what: 'an MTU that IPv6 does not fit in', code: 'WEFT-OPTION-VALUE', says: 'from 1280', run: create('weft-overlay', '--ipv6', '--subnet', '10.80.0.0/24', '--subnet', 'fd00:9::/64', '-o', 'weft.mtu=1200') },
    { what: 'a network of neither family', code: 'WEFT-SUBNET-NONE', says: 'bad', run: ours('network', 'create', '--no-ipv4', 'bad') },
    { what: 'the address of the gateway', code: 'WEFT-ADDRESS-IN-USE', says: /10\.70\.0\.1 .*gateway/, ...start('--network', 'web', '--ip', '10.70.0.1') },
    { what: 'a subnet of another network, by weft', code: 'WEFT-SUBNET-OVERLAP', says: '10.72.0.0/24', run: ours('network', 'create', '--subnet', '10.72.0.0/25', 'bad') },
    { what: 'a subnet that another host has a route for', code: 'WEFT-SUBNET-OVERLAP', says: /10\.50\.0\.0\/16.*h2/, run: create('weft-overlay', '--subnet', '10.50.1.0/24') },
    { what: 'a subnet of a Docker network of another host', code: 'WEFT-SUBNET-OVERLAP', says: /plain.*h2/, run: create('weft-overlay', '--subnet', '10.60.1.0/24') },
    { what: 'a subnet of the nodes\' own addresses', code: 'WEFT-SUBNET-OVERLAP', says: '10.255.0.0/16', run: ours('network', 'create', '--subnet', '10.255.3.0/24', 'bad') },
    { what: 'a VNI that is taken', code: 'WEFT-NETWORK-EXISTS', says: 'VNI 8388609', run: ours('network', 'create', '-o', 'weft.vni=8388609', 'bad') },
    { what: 'a VNI out of range', code: 'WEFT-OPTION-VALUE', says: '8388609', run: ours('network', 'create', '-o', 'weft.vni=7', 'bad') },
    { what: 'a subnet that is none', code: 'WEFT-SUBNET-MALFORMED', says: 'banana', run: ours('network', 'create', '--subnet', 'banana', 'bad') },
    { what: 'a gateway outside of the subnet', code: 'WEFT-GATEWAY-OUTSIDE', says: '10.80.1.1', run: ours('network', 'create', '--subnet', '10.80.0.0/24', '--gateway', '10.80.1.1', 'bad') },
    { what: 'a gateway that is the network\'s own address', code: 'WEFT-GATEWAY-OUTSIDE', says: '10.80.0.0', run: create('weft-overlay', '--ipam-driver', 'weft', '--subnet', '10.80.0.0/24', '--gateway', '10.80.0.0') },
    { what: 'a gateway that is the network\'s own address, by weft', code: 'WEFT-GATEWAY-OUTSIDE', says: '10.80.0.0', run: ours('network', 'create', '--subnet', '10.80.0.0/24', '--gateway', '10.80.0.0', 'bad') },
    { what: 'a range outside of the subnet', code: 'WEFT-RANGE-OUTSIDE', says: '10.81.0.0/25', run: ours('network', 'create', '--subnet', '10.80.0.0/24', '--ip-range', '10.81.0.0/25', 'bad') },
    { what: 'a name that is taken', code: 'WEFT-NETWORK-EXISTS', says: 'web', run: ours('network', 'create', 'web') },
    { what: 'an MTU that cannot fit', code: 'WEFT-MTU-TOO-LARGE', says: '1450', run: create('weft-overlay', '-o', 'com.docker.network.driver.mtu=9000') },
    { what: 'an MTU that cannot fit, by weft', code: 'WEFT-MTU-TOO-LARGE', says: '1450', run: ours('network', 'create', '-o', 'weft.mtu=1451', 'bad') },
    { what: 'an address in use', code: 'WEFT-ADDRESS-IN-USE', says: '10.70.0.9', ...start('--network', 'web', '--ip', '10.70.0.9') },
    { what: 'an address in use, by weft', code: 'WEFT-ADDRESS-IN-USE', says: 'api', run: ours('sandbox', 'add', 'bad', '--network', 'web', '--ip', '10.70.0.9') },
    { what: 'a sandbox where Docker hands out the addresses', code: 'WEFT-FEATURE-MISSING', says: '--ipam-driver weft', run: ours('sandbox', 'add', 'bad', '--network', 'local', '--ip', '10.72.0.9') },
    { what: 'an address outside of the pool', code: 'WEFT-ADDRESS-OUTSIDE', says: '10.99.0.9', run: ours('sandbox', 'add', 'bad', '--network', 'web', '--ip', '10.99.0.9') },
    { what: 'an address that no host can have', code: 'WEFT-ADDRESS-OUTSIDE', says: '10.70.0.255', ...start('--network', 'web', '--ip', '10.70.0.255') },
    { what: 'an address that is none', code: 'WEFT-ADDRESS-MALFORMED', says: 'banana', run: ours('sandbox', 'add', 'bad', '--network', 'web', '--ip', 'banana') },
    { what: 'a pool that is exhausted', code: 'WEFT-POOL-EXHAUSTED', says: '10.71.0.0/30', ...start('--network', 'tiny') },
    { what: 'a pool that is exhausted, by weft', code: 'WEFT-POOL-EXHAUSTED', says: '10.71.0.0/30', run: ours('sandbox', 'add', 'bad', '--network', 'tiny') },
    { what: 'a port of another service', code: 'WEFT-PORT-HELD', says: 'api', ...start('--network', 'web', '-p', '8080:80') },
    { what: 'a port of another service, by weft', code: 'WEFT-PORT-HELD', says: 'api', run: ours('sandbox', 'add', 'bad', '--network', 'web', '-p', '8080:80') },
    { what: 'a second port that is another\'s: the first is given up', code: 'WEFT-PORT-HELD', says: '8080', ...start('--network', 'web', '-p', '8079:79', '-p', '8080:80') },
    { what: 'a port that the host uses', code: 'WEFT-PORT-HOST', says: '8081', ...start('--network', 'web', '-p', '8081:80') },
    { what: 'a port that the host uses, of a bridge', code: 'WEFT-PORT-HOST', says: '8081', ...start('--network', 'local', '-p', '8081:80') },
    { what: 'a port that a container on a bridge has', code: 'WEFT-PORT-HOST', says: '8090', ...start('--network', 'local', '-p', '8090:80') },
    { what: 'a port on an address that the host does not have', code: 'WEFT-PORT-ADDRESS', says: '192.0.2.1', ...start('--network', 'local', '-p', '192.0.2.1:8095:80') },
    { what: 'a port that is none', code: 'WEFT-INPUT-MALFORMED', says: '99999', run: ours('sandbox', 'add', 'bad', '--network', 'web', '-p', '99999:80') },
    { what: 'a network that is in use', code: 'WEFT-NETWORK-BUSY', says: 'web', run: ours('network', 'rm', 'web') },
    { what: 'a network that does not exist', code: 'WEFT-NETWORK-UNKNOWN', says: 'nowhere', run: ours('network', 'rm', 'nowhere') },
    { what: 'a sandbox on a network that does not exist', code: 'WEFT-NETWORK-UNKNOWN', says: 'nowhere', run: ours('sandbox', 'add', 'bad', '--network', 'nowhere') },
    { what: 'a sandbox that exists', code: 'WEFT-SANDBOX-EXISTS', says: 'box', run: ours('sandbox', 'add', 'box', '--network', 'web') },
    { what: 'a sandbox that does not exist', code: 'WEFT-SANDBOX-UNKNOWN', says: 'nobody', run: ours('sandbox', 'rm', 'nobody') },
    { what: 'a namespace that is gone', code: 'WEFT-SANDBOX-GONE', says: '/run/netns/nowhere', run: ours('sandbox', 'add', 'bad', '--network', 'web', '--netns', '/run/netns/nowhere') },
    { what: 'a file that is no namespace', code: 'WEFT-SANDBOX-GONE', says: '/etc/hosts', run: ours('sandbox', 'add', 'bad', '--network', 'web', '--netns', '/etc/hosts') },
    { what: 'malformed JSON', code: 'WEFT-INPUT-JSON', says: /JSON/, run: call('weft-overlay', 'NetworkDriver.CreateNetwork', '{"NetworkID":') },
    { what: 'an empty body', code: 'WEFT-INPUT-EMPTY', says: 'CreateEndpoint', run: call('weft-bridge', 'NetworkDriver.CreateEndpoint', '') },
    { what: 'wrong types', code: 'WEFT-INPUT-MALFORMED', says: 'NetworkID', run: call('weft-overlay', 'NetworkDriver.CreateNetwork', '{"NetworkID": 7, "Options": [], "IPv4Data": "x"}') },
    { what: 'wrong types of the address driver', code: 'WEFT-INPUT-MALFORMED', says: 'Pool', run: call('weft', 'IpamDriver.RequestPool', '{"AddressSpace": "LocalDefault", "Pool": {}}') },
    { what: 'a call that does not exist', code: 'WEFT-CALL-UNKNOWN', says: 'NetworkDriver.Dance', run: call('weft-overlay', 'NetworkDriver.Dance', '{}') },
    { what: 'a network that Docker has and we do not', code: 'WEFT-NETWORK-UNKNOWN', says: 'cccccccccccc', run: call('weft-overlay', 'NetworkDriver.CreateEndpoint', JSON.stringify({ NetworkID: 'c'.repeat(64), EndpointID: 'd'.repeat(64), Interface: { Address: '10.70.0.77/24' }, Options: {} })) },
    { what: 'an endpoint that does not exist', code: 'WEFT-ENDPOINT-UNKNOWN', says: 'dddddddddddd', run: call('weft-overlay', 'NetworkDriver.Join', JSON.stringify({ NetworkID: 'c'.repeat(64), EndpointID: 'd'.repeat(64), SandboxKey: '/run/docker/netns/none', Options: {} })) },
    { what: 'a pool that does not exist', code: 'WEFT-POOL-UNKNOWN', says: '10.250.0.0/24', run: call('weft', 'IpamDriver.RequestAddress', JSON.stringify({ PoolID: '10.250.0.0/24', Address: '', Options: {} })) },
  ];

  async function check({ what, code, says, run: attempt, undo }: Case): Promise<void> {
    const { code: exit, stdout, stderr } = await attempt();
    await undo?.();
    const text = `${stdout}${stderr}`;
    t.not(exit, 0, `${what}: refused`);
    t.match(text, code, `${what}: ${code}`);
    t.match(text, says, `${what}: says what`);
    t.match(text, /;/, `${what}: says what to do`);
    let after = '';
    const same = await until(what, async () => (after = await world()) === before, 5_000, 300).catch(() => false);
    t.ok(same, `${what}: nothing is left`, same ? {} : { diff: difference(before, after) });
    if (exit === 0 || !same) {
      await h1.exec(['docker', 'network', 'rm', 'bad']);
      await weft(h1, 'sandbox', 'rm', 'bad');
      await weft(h1, 'network', 'rm', 'bad');
      before = await world();
    }
  }

  for (const each of cases) await check(each);

  await etcd.stop();
  before = 'the store does not answer';
  const refused = await Promise.all([create('weft-overlay', '--ipam-driver', 'weft')(), ours('network', 'create', 'bad2')(), run('--name', 'bad', '--network', 'web', '-p', '8099:80')]);
  await h1.tryDocker('rm', '-f', 'bad');
  for (const [i, what] of ['docker network create', 'weft network create', 'a new published port'].entries()) {
    const { code, stderr } = refused[i]!;
    t.ok(code !== 0 && stderr.includes('WEFT-STORE-UNREACHABLE') && stderr.includes(etcd.url), `${what} without the store: ${stderr.trim()}`);
  }
  t.equal((await run('--name', 'good', '--network', 'web')).code, 0, 'a container without new ports starts without the store');
  await h1.docker('rm', '-f', 'good');
  await etcd.start();
  t.match((await weft(h1, 'network', 'create', 'back-again')).stdout, /^[0-9a-f]{64}$/m, 'and when it is back, networks can be made');
  await ok(weft(h1, 'network', 'rm', 'back-again'));
  t.notMatch(await stored(h1, etcd.url), /\b(bad2?|8099)\b/, 'of what was refused there is nothing in the store');
});

/** Keys and values of ours, without revisions. */
async function stored(host: Host, url: string): Promise<string> {
  const range = { key: Buffer.from('/weft/v1/').toString('base64'), range_end: Buffer.from('/weft/v10').toString('base64') };
  const { kvs = [] } = JSON.parse(await host.must(['curl', '-sf', '-d', JSON.stringify(range), `${url}/v3/kv/range`])) as { kvs?: { key: string; value: string }[] };
  return kvs.map(({ key, value }) => `${Buffer.from(key, 'base64').toString()} ${Buffer.from(value, 'base64').toString()}`).join('\n');
}

/** A plugin's refusal as a command's. */
const failing = ({ stdout, stderr }: Result): Result => ({ code: /"Err(or)?":"[^"]/.test(stdout) ? 1 : 0, stdout, stderr });

function difference(before: string, after: string): string {
  const [old, now] = [before.split('\n'), after.split('\n')];
  return [...old.filter((line) => !now.includes(line)).map((line) => `- ${line}`), ...now.filter((line) => !old.includes(line)).map((line) => `+ ${line}`)].map((line) => line.slice(0, 300)).join('\n').slice(0, 4000);
}
