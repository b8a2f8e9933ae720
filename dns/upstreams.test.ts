import { createSocket } from 'node:dgram';
import { renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { test, type Test } from 'tap';
import { systemRandom } from '../base/random.ts';
import { VirtualClock } from '../base/virtual-clock.ts';
import { lowerCase } from './message.ts';
import { resolvConf } from './resolv-conf.ts';
import { withLength } from './tcp-exchange.ts';
import { A, fakeUpstream, outcome, question, react, until, type Reactions } from './testing.ts';
import { createUpstreams } from './upstreams.ts';

const saying = (ip: string): Reactions => (name) => [A(name, ip)];
/** Loopback addresses of this test process alone; all servers of a scene share a port. */
const address = (n: number): string => `127.77.${process.pid & 255}.${n}`;

async function scene(t: Test, ...reactions: (Reactions | 'closed')[]) {
  const clock = new VirtualClock();
  let port = 0;
  let lies = 0;
  const servers: Awaited<ReturnType<typeof fakeUpstream>>[] = [];
  for (const [i, each] of reactions.entries()) {
    if (each === 'closed') continue;
    const server = await fakeUpstream(t, address(i + 1), port, each);
    port = server.port;
    servers[i] = server;
  }
  const upstreams = createUpstreams({ servers: () => reactions.map((_, i) => address(i + 1)), port, clock, random: systemRandom, onLie: () => void lies++ });
  t.teardown(upstreams.close);
  const ask = async (transport: 'udp' | 'tcp' = 'udp'): Promise<string> => {
    const query = question('name.example');
    const reply = await upstreams.ask(query, query.length, transport);
    if (typeof reply === 'string') return reply;
    t.equal(reply.readUInt16BE(0), query.readUInt16BE(0), 'the client\'s id');
    return outcome(reply);
  };
  return { clock, ask, servers, upstreams, lies: () => lies };
}

for (const transport of ['udp', 'tcp'] as const) {
  test(`${transport}: the first server answers; the others are left alone`, async (t) => {
    const { ask, servers } = await scene(t, saying('1.1.1.1'), saying('2.2.2.2'));
    t.equal(await ask(transport), '1.1.1.1');
    t.same(servers[1]!.queries, []);
  });

  test(`${transport}: a server that is not there, refuses or fails is passed over at once`, async (t) => {
    const { ask } = await scene(t, () => ({ rcode: 2 }), 'closed', saying('3.3.3.3'));
    t.equal(await ask(transport), '3.3.3.3');
    const failing = await scene(t, () => ({ rcode: 2 }), () => ({ rcode: 5 }));
    t.match(await failing.ask(transport), /SERVFAIL|REFUSED/, 'when all do, what they said');
    const unknown = await scene(t, () => ({ rcode: 3 }), saying('2.2.2.2'));
    t.equal(await unknown.ask(transport), 'NXDOMAIN', 'that is an answer');
  });

  test(`${transport}: silence is a time-out after four seconds`, async (t) => {
    const { ask, clock } = await scene(t, () => 'silence');
    const asked = ask(transport);
    await clock.advance(3999);
    t.equal(await Promise.race([asked, 'waiting']), 'waiting');
    await clock.advance(1);
    t.equal(await asked, 'timeout');
  });
}

test('nobody to ask', async (t) => {
  const { ask } = await scene(t);
  t.equal(await ask(), 'absent');
});

test('udp: a silent server is asked again, in turn with the others', async (t) => {
  let calls = 0;
  const { ask, clock, servers } = await scene(t, () => 'silence', (name) => (++calls === 2 ? [A(name, '2.2.2.2')] : 'silence'));
  const asked = ask();
  const total = (): number => servers.reduce((sum, { queries }) => sum + queries.length, 0);
  for (const expected of [1, 2, 3]) {
    await until(() => total() === expected);
    await clock.advance(500);
  }
  t.equal(await asked, '2.2.2.2');
  t.equal(servers[0]!.queries.length, 2);
});

test('closing ends what is under way', async (t) => {
  const { ask, upstreams } = await scene(t, () => 'silence');
  const asked = [ask('udp'), ask('tcp')];
  upstreams.close();
  t.same(await Promise.all(asked), ['closed', 'closed']);
  t.same(await Promise.all([ask('udp'), ask('tcp')]), ['closed', 'closed'], 'nobody is asked any more');
});

test('resolv.conf is read again when it changes', async (t) => {
  const path = join(t.testdir(), 'resolv.conf');
  const servers = resolvConf(path);
  t.same(servers(), []);
  writeFileSync(path, '# nameserver 9.9.9.9\nsearch example\nnameserver 10.0.0.1\nnameserver\t2001:db8::1 # two\n nameserver 1.2.3.4\nnameserver nonsense\nnameserver 10.0.0.1\n');
  t.same(servers(), ['10.0.0.1', '2001:db8::1']);
  writeFileSync(`${path}.new`, 'nameserver 10.0.0.2\n');
  renameSync(`${path}.new`, path);
  t.same(servers(), ['10.0.0.2']);
  rmSync(path);
  symlinkSync('resolv.conf', path);
  t.same(servers(), ['10.0.0.2'], 'what it said, while it cannot be read');
});

test('udp: a server that stays silent is asked last, and along with the others now and then, until it is back', async (t) => {
  let silent = true;
  const { ask, clock, servers } = await scene(t, (name) => (silent ? 'silence' : [A(name, '1.1.1.1')]), saying('2.2.2.2'));
  for (let i = 1; i <= 2; i++) {
    const asked = ask();
    await until(() => servers[0]!.queries.length === i);
    await clock.advance(500);
    t.equal(await asked, '2.2.2.2');
  }
  for (let i = 0; i < 5; i++) t.equal(await ask(), '2.2.2.2', 'at once, with no time passing');
  t.equal(servers[0]!.queries.length, 2);
  await clock.advance(10_000);
  silent = false;
  t.equal(await ask(), '2.2.2.2');
  await until(() => servers[0]!.queries.length === 3);
  let answer = await ask();
  await until(() => {
    void ask().then((each) => (answer = each));
    return answer === '1.1.1.1';
  });
  t.equal(await ask(), '1.1.1.1', 'in the user\'s order again');
});

/** Answers by hand, after the query was seen. */
async function liar(t: Test, answer: (query: Buffer, send: (reply: Buffer) => void) => void) {
  const socket = createSocket('udp4');
  const queries: Buffer[] = [];
  socket.on('message', (query, from) => {
    queries.push(Buffer.from(query));
    answer(query, (reply) => socket.send(reply, from.port, from.address));
  });
  await new Promise<void>((resolve) => socket.bind(0, address(9), resolve));
  const clock = new VirtualClock();
  let lies = 0;
  const { port } = socket.address();
  const upstreams = createUpstreams({ servers: () => [address(9)], port, clock, random: systemRandom, onLie: () => void lies++ });
  t.teardown(() => {
    socket.close();
    upstreams.close();
  });
  return { ask: async (query: Buffer) => upstreams.ask(query, query.length, 'udp'), port, clock, queries, lies: () => lies };
}

const honest = (query: Buffer, ip = '1.1.1.1'): Buffer => react(query, (name) => [A(name, ip)])!;

test('forged answers: other ids, other questions, other letters; the honest one that follows counts', async (t) => {
  const { ask, lies } = await liar(t, (query, send) => {
    const id = honest(query, '6.6.6.6');
    id.writeUInt16BE(id.readUInt16BE(0) ^ 1, 0);
    send(id);
    send(honest(question('bank.example'), '6.6.6.6'));
    send(Buffer.alloc(5));
    send(honest(query));
  });
  const query = question('name.example');
  const reply = await ask(query);
  t.equal(typeof reply === 'string' ? reply : outcome(reply), '1.1.1.1');
  t.ok(lies() >= 3);
  t.same((reply as Buffer).subarray(12, query.length), query.subarray(12), 'the client\'s own letters');
});

test('ids, ports and letters differ from question to question', async (t) => {
  const { ask, queries } = await liar(t, (query, send) => send(honest(query)));
  for (let i = 0; i < 30; i++) await ask(question('a-long-name.of-many-letters.example'));
  t.ok(new Set(queries.map((each) => each.readUInt16BE(0))).size > 20);
  t.ok(new Set(queries.map((each) => each.toString('latin1', 12))).size > 20);
});

test('answers about other names are not believed, and a flood of forged ones ends the question', async (t) => {
  const { ask, lies } = await liar(t, (query, send) => send(react(query, () => [A('bank.example', '6.6.6.6')])!));
  t.equal(await ask(question('name.example')), 'absent');
  t.equal(lies(), 1);
  const flood = await liar(t, (_, send) => {
    for (let i = 0; i < 40; i++) send(honest(question(`x${i}`)));
  });
  t.equal(await flood.ask(question('name.example')), 'absent');
  t.equal(flood.lies(), 16);
});

test('a server that writes names in letters of its own is asked over TCP, and believed when that says the same', async (t) => {
  const folding: Reactions = (name) => [A(name, '1.1.1.1')];
  const { ask, port, queries } = await liar(t, (query, send) => send(react(lowered(query), folding)!));
  const tcp = createServer((socket) => {
    socket.on('error', () => {});
    socket.on('data', (data) => socket.write(withLength(react(lowered(data.subarray(2)), folding)!)));
  });
  await new Promise<void>((resolve) => tcp.listen(port, address(9), resolve));
  t.teardown(() => tcp.close());
  const reply = await ask(question('name.example'));
  t.equal(typeof reply === 'string' ? reply : outcome(reply), '1.1.1.1');
  tcp.close();
  for (let i = 0; i < 3; i++) t.equal(outcome(await ask(question('other.example')) as Buffer), '1.1.1.1', 'without TCP from now on');
  t.equal(queries.at(-1)!.toString('latin1', 12), queries.at(-1)!.toString('latin1', 12).toLowerCase(), 'and without mixed letters');
});

function lowered(query: Buffer): Buffer {
  const copy = Buffer.from(query);
  for (let i = 12; i < copy.length - 4; i++) copy[i] = lowerCase(copy[i]!);
  return copy;
}
