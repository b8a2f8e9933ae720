import { readdirSync } from 'node:fs';
import { test } from 'tap';
import { sys } from './ffi.ts';
import { openNetlink } from './netlink-socket.ts';
import { RTM_GETADDR, addressQuery } from './rtnl-addresses.ts';
import { encodeDelete, RTM_DELLINK } from './rtnl-links.ts';
import { openRtnl } from './rtnl.ts';
import { space } from './testing.ts';

const NETLINK_ROUTE = 0;

test('an error at the end of a dump is an error', (t) => {
  const socket = openNetlink(space(t).netns, NETLINK_ROUTE);
  t.teardown(() => socket.close());
  t.throws(() => socket.dump('list addresses', RTM_GETADDR, addressQuery(99_999)), { code: 'ENODEV' });
  t.ok(socket.dump('list addresses', RTM_GETADDR, addressQuery()).length > 0, 'and the next answer is the next question\'s');
  t.end();
});

test('refusals in a batch come with their positions, also across sends and when the last is refused', (t) => {
  const socket = openNetlink(space(t).netns, NETLINK_ROUTE);
  t.teardown(() => socket.close());
  const messages = Array.from({ length: 5_000 }, (_, i) => ({ type: RTM_DELLINK, flags: 0, body: encodeDelete(100_000 + i) }));
  const errors = socket.batch('delete', messages);
  t.same(errors.map(({ index }) => index), messages.map((_, i) => i));
  t.ok(errors.every(({ error }) => error.code === 'ENODEV'));
  t.same(socket.batch('nothing', []), []);
  t.end();
});

test('a table that changes while it is read is read again, but not for ever', (t) => {
  const { rtnl } = space(t);
  const { recv, sendto } = sys;
  t.teardown(() => void Object.assign(sys, { recv, sendto }));
  let sent = 0;
  let marked = 0;
  Object.assign(sys, {
    sendto: (...call: Parameters<typeof sendto>) => {
      sent++;
      return sendto(...call);
    },
    // As the kernel marks an answer: NLM_F_DUMP_INTR in the flags of a message.
    recv: (fd: number, data: Buffer, ...rest: [number, number]) => {
      const length = recv(fd, data, ...rest) as number;
      if (marked-- > 0) data.writeUInt16LE(data.readUInt16LE(6) | 0x10, 6);
      return length;
    },
  });
  marked = 1;
  t.same(rtnl.links().map(({ name }) => name), ['lo'], 'nothing twice');
  t.equal(sent, 2);
  marked = Infinity;
  t.throws(() => rtnl.links(), { code: 'EINTR' });
  t.end();
});

test('sockets are given back', async (t) => {
  const [{ netns }, other] = [space(t), space(t)];
  const open = (): number => readdirSync('/proc/self/fd').length;
  const use = async (): Promise<void> => {
    const rtnl = openRtnl(netns);
    const stop = rtnl.watch(() => {});
    await rtnl.deleteLink(rtnl.addLink({ kind: 'veth', name: 'v0', peer: { name: 'v1', netns: other.netns, up: true } }));
    stop();
    rtnl.close();
    await new Promise(setImmediate);
  };
  await use();
  const before = open();
  for (let i = 0; i < 20; i++) await use();
  for (let i = 0; i < 500; i++) openRtnl(netns).close();
  t.equal(open(), before);
});
