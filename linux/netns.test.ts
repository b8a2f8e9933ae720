import { readdirSync, readlinkSync, writeFileSync } from 'node:fs';
import { test } from 'tap';
import { createNetns, deleteNetns, hostNetns, isNetns, openNetns } from './netns.ts';
import { script, space } from './testing.ts';

const current = (): string => readlinkSync('/proc/thread-self/ns/net');
const home = current();

test('a function runs inside, and we are back whatever it did', (t) => {
  const { netns } = space(t);
  const inside = netns.run(current);
  t.not(inside, home);
  t.equal(current(), home);
  t.equal(netns.run(() => hostNetns.run(current)), home);
  t.equal(netns.run(current), inside);
  t.throws(() => netns.run(() => { throw new Error('inside'); }), { message: 'inside' });
  t.equal(current(), home);
  t.end();
});

test('one namespace inside another: the way back leads to the outer one', (t) => {
  const [a, b] = [space(t), space(t)];
  const seen = a.netns.run(() => [current(), b.netns.run(current), current()]);
  t.equal(seen[0], seen[2]);
  t.not(seen[0], seen[1]);
  t.equal(current(), home);
  t.end();
});

test('a promise is refused: what it awaits would happen outside', (t) => {
  const { netns } = space(t);
  t.throws(() => netns.run(async () => {}), TypeError);
  t.equal(current(), home);
  t.end();
});

test('namespaces are made once, opened by path, and deleted without complaint', (t) => {
  const path = `/run/netns/weft-t-${process.pid}-made`;
  t.teardown(() => deleteNetns(path));
  t.throws(() => openNetns(path), { code: 'ENOENT' });
  writeFileSync(path, '');
  t.notOk(isNetns(path), 'what a crash leaves before the mount is not a namespace');
  const made = createNetns(path);
  t.throws(() => createNetns(path), { code: 'EEXIST' });
  const opened = openNetns(path);
  t.equal(opened.run(current), made.run(current));
  for (const each of [made, made, opened]) each.close();
  t.throws(() => made.run(current), { code: 'EBADF' });
  deleteNetns(path);
  deleteNetns(path);
  t.notOk(isNetns(path));
  const before = readdirSync('/proc/self/fd').length;
  for (let i = 0; i < 5; i++) {
    createNetns(path).close();
    deleteNetns(path);
  }
  t.equal(readdirSync('/proc/self/fd').length, before);
  t.end();
});

test('the first asynchronous call made inside does not leave libuv\'s threads there', (t) => {
  const { path } = space(t);
  const printed = script(`
    import { readlinkSync, stat } from 'node:fs';
    import { readlink } from 'node:fs/promises';
    import { openNetns } from '$linux/netns.ts';
    const home = readlinkSync('/proc/thread-self/ns/net');
    openNetns('${path}').run(() => stat('/', () => {}));
    const seen = await Promise.all(Array.from({ length: 32 }, () => readlink('/proc/thread-self/ns/net')));
    console.log(seen.every((each) => each === home));
  `);
  t.equal(printed, 'true\n');
  t.end();
});
