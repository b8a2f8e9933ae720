import { test, type Test } from 'tap';
import { silentLogger } from '../base/log.ts';
import { systemRandom } from '../base/random.ts';
import { VirtualClock } from '../base/virtual-clock.ts';
import { sys } from '../linux/ffi.ts';
import { space } from '../linux/testing.ts';
import type { Netns } from '../linux/types.ts';
import { createDockerResolver } from './docker-resolver.ts';
import { foreignPorts } from './resolver-ports.ts';
import { boundSocket, datagramSocket, openListeners, RESOLVER_ADDRESS } from './sockets.ts';
import { A, fakeResolver, outcome, question, react, until, type Reactions } from './testing.ts';

const saying = (ip: string): Reactions => (name) => [A(name, ip)];

function resolver(t: Test, netns: Netns) {
  const clock = new VirtualClock();
  const docker = createDockerResolver({ netns, ports: () => foreignPorts(netns), clock, random: systemRandom, log: silentLogger });
  t.teardown(docker.close);
  const ask = async (name: string, transport: 'udp' | 'tcp' = 'udp'): Promise<string> => {
    const query = question(name);
    const reply = await docker.ask(query, query.length, transport);
    if (typeof reply === 'string') return reply;
    t.equal(reply.readUInt16BE(0), query.readUInt16BE(0), 'the client\'s id');
    return outcome(reply);
  };
  return { clock, docker, ask };
}

test('it is found where it listens, and found again when it moves', async (t) => {
  const { netns } = space(t);
  const { clock, ask } = resolver(t, netns);
  t.equal(await ask('a'), 'absent');
  const first = fakeResolver(t, netns, saying('1.1.1.1'));
  t.equal(await ask('a'), 'absent', 'not looked for again in the same second');
  await clock.advance(1000);
  t.equal(await ask('a'), '1.1.1.1');
  t.equal(await ask('a', 'tcp'), '1.1.1.1');
  t.same(first.queries.map(({ transport }) => transport), ['udp', 'tcp']);
  const many = await Promise.all(Array.from({ length: 200 }, (_, i) => ask(`x${i}`)));
  t.same(new Set(many), new Set(['1.1.1.1']));

  first.close();
  fakeResolver(t, netns, saying('2.2.2.2'));
  t.same(new Set(await Promise.all(Array.from({ length: 20 }, (_, i) => ask(`y${i}`)))), new Set(['2.2.2.2']), 'other ports after a restart');
  t.equal(await ask('a', 'tcp'), '2.2.2.2');
});

test('refused by everyone is absent', async (t) => {
  const { netns } = space(t);
  const { ask, clock } = resolver(t, netns);
  const server = fakeResolver(t, netns, saying('1.1.1.1'));
  t.equal(await ask('a'), '1.1.1.1');
  t.equal(await ask('a', 'tcp'), '1.1.1.1');
  server.close();
  t.same(await Promise.all([ask('a'), ask('b'), ask('c')]), ['absent', 'absent', 'absent']);
  t.equal(await ask('a', 'tcp'), 'absent');
  await clock.advance(1000);
  fakeResolver(t, netns, saying('3.3.3.3'));
  t.equal(await ask('a'), '3.3.3.3');
});

test('silence ends after four seconds, and makes us look for another port', async (t) => {
  const { netns } = space(t);
  const { ask, clock } = resolver(t, netns);
  let silent = true;
  const quiet = fakeResolver(t, netns, (name) => (silent ? 'silence' : [A(name, '1.1.1.1')]));
  const asked = Promise.all([ask('a'), ask('b', 'tcp')]);
  await clock.advance(3999);
  t.equal(await Promise.race([asked, 'waiting']), 'waiting');
  await clock.advance(1);
  t.same(await asked, ['timeout', 'timeout']);
  silent = false;
  t.same(await Promise.all([ask('a'), ask('b', 'tcp')]), ['1.1.1.1', '1.1.1.1'], 'slow, not gone');
  // A program of the container that listens there, too, and never answers: each failure tries another candidate.
  silent = true;
  const other = fakeResolver(t, netns, saying('2.2.2.2'));
  for (let attempt = 0; other.queries.length === 0 && attempt < 3; attempt++) {
    const before = quiet.queries.length;
    const next = ask('c');
    await until(() => quiet.queries.length + other.queries.length > before);
    if (other.queries.length === 0) await clock.advance(4000);
    t.equal(await next, other.queries.length === 0 ? 'timeout' : '2.2.2.2');
  }
  t.equal(await ask('d'), '2.2.2.2');
});

test('replies that do not belong to the question are not taken', async (t) => {
  const { netns } = space(t);
  const { ask } = resolver(t, netns);
  const liar = datagramSocket(netns.run(() => boundSocket('udp', RESOLVER_ADDRESS, 0)));
  t.teardown(() => liar.close());
  liar.on('message', (message, { port, address }) => {
    const reply = react(message, saying('1.1.1.1'))!;
    const wrongId = react(message, saying('6.6.6.6'))!;
    wrongId.writeUInt16BE((reply.readUInt16BE(0) + 1) & 0xffff, 0);
    const wrongName = react(message, saying('6.6.6.6'))!;
    wrongName[13] = 0x7a;
    // In this order: the good one is taken because the others were not.
    for (const each of [wrongId, wrongName, Buffer.alloc(1), Buffer.alloc(12), message, reply]) liar.send(each, port, address);
  });
  t.equal(await ask('a'), '1.1.1.1');
});

test('another weftd\'s listeners are never taken for Docker\'s', async (t) => {
  const { netns } = space(t);
  const others = openListeners(netns);
  t.teardown(() => [others.udp, others.tcp, others.mark].forEach((fd) => sys.close(fd)));
  t.same(foreignPorts(netns), { udp: [], tcp: [] });
  const server = fakeResolver(t, netns, saying('1.1.1.1'));
  t.same(foreignPorts(netns), { udp: [server.udpPort], tcp: [server.tcpPort] });
});

test('closing ends what is under way', async (t) => {
  const { netns } = space(t);
  const { docker, ask } = resolver(t, netns);
  fakeResolver(t, netns, () => 'silence');
  const asked = [ask('a'), ask('b', 'tcp')];
  await new Promise((resolve) => setImmediate(resolve));
  docker.close();
  t.same(await Promise.all(asked), ['closed', 'closed']);
  t.same(await Promise.all([ask('a'), ask('b', 'tcp')]), ['closed', 'closed']);
});
