import { test } from 'tap';
import { space } from '../linux/testing.ts';
import { sys } from '../linux/ffi.ts';
import { NOTHING_KNOWN } from './remembered.ts';
import type { Responder } from './responder.ts';
import { datagramSocket, directSender, openClient, openListeners, RESOLVER_ADDRESS } from './sockets.ts';
import { until } from './testing.ts';
import { serveUdp } from './udp-server.ts';

for (const batches of [false, true]) {
  test(`${batches ? 'several datagrams' : 'one datagram'} at a time: each is answered, at once or later, by who asked`, async (t) => {
    const { netns } = space(t);
    const { port, udp, tcp, mark } = openListeners(netns);
    for (const fd of [tcp, mark]) sys.close(fd);
    // 'l…' is answered later, when its buffer may have been used again; 'n…' never.
    const respond: Responder = (message, _, out) => {
      const kind = message.toString('latin1', 0, 1);
      if (kind === 'n') return 0;
      if (kind !== 'l') return message.copy(out);
      return new Promise((resolve) => setTimeout(() => resolve(message), 5));
    };
    /** 'a…' of odd rounds is known at once. */
    const write = (message: Buffer, length: number, out: Buffer): number => (/^a-\d-\d*[13579]-/.test(message.toString('latin1', 0, length)) ? message.copy(out, 0, 0, length) : 0);
    const chain = Object.assign(respond, { known: () => ({ write }) });
    const close = serveUdp(udp, { chain, batches, onError: (error) => t.fail(error.message) });
    t.teardown(close);
    const clients = Array.from({ length: 3 }, () => {
      const socket = datagramSocket(openClient(netns, 'udp'));
      t.teardown(() => socket.close());
      const heard: string[] = [];
      socket.on('message', (message) => heard.push(message.toString()));
      return { socket, heard };
    });
    const kinds = ['a', 'l', 'n'];
    for (let round = 0; round < 10; round++) {
      for (const [c, { socket }] of clients.entries()) {
        for (let i = 0; i < 60; i++) socket.send(`${kinds[i % 3]}-${c}-${round}-${i}`, port, RESOLVER_ADDRESS);
      }
      await until(() => clients.every(({ heard }) => heard.length === 40 * (round + 1)));
    }
    for (const [c, { heard }] of clients.entries()) {
      t.ok(heard.every((each) => each.split('-')[1] === String(c)));
      t.equal(new Set(heard).size, 400);
    }
  });
}

test('who floods us has one datagram and then 64 answered in a turn, and then others have theirs', async (t) => {
  const { netns } = space(t);
  const { port, udp, tcp, mark } = openListeners(netns);
  for (const fd of [tcp, mark]) sys.close(fd);
  let turn = 0;
  const perTurn: Record<number, number> = {};
  const respond: Responder = () => {
    perTurn[turn] = (perTurn[turn] ?? 0) + 1;
    return 0;
  };
  const chain = Object.assign(respond, { known: () => NOTHING_KNOWN });
  t.teardown(serveUdp(udp, { chain, batches: true, onError: (error) => t.fail(error.message) }));
  const client = openClient(netns, 'udp');
  t.teardown(() => sys.close(client));
  const send = directSender(client);
  let counting = true;
  const next = (): void => {
    turn++;
    if (counting) setImmediate(next);
  };
  next();
  let sent = 0;
  for (let round = 0; round < 4; round++) {
    for (let i = 0; i < 200; i++) if (send(Buffer.from('flood'), 5, port, RESOLVER_ADDRESS)) sent++;
    await until(() => Object.values(perTurn).reduce((sum, each) => sum + each, 0) === sent);
  }
  counting = false;
  t.equal(sent, 800);
  const most = Math.max(...Object.values(perTurn));
  t.ok(most > 32 && most <= 65, `${most} in one turn`);
});
