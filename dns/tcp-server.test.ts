import { Socket } from 'node:net';
import { test, type Test } from 'tap';
import { VirtualClock } from '../base/virtual-clock.ts';
import { space } from '../linux/testing.ts';
import { sys } from '../linux/ffi.ts';
import type { Responder } from './responder.ts';
import { openClient, openListeners, RESOLVER_ADDRESS } from './sockets.ts';
import { withLength } from './tcp-exchange.ts';
import { serveTcp } from './tcp-server.ts';
import { until } from './testing.ts';

/** Answers with what it was asked; messages whose first byte is 1 wait for `release`. */
function scene(t: Test) {
  const { netns } = space(t);
  const { port, udp, tcp, mark } = openListeners(netns);
  sys.close(udp);
  sys.close(mark);
  const clock = new VirtualClock();
  const waiting: (() => void)[] = [];
  const seen: number[] = [];
  let drops = 0;
  const chain: Responder = (message, _, out) => {
    seen.push(message.length);
    if (message[0] === 1) return new Promise((resolve) => waiting.push(() => resolve(Buffer.from(message))));
    return message[0] === 2 ? 0 : message.copy(out);
  };
  const server = serveTcp(tcp, { chain, clock, onDrop: () => drops++, onError: (error) => t.fail(error.message) });
  t.teardown(server.close);
  const client = (): { socket: Socket; received: () => Buffer; closed: () => boolean } => {
    const socket = new Socket({ fd: openClient(netns, 'tcp') }).connect(port, RESOLVER_ADDRESS);
    t.teardown(() => socket.destroy());
    const chunks: Buffer[] = [];
    let closed = false;
    socket.on('data', (chunk) => chunks.push(chunk));
    socket.on('error', () => {});
    socket.on('close', () => void (closed = true));
    return { socket, received: () => Buffer.concat(chunks), closed: () => closed };
  };
  return { client, clock, waiting, seen, server, drops: () => drops };
}

const message = (first: number, length = 20, rest = 7): Buffer => Buffer.concat([Buffer.of(first), Buffer.alloc(length - 1, rest)]);

test('queries of a connection are answered in their order, however they arrive', async (t) => {
  const { client, waiting, seen } = scene(t);
  const { socket, received } = client();
  const messages = [message(0, 12), message(1, 300), message(0, 4096), message(2), message(0, 30, 9)];
  const stream = Buffer.concat(messages.map(withLength));
  for (let at = 0; at < 40; at++) {
    socket.write(stream.subarray(at, at + 1));
    await new Promise((resolve) => setImmediate(resolve));
  }
  socket.end(stream.subarray(40));
  await until(() => waiting.length === 1);
  t.same(seen, [12, 300], 'what comes after a question that others work on waits');
  waiting[0]!();
  const expected = Buffer.concat([0, 1, 2, 4].map((i) => withLength(messages[i]!)));
  await until(() => received().length === expected.length);
  t.ok(received().equals(expected), 'after the client closed its side, too; what is due no answer gets none');
});

test('thousands of queries at once are all answered, a few in each turn', async (t) => {
  const { client, seen } = scene(t);
  const { socket, received } = client();
  const one = withLength(message(0));
  socket.write(Buffer.concat(Array.from({ length: 3000 }, () => one)));
  let most = 0;
  let before = 0;
  let done = false;
  const watch = (): void => {
    most = Math.max(most, seen.length - before);
    before = seen.length;
    if (!done) setImmediate(watch);
  };
  watch();
  await until(() => received().length === 3000 * one.length);
  done = true;
  t.ok(most <= 48, `at most ${most} between two turns`);
});

test('a client that drips, sends nonsense or does not read is cut off', async (t) => {
  const { client, clock, drops, seen } = scene(t);
  const slow = client();
  slow.socket.write(withLength(message(0)));
  await until(() => slow.received().length === 22);
  for (let i = 0; i < 9; i++) {
    slow.socket.write(Buffer.of(0));
    await clock.advance(1000);
  }
  t.notOk(slow.closed());
  await clock.advance(1000);
  await until(slow.closed);
  t.equal(drops(), 1, 'ten seconds after its last query');

  for (const length of [0, 11, 4097, 65_535]) {
    const bad = client();
    bad.socket.write(Buffer.from([length >>> 8, length & 255, 0]));
    await until(bad.closed);
  }
  t.equal(drops(), 5);

  const deaf = client();
  deaf.socket.pause();
  const big = withLength(message(0, 4000));
  const flood = setInterval(() => deaf.socket.writableLength < 1 << 20 && deaf.socket.write(big), 0);
  t.teardown(() => clearInterval(flood));
  let last = -1;
  while (last !== seen.length) {
    last = seen.length;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  await clock.advance(10_000);
  clearInterval(flood);
  await until(() => drops() === 6);
});

test('64 connections and no more: the one that was quiet for the longest makes room, none that waits for its answer does', async (t) => {
  const { client, drops, waiting, server } = scene(t);
  const clients = Array.from({ length: 64 }, client);
  for (const [i, { socket }] of clients.entries()) {
    socket.write(withLength(message(i === 0 ? 1 : 0)));
    await until(() => (i === 0 ? waiting.length === 1 : clients[i]!.received().length === 22));
  }
  const next = client();
  next.socket.write(withLength(message(0)));
  await until(() => next.received().length === 22);
  await until(() => clients[1]!.closed());
  t.equal(drops(), 1);
  t.equal(clients.filter(({ closed }) => closed()).length, 1);
  waiting[0]!();
  await until(() => clients[0]!.received().length === 22);

  const patient = Array.from({ length: 64 }, client);
  for (const { socket } of patient) socket.write(withLength(message(1)));
  await until(() => waiting.length === 65);
  const late = client();
  await until(late.closed);
  for (const answer of waiting) answer();
  await until(() => patient.every(({ received }) => received().length === 22));
  server.close();
  await until(() => patient.every(({ closed }) => closed()));
});

test('a thousand connections that only wait, or send a byte a second, keep nobody out', async (t) => {
  const { client, clock } = scene(t);
  const idle: ReturnType<typeof client>[] = [];
  for (let round = 0; round < 20; round++) {
    const some = Array.from({ length: 50 }, client);
    idle.push(...some);
    for (const { socket } of some) socket.write(Buffer.of(0));
    const honest = client();
    honest.socket.write(withLength(message(0)));
    await until(() => honest.received().length === 22);
    honest.socket.destroy();
  }
  await until(() => idle.filter(({ closed }) => !closed()).length <= 64);
  for (let second = 0; second < 10; second++) {
    for (const { socket, closed } of idle) if (!closed()) socket.write(Buffer.of(1));
    await clock.advance(1_000);
  }
  await until(() => idle.every(({ closed }) => closed()));
  t.pass('all of them were closed in the end');
});
