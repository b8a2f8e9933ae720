import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { test } from 'tap';
import { createDatagramBatch } from './datagram-batch.ts';
import { createDatagramSingle } from './datagram-single.ts';
import { check, sys } from './ffi.ts';
import { hostNetns } from './netns.ts';

const LOOPBACK = Buffer.from([2, 0, 0, 0, 127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]);

/** A socket that nobody else reads, and its port. */
function open(): { fd: number; port: number } {
  return hostNetns.run(() => {
    const fd = check('open', sys.socket(2, 2, 0));
    check('bind', sys.bind(fd, LOOPBACK, LOOPBACK.length));
    const name = Buffer.alloc(16);
    check('port', sys.getsockname(fd, name, [16]));
    return { fd, port: name.readUInt16BE(2) };
  });
}

for (const [what, create] of [['together', createDatagramBatch], ['one by one', createDatagramSingle]] as const) test(`datagrams are taken and answered ${what}, each by who asked`, async (t) => {
  const batch = create();
  if (!batch) return t.pass('not on this architecture');
  const { fd, port } = open();
  t.teardown(() => sys.close(fd));
  t.equal(batch.receive(fd), 0, 'nothing there');
  const clients = await Promise.all(Array.from({ length: 5 }, async () => {
    const client = createSocket('udp4');
    t.teardown(() => client.close());
    client.bind(0, '127.0.0.1');
    await once(client, 'listening');
    return client;
  }));
  const heard = clients.map((): string[] => []);
  for (const [i, client] of clients.entries()) client.on('message', (message) => heard[i]!.push(message.toString()));
  const say = (i: number, text: string | Buffer): Promise<void> => new Promise((resolve) => clients[i]!.send(text, port, '127.0.0.1', () => resolve()));
  const kept: Buffer[] = [];
  let total = 0;
  for (let round = 0; round < 60; round++) {
    for (let i = 0; i < 5; i++) await say(i, `${round}/${i}`);
    if (round === 3) await say(0, Buffer.alloc(5_000));
    for (let count = batch.receive(fd); count > 0; count = batch.receive(fd)) {
      for (let i = 0; i < count; i++) {
        if (batch.length(i) < 0) continue;
        const message = batch.questions[i]!.subarray(0, batch.length(i));
        total++;
        t.equal(batch.peer(i).address, '127.0.0.1');
        t.equal(clients[Number(message.toString().split('/')[1])]!.address().port, batch.peer(i).port);
        if (round % 10 === 0) {
          kept.push(message);
          batch.release(i);
        }
        // The third client is never answered.
        if (batch.peer(i).port !== clients[3]!.address().port) batch.answer(i, message.copy(batch.answers[i]!));
      }
      batch.send(fd, () => t.fail('one was not sent'));
    }
    // Whatever the kernel has the address of must outlive a collection.
    if (round % 20 === 0) Array.from({ length: 50 }, () => Buffer.alloc(1 << 20));
  }
  t.equal(total, 300, 'the one that was too long is left out');
  while (heard.filter((_, i) => i !== 3).some((each) => each.length < 60)) await new Promise((resolve) => setTimeout(resolve, 5));
  for (const i of [0, 1, 2, 4]) t.same(heard[i], Array.from({ length: 60 }, (_, round) => `${round}/${i}`));
  t.same(heard[3], []);
  t.same(kept.map(String).sort(), [0, 10, 20, 30, 40, 50].flatMap((round) => Array.from({ length: 5 }, (_, i) => `${round}/${i}`)).sort(), 'buffers that were given away are not written to');
});
