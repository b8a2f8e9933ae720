/** Against real TLS servers with certificates of an authority made here. */
import { readFileSync } from 'node:fs';
import { createServer, type AddressInfo, type Server } from 'node:net';
import { createServer as createTlsServer, type Server as TlsListener, type TLSSocket } from 'node:tls';
import packet from 'dns-packet';
import { test, type Test } from 'tap';
import { systemClock, type Clock } from '../base/clock.ts';
import { silentLogger } from '../base/log.ts';
import { systemRandom } from '../base/random.ts';
import { VirtualClock } from '../base/virtual-clock.ts';
import { space } from '../linux/testing.ts';
import { authorityForTests } from '../store/certificates-for-tests.ts';
import { BACK, docker, get, getTcp, sandboxOf, scene, WEB } from './scene-for-tests.ts';
import { withLength } from './tcp-exchange.ts';
import { A, askUdp, decode, fakeUpstream, outcome, question, react, until, type Reactions } from './testing.ts';
import { parseTlsServer, type TlsServer } from './tls-server.ts';
import { createTlsUpstreams } from './tls-upstreams.ts';

const NAME = 'dns.example.net';
type Authority = ReturnType<typeof authorityForTests>;

interface Listener { server: TlsServer; connections: TLSSocket[]; queries: string[]; lengths: number[]; resumed(): number; close(): void }

/** Answers in the reverse of the order in which questions come in one piece. */
async function listen(t: Test, authority: Authority, reactions: Reactions, { names = [NAME], address = '127.0.0.1' }: { names?: string[]; address?: string } = {}): Promise<Listener> {
  const { cert, key } = authority.issue({ names, addresses: [address] });
  const connections: TLSSocket[] = [];
  const queries: string[] = [];
  const lengths: number[] = [];
  let resumed = 0;
  const listener: TlsListener = createTlsServer({ cert: readFileSync(cert), key: readFileSync(key) }, (socket) => {
    connections.push(socket);
    if (socket.isSessionReused()) resumed++;
    let buffered = Buffer.alloc(0);
    socket.on('error', () => {});
    socket.on('data', (chunk: Buffer) => {
      buffered = Buffer.concat([buffered, chunk]);
      const replies: Buffer[] = [];
      for (; buffered.length >= 2 && buffered.length >= 2 + buffered.readUInt16BE(0); buffered = buffered.subarray(2 + buffered.readUInt16BE(0))) {
        const message = buffered.subarray(2, 2 + buffered.readUInt16BE(0));
        lengths.push(message.length);
        queries.push(packet.decode(message).questions![0]!.name);
        const reply = react(message, reactions);
        if (reply) replies.unshift(withLength(reply));
      }
      socket.write(Buffer.concat(replies));
    });
  });
  listener.on('tlsClientError', () => {});
  await new Promise<void>((resolve) => void listener.listen(0, address, resolve));
  const close = (): void => {
    listener.close();
    for (const socket of connections) socket.destroy();
  };
  t.teardown(close);
  return { server: { address, port: (listener.address() as AddressInfo).port, name: NAME }, connections, queries, lengths, resumed: () => resumed, close };
}

function asking(t: Test, ca: string, servers: TlsServer[], clock: Clock = systemClock) {
  let lies = 0;
  const upstreams = createTlsUpstreams({ servers, ca, clock, random: systemRandom, onLie: () => void lies++, log: silentLogger });
  t.teardown(upstreams.close);
  const ask = async (name = 'name.example'): Promise<string> => {
    const query = question(name);
    const reply = await upstreams.ask(query, query.length, 'udp');
    if (typeof reply === 'string') return reply;
    t.equal(reply.readUInt16BE(0), query.readUInt16BE(0), 'the client\'s id');
    return outcome(reply);
  };
  return { ask, upstreams, lies: () => lies };
}

const saying = (ip: string): Reactions => (name) => [A(name, ip)];
const caOf = (authority: Authority): string => authority.issue().ca;

test('how a name server is written', async (t) => {
  t.same(parseTlsServer('tls://9.9.9.9#dns.quad9.net'), { address: '9.9.9.9', port: 853, name: 'dns.quad9.net' });
  t.same(parseTlsServer('tls://9.9.9.9'), { address: '9.9.9.9', port: 853 });
  t.same(parseTlsServer('tls://[2620:fe::fe]:8853#dns.quad9.net'), { address: '2620:fe::fe', port: 8853, name: 'dns.quad9.net' });
  for (const text of ['9.9.9.9', 'tls://dns.quad9.net', 'tls://9.9.9.9:0', 'tls://9.9.9.9:70000', 'tls://9.9.9.9#', 'tls://9.9.9.9#a b', 'tls://9.9.9.9#-a', 'tls://9.9.9.9#9.9.9.9', 'tls://[9.9.9.9]', 'tls://2620:fe::fe', 'https://9.9.9.9', `tls://9.9.9.9#${'a'.repeat(254)}`]) {
    t.equal(parseTlsServer(text), undefined, text);
  }
});

test('questions share one connection, and answers may come in any order', async (t) => {
  const authority = authorityForTests(t.testdir());
  const listener = await listen(t, authority, (name) => [A(name, `10.0.0.${name.slice(1)}`)]);
  const { ask, lies } = asking(t, caOf(authority), [listener.server]);
  const numbers = Array.from({ length: 50 }, (_, i) => i);
  t.same(await Promise.all(numbers.map((i) => ask(`q${i}`))), numbers.map((i) => `10.0.0.${i}`));
  t.equal(await ask('q77'), '10.0.0.77');
  t.equal(listener.connections.length, 1);
  t.equal(lies(), 0);
});

test('whose certificate is another\'s learns no question, and there is no other way to ask', async (t) => {
  const folder = t.testdir();
  const authority = authorityForTests(folder);
  const ca = caOf(authority);
  const stranger = await listen(t, authorityForTests(folder), saying('6.6.6.6'));
  t.equal(await asking(t, ca, [stranger.server]).ask(), 'absent', 'of an unknown authority');
  const misnamed = await listen(t, authority, saying('6.6.6.6'), { names: ['other.example.net'] });
  t.equal(await asking(t, ca, [misnamed.server]).ask(), 'absent', 'for another name');
  const elsewhere = await listen(t, authority, saying('6.6.6.6'), { address: '127.0.0.2' });
  const { name: _, ...unnamed } = elsewhere.server;
  t.equal(await asking(t, ca, [unnamed]).ask(), '6.6.6.6', 'without a name the address counts');
  const plain: Server = createServer((socket) => socket.on('error', () => {}).on('data', () => socket.end('no TLS here')));
  await new Promise<void>((resolve) => void plain.listen(0, '127.0.0.1', resolve));
  t.teardown(() => plain.close());
  t.equal(await asking(t, ca, [{ address: '127.0.0.1', port: (plain.address() as AddressInfo).port, name: NAME }]).ask(), 'absent', 'no TLS');
  t.same([stranger.queries, misnamed.queries], [[], []]);
  t.equal(await asking(t, `${ca}.missing`, [stranger.server]).ask(), 'absent', 'authorities that cannot be read');
});

test('the next one is asked when one is not there, fails, or takes long', async (t) => {
  const authority = authorityForTests(t.testdir());
  const [failing, silent, good] = [await listen(t, authority, () => ({ rcode: 2 })), await listen(t, authority, () => 'silence'), await listen(t, authority, saying('3.3.3.3'))];
  const gone = await listen(t, authority, saying('6.6.6.6'));
  gone.close();
  const { ask } = asking(t, caOf(authority), [gone.server, failing.server, silent.server, good.server]);
  t.equal(await ask(), '3.3.3.3');
  t.equal(await asking(t, caOf(authority), [failing.server, gone.server]).ask(), 'SERVFAIL', 'where none knows, what was said');
  t.equal(await asking(t, caOf(authority), [await listen(t, authority, () => ({ rcode: 3 })).then(({ server }) => server), good.server]).ask(), 'NXDOMAIN', 'that is an answer');
});

test('silence is a time-out after four seconds, and the connection is made anew', async (t) => {
  const authority = authorityForTests(t.testdir());
  const clock = new VirtualClock();
  let answers = false;
  const { server, queries, connections } = await listen(t, authority, (name) => (answers ? [A(name, '1.1.1.1')] : 'silence'));
  const { ask } = asking(t, caOf(authority), [server], clock);
  const asked = ask();
  await until(() => queries.length === 1);
  await clock.advance(4_000);
  t.equal(await asked, 'timeout');
  answers = true;
  t.equal(await ask(), '1.1.1.1');
  t.equal(connections.length, 2);
});

test('a connection is closed when it is idle, and one that the server closes is made anew', async (t) => {
  const authority = authorityForTests(t.testdir());
  const clock = new VirtualClock();
  const { server, connections, resumed } = await listen(t, authority, saying('1.1.1.1'));
  const { ask } = asking(t, caOf(authority), [server], clock);
  await ask();
  await clock.advance(9_000);
  await ask();
  await clock.advance(9_000);
  t.notOk(connections[0]!.destroyed);
  await clock.advance(1_000);
  await until(() => connections[0]!.destroyed);
  t.equal(await ask(), '1.1.1.1');
  t.same([connections.length, resumed()], [2, 1], 'with what is left of the last handshake');
  connections[1]!.destroy();
  t.equal(await ask(), '1.1.1.1', 'though it was closed just then');
  t.equal(connections.length, 3);
});

test('answers to other questions are none, and what is under way when it is closed ends', async (t) => {
  const authority = authorityForTests(t.testdir());
  const lying = await listen(t, authority, () => [A('name.example', '6.6.6.6'), ...Array.from({ length: 600 }, () => A('name.example', '6.6.6.6'))]);
  const { ask, lies } = asking(t, caOf(authority), [lying.server]);
  t.equal(await ask(), 'absent');
  t.equal(lies(), 1);
  const silent = await listen(t, authority, () => 'silence');
  const { ask: askSilent, upstreams } = asking(t, caOf(authority), [silent.server]);
  const asked = askSilent();
  await until(() => silent.queries.length === 1);
  upstreams.close();
  t.equal(await asked, 'closed');
  t.equal(await askSilent(), 'closed');
});

test('in sandboxes: nothing about the outside is asked in the clear', async (t) => {
  const authority = authorityForTests(t.testdir());
  const host = `127.78.${process.pid & 255}.5`;
  const clear = await fakeUpstream(t, host, 53, saying('6.6.6.6'));
  const listener = await listen(t, authority, (name) => (name.startsWith('large') ? Array.from({ length: 100 }, (_, i) => A(name, `93.184.217.${i}`)) : [A(name, '93.184.216.34')]));
  const at = space(t);
  const local = docker(t, at, saying('172.18.0.5'));
  const { resolver, put } = scene(t, () => [host], { upstreams: [listener.server], ca: caOf(authority) });
  put(WEB, 'c1', '10.192.4.2');
  const here = sandboxOf(at, WEB);
  for (const elsewhere of [false, undefined, true]) {
    await resolver.attach({ ...here, elsewhere });
    t.equal(await get(at, 'c1'), '10.192.4.2');
    t.equal(await get(at, `outside-${elsewhere}.example`), '93.184.216.34');
    t.equal(await getTcp(at, `outside-tcp-${elsewhere}.example`), '93.184.216.34');
  }
  t.same(local.queries, [], 'Docker would ask in the clear');
  t.equal(await get(at, 'neighbour'), '172.18.0.5', 'on its own networks it is asked for names of one label');
  await resolver.attach(here);
  const { length } = listener.queries;
  for (let i = 0; i < 3; i++) await get(at, 'kept.example');
  t.equal(listener.queries.length, length + 1, 'what is known is kept');
  await get(at, `${'long.'.repeat(25)}example`);
  t.same(listener.lengths.slice(-2), [128, 256], 'lengths tell little');
  const cookie = question('large.example', 'A', { additionals: [{ type: 'OPT', name: '.', udpPayloadSize: 512, flags: 0, options: [{ code: 10, data: Buffer.alloc(8, 1) }] } as unknown as packet.Answer] });
  const cut = decode(await askUdp(at.netns, cookie));
  t.ok(cut.flag_tc && cut.answers!.length > 0 && cut.answers!.length < 100, 'of what is too large for the client, as much as it can take');
  listener.close();
  t.equal(await get(at, 'new.example'), 'SERVFAIL');
  t.equal(await get(at, 'kept.example'), '93.184.216.34');
  const closed = { path: at.path, networks: [{ ...WEB, internal: true }] };
  for (const elsewhere of [false, undefined, true]) {
    await resolver.attach({ ...closed, elsewhere });
    t.equal(await get(at, 'secret.example'), 'SERVFAIL');
  }
  t.notOk(listener.queries.includes('secret.example'));
  t.same([clear.queries, local.queries.map(({ name }) => name)], [[], ['neighbour']]);
});

test('a network\'s own: asked for the sandboxes on it, in place of all others', async (t) => {
  const authority = authorityForTests(t.testdir());
  const ca = caOf(authority);
  const host = `127.78.${process.pid & 255}.6`;
  const clear = await fakeUpstream(t, host, 53, saying('6.6.6.6'));
  const [webs, backs] = [await listen(t, authority, saying('1.1.1.1')), await listen(t, authority, saying('2.2.2.2'))];
  const [one, two, plain] = [space(t), space(t), space(t)];
  const local = docker(t, one, saying('172.18.0.5'));
  const { resolver, put } = scene(t, () => [host]);
  const web = { ...WEB, upstreams: { servers: [webs.server], ca } };
  const back = { ...BACK, upstreams: { servers: [backs.server], ca } };
  put(WEB, 'c1', '10.192.4.2');
  await resolver.attach(sandboxOf(one, web));
  await resolver.attach(sandboxOf(two, web));
  await resolver.attach(sandboxOf(plain, BACK));
  t.equal(await get(one, 'c1'), '10.192.4.2');
  for (const at of [one, two]) t.equal(await get(at, 'www.example'), '1.1.1.1');
  t.same([webs.queries, webs.connections.length], [['www.example'], 1], 'they share what is known');
  t.equal(await get(plain, 'www.example'), '6.6.6.6', 'on other networks it is as it was');
  t.match(await resolver.trace(one.path, 'other.example', 'A'), { from: 'upstreams', answers: ['other.example 60 A 1.1.1.1'], steps: [{}, {}, {}, { detail: /over TLS only/ }, {}] });

  await resolver.attach(sandboxOf(one, web, back));
  t.equal(await get(one, 'www.example'), '2.2.2.2', 'of several networks, those of the first by name');
  t.equal(await get(two, 'www.example'), '1.1.1.1');
  await resolver.attach(sandboxOf(one, WEB, back));
  t.equal(await get(one, 'more.example'), '2.2.2.2', 'a network without does not count');
  await resolver.attach(sandboxOf(two, BACK));
  t.equal(await get(two, 'www.example'), '6.6.6.6', 'gone with the network');
  await until(() => webs.connections[0]!.destroyed);

  backs.close();
  t.equal(await get(one, 'new.example'), 'SERVFAIL');
  await resolver.attach(sandboxOf(one, { ...web, internal: true }));
  t.equal(await get(one, 'secret.example'), 'SERVFAIL');
  t.notOk(webs.queries.includes('secret.example'), 'nothing leaves an internal network');
  t.same([clear.queries.map((name) => name.toLowerCase()), local.queries], [['www.example'], []], 'nothing of it was asked in the clear');
});
