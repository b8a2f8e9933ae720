//   [sandbox]  client → 127.0.0.11:53 ┬ nft, priority -110 → the resolver under test ┐
//                                     └ iptables nat, -100 → fake Docker resolver  ←┘
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readlinkSync } from 'node:fs';
import { stat } from 'node:fs/promises';
import { Socket } from 'node:net';
import { test, type Test } from 'tap';
import { systemClock } from '../base/clock.ts';
import { silentLogger } from '../base/log.ts';
import { systemRandom } from '../base/random.ts';
import { createNetns, deleteNetns } from '../linux/netns.ts';
import { space, type Space } from '../linux/testing.ts';
import type { Netns } from '../linux/types.ts';
import type { Resolver, SandboxNames } from './dns.ts';
import { createOwnRecords } from './own-records.ts';
import { createResolver } from './resolver.ts';
import { datagramSocket, openClient, RESOLVER_ADDRESS } from './sockets.ts';
import { withLength } from './tcp-exchange.ts';
import { A, askTcp, askUdp, fakeResolver, fakeUpstream, outcome, question, until, type FakeServer, type Reactions } from './testing.ts';
import { createNameTable, type NameTable } from './zone.ts';

const WEB = { id: 'n-web', name: 'web', subnets: ['10.192.4.0/24'], shared: false, internal: false };
const BACK = { id: 'n-back', name: 'back', subnets: ['10.192.5.0/24'], shared: false, internal: false };

function scene(t: Test, upstreams: () => string[] = () => []): { names: NameTable; resolver: Resolver; put(network: { id: string; name: string }, name: string, ip: string): void } {
  const names = createNameTable();
  const resolver = createResolver({ names, records: createOwnRecords(), log: silentLogger, clock: systemClock, random: systemRandom, ttl: 5, batches: true, upstreams });
  t.teardown(resolver.close);
  return {
    names, resolver,
    put: (network, name, ip) => names.put({ networkId: network.id, networkName: network.name, endpointId: `e-${ip}`, ip, name, names: [], service: name }),
  };
}

const sandboxOf = (at: Space, ...networks: SandboxNames['networks']): SandboxNames => ({ path: at.path, networks });
const get = async (at: Space, name: string, type?: string): Promise<string> => outcome(await askUdp(at.netns, question(name, type)));
const getTcp = async (at: Space, name: string): Promise<string> => outcome(await askTcp(at.netns, question(name)));

/** The resolver and the rules that Docker puts into a container's namespace. */
function docker(t: Test, at: Space, reactions: Reactions): FakeServer {
  const server = fakeResolver(t, at.netns, reactions);
  const nat = (...rule: string[]): string => at.run('iptables', '-w', '-t', 'nat', ...rule);
  for (const chain of ['DOCKER_OUTPUT', 'DOCKER_POSTROUTING']) nat('-N', chain);
  nat('-A', 'OUTPUT', '-d', RESOLVER_ADDRESS, '-j', 'DOCKER_OUTPUT');
  nat('-A', 'POSTROUTING', '-d', RESOLVER_ADDRESS, '-j', 'DOCKER_POSTROUTING');
  for (const [protocol, port] of [['udp', server.udpPort], ['tcp', server.tcpPort]] as const) {
    nat('-A', 'DOCKER_OUTPUT', '-d', RESOLVER_ADDRESS, '-p', protocol, '--dport', '53', '-j', 'DNAT', '--to-destination', `${RESOLVER_ADDRESS}:${port}`);
    nat('-A', 'DOCKER_POSTROUTING', '-s', RESOLVER_ADDRESS, '-p', protocol, '--sport', `${port}`, '-j', 'SNAT', '--to-source', ':53');
  }
  return server;
}

/** What was detached before has answered what had come in, and closed. */
async function drained(): Promise<void> {
  for (let turns = 0; turns < 4; turns++) await new Promise((resolve) => setImmediate(resolve));
}

/** The kernel deletes a veth with the namespace that its other end is in, so it shows whether that is really gone. */
function witness(at: Space, inside: Netns): () => boolean {
  const index = at.rtnl.addLink({ kind: 'veth', name: 'witness', peer: { name: 'inside', netns: inside } });
  return () => at.rtnl.link(index) === undefined;
}

test('names of the sandbox\'s networks, and what only Docker knows, over UDP and TCP', async (t) => {
  const at = space(t);
  const server = docker(t, at, (name) => ({
    outside: [A(name, '93.184.216.34')], bridged: [A(name, '172.18.0.5')], early: [A(name, '10.192.4.9')], c1: [A(name, '6.6.6.6')],
  } as Record<string, ReturnType<Reactions>>)[name] ?? { rcode: 3 });
  t.equal(await get(at, 'outside'), '93.184.216.34', 'Docker\'s rules work');

  const { resolver, put, names } = scene(t);
  put(WEB, 'c1', '10.192.4.2');
  put(BACK, 'c2', '10.192.5.2');
  await resolver.attach(sandboxOf(at, WEB));
  t.same(resolver.attached(), [at.path]);
  t.equal(await get(at, 'c1'), '10.192.4.2');
  t.equal(await get(at, 'C1.Web'), '10.192.4.2');
  t.equal(await getTcp(at, 'c1.web'), '10.192.4.2');
  t.equal(await get(at, '2.4.192.10.in-addr.arpa', 'PTR'), 'c1.web');
  t.equal(await get(at, 'c1', 'AAAA'), '');
  t.equal(server.queries.filter(({ name }) => /c1|arpa/.test(name)).length, 0, 'Docker was not asked about these');
  t.equal(await get(at, 'c2'), 'NXDOMAIN', 'a name of a network we are not on');
  t.equal(await get(at, 'c2.back'), 'NXDOMAIN');
  t.equal(await get(at, '2.5.192.10.in-addr.arpa', 'PTR'), 'NXDOMAIN');
  t.equal(await get(at, 'early'), 'NXDOMAIN', 'Docker\'s answers inside our subnets do not count');
  t.equal(await get(at, 'outside'), '93.184.216.34');
  t.equal(await getTcp(at, 'outside'), '93.184.216.34');
  t.equal(await getTcp(at, 'early'), 'NXDOMAIN');
  t.equal(await get(at, 'bridged'), '172.18.0.5');

  await resolver.attach(sandboxOf(at, WEB, BACK));
  t.equal(await get(at, 'c2'), '10.192.5.2', 'after it joined another network');
  await resolver.attach(sandboxOf(at, BACK));
  t.equal(await get(at, 'c1'), '6.6.6.6', 'after it left the first');
  names.remove(BACK.id, 'e-10.192.5.2');
  t.equal(await get(at, 'c2'), 'NXDOMAIN');
  t.match(resolver.stats(), { answered: 5, nodata: 1, discarded: 2, timeout: 0 });

  resolver.detach(at.path);
  resolver.detach(at.path);
  t.same(resolver.attached(), []);
  t.equal(await get(at, 'early'), '10.192.4.9', 'Docker\'s resolver again');
  t.equal(await getTcp(at, 'early'), '10.192.4.9');
});

test('thousands of questions at once', async (t) => {
  const at = space(t);
  docker(t, at, (name) => [A(name, '93.184.216.34')]);
  const { resolver, put } = scene(t);
  for (let i = 0; i < 100; i++) put(WEB, `c${i}`, `10.192.4.${i + 1}`);
  await resolver.attach(sandboxOf(at, WEB));
  for (let round = 0; round < 10; round++) {
    const answers = await Promise.all(Array.from({ length: 100 }, (_, i) => get(at, i % 2 ? `c${i}` : `outside${i}`)));
    t.same(answers, Array.from({ length: 100 }, (_, i) => (i % 2 ? `10.192.4.${i + 1}` : '93.184.216.34')));
  }
});

test('a client that keeps its socket comes to us when we come, and goes when we go', async (t) => {
  const at = space(t);
  docker(t, at, (name) => [A(name, '6.6.6.6')]);
  const { resolver, put } = scene(t);
  put(WEB, 'c1', '10.192.4.2');
  const client = datagramSocket(openClient(at.netns, 'udp'));
  t.teardown(() => client.close());
  client.connect(53, RESOLVER_ADDRESS);
  const keepAsking = async (): Promise<string> => {
    client.send(question('c1'), () => {});
    return outcome((await once(client, 'message') as [Buffer])[0]);
  };
  t.equal(await keepAsking(), '6.6.6.6');
  await resolver.attach(sandboxOf(at, WEB));
  t.equal(await keepAsking(), '10.192.4.2');
  resolver.detach(at.path);
  await drained();
  t.equal(await keepAsking(), '6.6.6.6');
});

test('detaching frees the namespace', async (t) => {
  const path = `/run/netns/weft-d-${process.pid}`;
  const { resolver } = scene(t);
  t.teardown(() => deleteNetns(path));
  const within = createNetns(path);
  const gone = witness(space(t), within);
  await resolver.attach({ path, networks: [WEB] });
  // With questions under way to a resolver that does not answer.
  const silent = fakeResolver(t, within, () => 'silence');
  const client = datagramSocket(openClient(within, 'udp'));
  for (const name of ['a', 'b']) client.send(question(name), 53, RESOLVER_ADDRESS);
  const connection = new Socket({ fd: openClient(within, 'tcp') }).connect(53, RESOLVER_ADDRESS);
  connection.on('error', () => {});
  connection.write(withLength(question('c')));
  await until(() => silent.queries.length === 3);
  silent.close();
  client.close();
  within.close();
  resolver.detach(path);
  deleteNetns(path);
  connection.destroy();
  await until(gone);
  t.pass('no descriptor of ours keeps it');
});

test('a namespace that is gone, or another one at the same path', async (t) => {
  const { resolver, put } = scene(t);
  put(WEB, 'c1', '10.192.4.2');
  const path = `/run/netns/weft-d-${process.pid}`;
  const outside = space(t);
  t.teardown(() => deleteNetns(path));
  const sandbox = { path, networks: [WEB] };
  await t.rejects(resolver.attach(sandbox), { code: 'WEFT-SANDBOX-GONE' });

  const first = createNetns(path);
  const firstGone = witness(outside, first);
  first.close();
  await resolver.attach(sandbox);
  deleteNetns(path);
  await t.rejects(resolver.attach(sandbox), { code: 'WEFT-SANDBOX-GONE' });
  t.same(resolver.attached(), []);
  await until(firstGone);

  const second = createNetns(path);
  const secondGone = witness(outside, second);
  second.close();
  await resolver.attach(sandbox);
  deleteNetns(path);
  const third = createNetns(path);
  t.teardown(third.close);
  await resolver.attach(sandbox);
  t.equal(outcome(await askUdp(third, question('c1'))), '10.192.4.2', 'though its loopback was down');
  await until(secondGone);
});

test('without Docker\'s resolver: the host\'s name servers, from the host\'s namespace', async (t) => {
  const server = `127.78.${process.pid & 255}.1`;
  const upstream = await fakeUpstream(t, server, 53, (name) => [A(name, '93.184.216.34')]);
  const { resolver, put } = scene(t, () => [server]);
  put(WEB, 'c1', '10.192.4.2');
  const [open, closed] = [space(t), space(t)];
  await resolver.attach(sandboxOf(open, WEB));
  await resolver.attach(sandboxOf(closed, { ...WEB, internal: true }));
  t.equal(await get(open, 'c1'), '10.192.4.2');
  t.equal(await get(open, 'outside'), '93.184.216.34');
  t.equal(await getTcp(open, 'outside'), '93.184.216.34');
  t.equal(await get(closed, 'c1'), '10.192.4.2');
  t.equal(await get(closed, 'secret'), 'SERVFAIL');
  t.notOk(upstream.queries.includes('secret'), 'nothing of an internal sandbox leaves');
});

test('on a LAN alone: Docker\'s resolver is asked, what it says about the LAN counts, and the host\'s name servers are left alone', async (t) => {
  const server = `127.78.${process.pid & 255}.2`;
  const upstream = await fakeUpstream(t, server, 53, (name) => [A(name, '6.6.6.6')]);
  const at = space(t);
  const local = docker(t, at, (name, type) => (type === 'PTR' ? [{ type: 'PTR', name, data: 'c1.lan', ttl: 600 }] : name === 'nobody' ? { rcode: 3 } : [A(name, name === 'printer' ? '192.168.50.9' : '93.184.216.34')]));
  const { resolver } = scene(t, () => [server]);
  await resolver.attach(sandboxOf(at, { id: 'n-lan', name: 'lan', subnets: ['192.168.50.0/24'], shared: true, internal: false }));
  t.equal(await get(at, 'outside'), '93.184.216.34');
  t.equal(await get(at, 'nobody'), 'NXDOMAIN');
  t.equal(await get(at, 'printer'), '192.168.50.9');
  t.same(upstream.queries, []);
  const asked = (name: string): number => local.queries.filter((each) => each.name === name).length;
  for (let i = 0; i < 2; i++) {
    await get(at, 'outside');
    await get(at, 'printer');
    await get(at, '9.50.168.192.in-addr.arpa', 'PTR');
    await get(at, '34.216.184.93.in-addr.arpa', 'PTR');
  }
  t.same(['outside', '34.216.184.93.in-addr.arpa', 'printer', '9.50.168.192.in-addr.arpa'].map(asked), [1, 1, 3, 2], 'what Docker says about the LAN is not kept');
});

test('what a container had asked when it went is not asked of the host\'s name servers', async (t) => {
  const server = `127.78.${process.pid & 255}.3`;
  const upstream = await fakeUpstream(t, server, 53, (name) => [A(name, '6.6.6.6')]);
  const at = space(t);
  const silent = docker(t, at, () => 'silence');
  const { resolver } = scene(t, () => [server]);
  await resolver.attach(sandboxOf(at, WEB));
  const client = datagramSocket(openClient(at.netns, 'udp'));
  t.teardown(() => client.close());
  for (let i = 0; i < 20; i++) client.send(question(`q${i}.example`), 53, RESOLVER_ADDRESS);
  const connection = new Socket({ fd: openClient(at.netns, 'tcp') }).connect(53, RESOLVER_ADDRESS);
  connection.on('error', () => {});
  connection.write(withLength(question('tcp.example')));
  await until(() => silent.queries.length === 21);
  resolver.detach(at.path);
  await until(() => resolver.stats()['unreachable'] === 21);
  await drained();
  t.same(upstream.queries, []);
});

test('two at once, as when one weftd hands over to the next: no question is lost or goes round in circles', async (t) => {
  const at = space(t);
  const [old, next] = [scene(t), scene(t)];
  old.put(WEB, 'c1', '10.192.4.2');
  next.put(WEB, 'c1', '10.192.4.2');
  await old.resolver.attach(sandboxOf(at, WEB));
  t.equal(await get(at, 'outside'), 'SERVFAIL');
  await next.resolver.attach(sandboxOf(at, WEB));
  t.equal(await get(at, 'outside'), 'SERVFAIL');
  const server = docker(t, at, (name) => [A(name, '93.184.216.34')]);
  let asking = true;
  const failures: string[] = [];
  const asker = (async () => {
    while (asking) {
      const answer = await get(at, 'c1').catch(String);
      if (answer !== '10.192.4.2') failures.push(answer);
    }
  })();
  old.resolver.close();
  await new Promise((resolve) => setTimeout(resolve, 1100));
  asking = false;
  await asker;
  t.same(failures, []);
  const before = server.queries.length;
  t.equal(await get(at, 'outside'), '93.184.216.34');
  t.equal(server.queries.length, before + 1);
});

test('weftd is killed: Docker\'s resolver answers at once', async (t) => {
  const at = space(t);
  docker(t, at, (name) => [A(name, '6.6.6.6')]);
  const holder = spawn(process.execPath, ['--input-type=module-typescript', '--no-warnings', '-e', `
    import { createResolver } from '${import.meta.dirname}/resolver.ts';
    import { createNameTable } from '${import.meta.dirname}/zone.ts';
    import { createOwnRecords } from '${import.meta.dirname}/own-records.ts';
    import { systemClock } from '${import.meta.dirname}/../base/clock.ts';
    import { systemRandom } from '${import.meta.dirname}/../base/random.ts';
    import { silentLogger } from '${import.meta.dirname}/../base/log.ts';
    const names = createNameTable();
    names.put({ networkId: 'n-web', networkName: 'web', endpointId: 'e', ip: '10.192.4.2', name: 'c1', names: [], service: 'c1' });
    const resolver = createResolver({ names, records: createOwnRecords(), log: silentLogger, clock: systemClock, random: systemRandom, ttl: 5, batches: true });
    await resolver.attach({ path: '${at.path}', networks: [{ id: 'n-web', name: 'web', subnets: [], shared: false, internal: false }] });
    console.log('attached');
  `], { stdio: ['ignore', 'pipe', 'inherit'] });
  t.teardown(() => holder.kill('SIGKILL'));
  await once(holder.stdout, 'data');
  t.equal(await get(at, 'c1'), '10.192.4.2');
  t.equal(await getTcp(at, 'c1'), '10.192.4.2');
  holder.kill('SIGKILL');
  await once(holder, 'exit');
  t.equal(await get(at, 'c1'), '6.6.6.6');
  t.equal(await getTcp(at, 'c1'), '6.6.6.6');
  t.notMatch(at.run('nft', 'list', 'tables'), /weft-dns/);
});

test('attaching leaves no thread in the sandbox\'s namespace', async (t) => {
  const at = space(t);
  const { resolver } = scene(t);
  await resolver.attach(sandboxOf(at, WEB));
  await get(at, 'x');
  await Promise.all(Array.from({ length: 16 }, () => stat('/')));
  const host = readlinkSync('/proc/self/ns/net');
  const threads = readdirSync('/proc/self/task').map((id) => readlinkSync(`/proc/self/task/${id}/ns/net`));
  t.ok(threads.length > 4);
  t.same(new Set(threads), new Set([host]));
});

test('whoever listens hears of every query, also of those answered in remembered bytes; sources are timed', async (t) => {
  const at = space(t);
  docker(t, at, (name) => [A(name, '93.184.216.34')]);
  const { resolver, names } = scene(t);
  names.put({ networkId: 'n-web', networkName: 'web', endpointId: 'e', ip: '10.192.4.2', name: 'c1', names: [], service: 'c1' });
  await resolver.attach(sandboxOf(at, WEB));
  await get(at, 'c1');
  const heard: string[] = [];
  resolver.listen({ wants: (path) => path === at.path, heard: (path, { name, type, transport, from, rcode }) => void heard.push([path === at.path, name, type, transport, from, rcode].join(' ')) });
  for (let i = 0; i < 2; i++) await get(at, 'c1');
  for (let i = 0; i < 2; i++) await get(at, 'outside');
  await getTcp(at, 'c1');
  t.same(heard, ['true c1 1 udp containers 0', 'true c1 1 udp containers 0', 'true outside 1 udp  0', 'true outside 1 udp cache 0', 'true c1 1 tcp containers 0']);
  resolver.listen(undefined);
  await get(at, 'c1');
  t.equal(heard.length, 5);
  const { containers, cache, docker: asked } = resolver.latencies();
  t.same([cache.count, asked.count], [1, 1]);
  t.ok(containers.count >= 4 && containers.sum > 0, JSON.stringify(containers));
  t.match(await resolver.trace(at.path, 'c1', 'A'), { rcode: 'NOERROR', answers: ['c1 5 A 10.192.4.2'], from: 'containers' });
  await t.rejects(resolver.trace('/run/netns/nowhere', 'c1', 'A'), { code: 'WEFT-DNS-ABSENT' });
});
