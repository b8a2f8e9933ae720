//   127.81.X.1, .2, …   clients  ──►  127.80.X.Y:53  the resolver under test      (loopback of this process's own namespace)
import { createSocket } from 'node:dgram';
import { connect } from 'node:net';
import { test, type Test } from 'tap';
import { systemClock } from '../base/clock.ts';
import { silentLogger } from '../base/log.ts';
import { VirtualClock } from '../base/virtual-clock.ts';
import { sys } from '../linux/ffi.ts';
import { space } from '../linux/testing.ts';
import { NOTHING_KNOWN } from './remembered.ts';
import type { Chain } from './responder.ts';
import { openNodeListener } from './node-listener.ts';
import { BACK, sandboxOf, scene, WEB } from './scene-for-tests.ts';
import { openServer } from './sockets.ts';
import { exchangeOverTcp } from './tcp-exchange.ts';
import { A, fakeUpstream, outcome, question } from './testing.ts';

/** Of this test process alone. */
const NET = `${process.pid & 255}`;
const listenAt = (host: number): string => `127.80.${NET}.${host}`;
const clientAt = (host: number): string => `127.81.${NET}.${host}`;

async function overUdp(t: Test, at: string, from: string, name: string, type?: string): Promise<string> {
  const socket = createSocket('udp4');
  t.teardown(() => socket.close());
  const reply = new Promise<Buffer>((resolve, reject) => socket.on('message', resolve).on('error', reject));
  socket.bind(0, from, () => socket.connect(53, at, () => socket.send(question(name, type))));
  return outcome(await reply);
}

async function overTcp(at: string, from: string, name: string): Promise<string> {
  const query = question(name);
  const reply = await exchangeOverTcp(connect({ port: 53, host: at, localAddress: from }), query, query.length, { clock: systemClock, timeoutMs: 4_000 });
  return typeof reply === 'string' ? reply : outcome(reply);
}

test('who asks is known by where the question comes from, and no namespace is touched', async (t) => {
  const server = `127.82.${NET}.1`;
  const upstream = await fakeUpstream(t, server, 53, (name) => [A(name, '93.184.216.34')]);
  const at = listenAt(1);
  const { resolver, put } = scene(t, () => [server], { listen: at });
  put(WEB, 'c1', '10.192.4.2');
  put(BACK, 'c2', '10.192.5.2');
  const [web, back, vault] = [space(t), space(t), space(t)];
  await resolver.attach({ ...sandboxOf(web, WEB), addresses: [clientAt(1), clientAt(2), 'fd00::1'] });
  await resolver.attach({ ...sandboxOf(back, BACK), addresses: [clientAt(3)], elsewhere: undefined });
  await resolver.attach({ ...sandboxOf(vault, { ...WEB, internal: true }), addresses: [clientAt(4)] });
  t.same(resolver.attached(), [web.path, back.path, vault.path]);
  t.equal(resolver.problem(), undefined);
  for (const { run } of [web, back]) t.equal(run('nft', 'list', 'tables'), '');
  for (const host of [1, 2]) t.equal(await overUdp(t, at, clientAt(host), 'c1.web'), '10.192.4.2');
  t.equal(await overTcp(at, clientAt(1), 'C1'), '10.192.4.2');
  t.equal(await overUdp(t, at, clientAt(1), '2.4.192.10.in-addr.arpa', 'PTR'), 'c1.web');
  t.equal(await overUdp(t, at, clientAt(3), 'c2'), '10.192.5.2');
  t.equal(await overUdp(t, at, clientAt(3), 'c1.web'), '93.184.216.34', 'not of its networks: the outside is asked');
  t.equal(await overUdp(t, at, clientAt(4), 'c1'), '10.192.4.2');
  t.equal(await overUdp(t, at, clientAt(4), 'www.example'), 'SERVFAIL', 'nothing leaves an internal network');
  for (let i = 0; i < 2; i++) for (const host of [1, 3]) t.equal(await overUdp(t, at, clientAt(host), 'www.example'), '93.184.216.34');
  t.equal(upstream.queries.filter((name) => name.toLowerCase() === 'www.example').length, 1, 'one cache for all');
  t.match((await resolver.trace(web.path, 'other.example', 'A')).steps.find(({ source }) => source === 'docker'), { detail: /^not asked: it asks this host/ });

  t.equal(await overUdp(t, at, clientAt(9), 'c1.web'), 'REFUSED', 'a stranger');
  t.equal(await overTcp(at, clientAt(9), 'www.example'), 'REFUSED');
  t.match(resolver.stats(), { denied: 2, contained: 1 });

  await resolver.attach({ ...sandboxOf(web, WEB), addresses: [clientAt(1), clientAt(5)] });
  t.equal(await overUdp(t, at, clientAt(5), 'c1'), '10.192.4.2');
  t.equal(await overUdp(t, at, clientAt(2), 'c1'), 'REFUSED', 'it has this address no more');
  resolver.detach(web.path);
  t.equal(await overUdp(t, at, clientAt(1), 'c1'), 'REFUSED');
});

const says = (text: string): Chain => Object.assign((message: Buffer, _: unknown, out: Buffer) => {
  const length = message.copy(out);
  out.writeUInt16BE(0x8180 | text.length, 2);
  return length;
}, { known: () => NOTHING_KNOWN });

test('an address that another one has by now stays that one\'s', async (t) => {
  const at = listenAt(2);
  const listener = openNodeListener({ address: at, clock: systemClock, log: silentLogger, onDrop: () => {}, onStranger: () => {} });
  t.teardown(listener.close);
  const first = listener.add([clientAt(1)], says('12345'));
  const second = listener.add([clientAt(1)], says('123'));
  await first.close();
  t.equal(await overUdp(t, at, clientAt(1), 'x'), 'NXDOMAIN');
  await second.close();
  t.equal(await overUdp(t, at, clientAt(1), 'x'), 'REFUSED');
});

test('an address that is taken is asked for again until it is free; one that is not there yet is waited for', async (t) => {
  const at = listenAt(3);
  const { udp, tcp } = openServer(at, 53);
  const clock = new VirtualClock();
  const listener = openNodeListener({ address: at, clock, log: silentLogger, onDrop: () => {}, onStranger: () => {} });
  t.teardown(listener.close);
  t.match(listener.problem, /EADDRINUSE|in use/);
  await clock.advance(10_000);
  t.match(listener.problem, /EADDRINUSE|in use/);
  sys.close(udp);
  sys.close(tcp);
  await clock.advance(10_000);
  t.equal(listener.problem, undefined);
  t.equal(await overUdp(t, at, clientAt(1), 'x'), 'REFUSED');
  const absent = openNodeListener({ address: '192.0.2.77', clock, log: silentLogger, onDrop: () => {}, onStranger: () => {} });
  t.equal(absent.problem, undefined);
  absent.close();
});
