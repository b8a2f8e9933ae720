import { setTimeout as delay } from 'node:timers/promises';
import { test } from 'tap';
import { openPacketSocket } from './packet-socket.ts';
import { space } from './testing.ts';

const TYPE = 0x88b5;

test('frames of one type, on one link', async (t) => {
  const [a, b] = [space(t), space(t)];
  for (const name of ['x', 'y']) a.rtnl.addLink({ kind: 'veth', name, up: true, peer: { name, netns: b.netns, up: true } });
  const open = (at: typeof a, name: string, type = TYPE) => {
    const socket = openPacketSocket(at.netns, at.rtnl.link(name)!.index, type);
    t.teardown(() => socket.close());
    return socket;
  };
  const [from, to, otherLink, otherType] = [open(a, 'x'), open(b, 'x'), open(b, 'y'), open(b, 'x', TYPE + 1)];
  const frame = Buffer.alloc(60, 7);
  Buffer.from(`ffffffffffff0277660000${'01'}88b5`, 'hex').copy(frame);
  from.send(frame);
  from.send(frame);
  await delay(20);
  t.same(to.receive(), [frame, frame]);
  t.same([to, from, otherLink, otherType].map((socket) => socket.receive()), [[], [], [], []], 'once, and nowhere else');
  const isHeard = (): boolean => b.run('ip', 'maddress', 'show', 'dev', 'y').includes('33:33:ff:00:00:07');
  otherLink.join('33:33:ff:00:00:07');
  t.ok(isHeard(), 'a group is asked of the card');
  otherLink.close();
  for (let i = 0; i < 100 && isHeard(); i++) await delay(10);
  t.notOk(isHeard(), 'and given up with the socket');
  a.rtnl.setLink(a.rtnl.link('x')!.index, { up: false });
  t.throws(() => from.send(frame), { code: 'ENETDOWN' });
  t.throws(() => openPacketSocket(a.netns, 9_999, TYPE), { code: 'ENODEV' });
});
