import { readdirSync } from 'node:fs';
import { test } from 'tap';
import { space } from './testing.ts';

test('many links are deleted at once, and only those', async (t) => {
  const { rtnl } = space(t);
  const names = Array.from({ length: 40 }, (_, i) => `br${i}`);
  for (const name of [...names, 'kept']) rtnl.addLink({ kind: 'bridge', name });
  for (let i = 0; i < 10; i++) rtnl.addLink({ kind: 'veth', name: `a${i}`, peer: { name: `b${i}` } });
  const pairs = Array.from({ length: 10 }, (_, i) => [`a${i}`, `b${i}`]).flat();
  const refused = t.rejects(rtnl.deleteLink('lo'), { code: 'EOPNOTSUPP' });
  await Promise.all([...names, ...pairs, 'never-was'].map((name) => rtnl.deleteLink(name)));
  await refused;
  t.same(rtnl.links().map(({ name }) => name), ['lo', 'kept']);
});

test('the event loop runs on while a link is deleted or moved', async (t) => {
  const [{ rtnl }, other] = [space(t), space(t)];
  const index = rtnl.addLink({ kind: 'veth', name: 'v0', up: true, peer: { name: 'v1', up: true } });
  for (const work of [() => rtnl.moveLink(index, other.netns), () => other.rtnl.deleteLink('v0')]) {
    let turns = 0;
    let done = false;
    const finished = work().finally(() => { done = true; });
    while (!done) {
      await new Promise(setImmediate);
      turns++;
    }
    await finished;
    t.ok(turns > 10, `${turns} turns`);
  }
});

test('what waits when the socket is closed is refused, what is under way is finished', async (t) => {
  const [host, other] = [space(t), space(t)];
  const open = (): number => readdirSync('/proc/self/fd').length;
  const before = open();
  const [a, b] = ['a', 'b'].map((name) => host.rtnl.addLink({ kind: 'veth', name, peer: { name: `${name}-peer` } })) as [number, number];
  const moves = [host.rtnl.moveLink(a, other.netns), host.rtnl.moveLink(b, other.netns)];
  await new Promise(setImmediate);
  host.rtnl.close();
  host.rtnl.close();
  const [first, second] = await Promise.allSettled(moves);
  t.equal(first!.status, 'fulfilled');
  t.match(second, { status: 'rejected', reason: { code: 'EBADF' } });
  t.ok(other.rtnl.link('a'));
  t.notOk(other.rtnl.link('b'));
  t.throws(() => host.rtnl.links(), { code: 'EBADF' });
  t.equal(open(), before - 1, 'its socket is given back, and the one the requests went through');
});
