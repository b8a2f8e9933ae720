/** Coming and going: what is asked meanwhile, and what is left behind. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readlinkSync } from 'node:fs';
import { stat } from 'node:fs/promises';
import { Socket } from 'node:net';
import { test, type Test } from 'tap';
import { createNetns, deleteNetns } from '../linux/netns.ts';
import { space, type Space } from '../linux/testing.ts';
import type { Netns } from '../linux/types.ts';
import { docker, drained, get, getTcp, sandboxOf, scene, WEB } from './scene-for-tests.ts';
import { datagramSocket, directSender, openClient, RESOLVER_ADDRESS } from './sockets.ts';
import { withLength } from './tcp-exchange.ts';
import { A, askUdp, fakeResolver, fakeUpstream, outcome, question, until } from './testing.ts';

/** The kernel deletes a veth with the namespace that its other end is in, so it shows whether that is really gone. */
function witness(at: Space, inside: Netns): () => boolean {
  const index = at.rtnl.addLink({ kind: 'veth', name: 'witness', peer: { name: 'inside', netns: inside } });
  return () => at.rtnl.link(index) === undefined;
}

/** A program that keeps its socket: asks, and what it is told. */
function keeper(t: Test, { netns }: Space): (name: string) => Promise<string> {
  const client = datagramSocket(openClient(netns, 'udp'));
  t.teardown(() => client.close());
  client.connect(53, RESOLVER_ADDRESS);
  return async (name) => {
    client.send(question(name), () => {});
    return outcome((await once(client, 'message') as [Buffer])[0]);
  };
}

test('a client that keeps its socket comes to us when we come, and goes when we go', async (t) => {
  const at = space(t);
  docker(t, at, (name) => [A(name, '6.6.6.6')]);
  const { resolver, put } = scene(t);
  put(WEB, 'c1', '10.192.4.2');
  const ask = keeper(t, at);
  t.equal(await ask('c1'), '6.6.6.6');
  await resolver.attach(sandboxOf(at, WEB));
  t.equal(await ask('c1'), '10.192.4.2');
  resolver.detach(at.path);
  await drained();
  t.equal(await ask('c1'), '6.6.6.6');
});

test('what was asked just before we come or go is answered by who was asked', async (t) => {
  const at = space(t);
  docker(t, at, (name) => [A(name, '6.6.6.6')]);
  const { resolver, put } = scene(t);
  put(WEB, 'c1', '10.192.4.2');
  const fd = openClient(at.netns, 'udp');
  const send = directSender(fd);
  const client = datagramSocket(fd);
  t.teardown(() => client.close());
  const asked = (name: string): Promise<string> => {
    const query = question(name);
    send(query, query.length, 53, RESOLVER_ADDRESS);
    return once(client, 'message').then(([reply]) => outcome(reply as Buffer));
  };
  const ofDocker = asked('c1');
  await resolver.attach(sandboxOf(at, WEB));
  t.equal(await ofDocker, '6.6.6.6');
  const ours = asked('c1');
  resolver.detach(at.path);
  t.equal(await ours, '10.192.4.2');
});

test('detaching frees the namespace', async (t) => {
  const path = `/run/netns/weft-d-${process.pid}`;
  const { resolver } = scene(t);
  t.teardown(() => deleteNetns(path));
  const within = createNetns(path);
  const gone = witness(space(t), within);
  await resolver.attach({ path, networks: [WEB], elsewhere: false });
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
  const sandbox = { path, networks: [WEB], elsewhere: false };
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
    await resolver.attach({ path: '${at.path}', networks: [{ id: 'n-web', name: 'web', subnets: [], shared: false, internal: false }], elsewhere: false });
    console.log('attached');
  `], { stdio: ['ignore', 'pipe', 'inherit'] });
  t.teardown(() => holder.kill('SIGKILL'));
  await once(holder.stdout, 'data');
  const ask = keeper(t, at);
  t.equal(await ask('c1'), '10.192.4.2');
  t.equal(await getTcp(at, 'c1'), '10.192.4.2');
  holder.kill('SIGKILL');
  await once(holder, 'exit');
  t.equal(await ask('c1'), '6.6.6.6', 'who keeps its socket is not kept waiting');
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
