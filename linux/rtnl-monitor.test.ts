import { setTimeout as delay } from 'node:timers/promises';
import { test } from 'tap';
import { openRtnl } from './rtnl.ts';
import { script, space } from './testing.ts';
import type { RtnlEvent } from './types.ts';

/** Polls, since events come when they come; gives up after 5 s. */
async function until(condition: () => boolean): Promise<boolean> {
  for (let i = 0; i < 500 && !condition(); i++) await delay(10);
  return condition();
}

test('what happens is told', async (t) => {
  const { rtnl, netns } = space(t);
  const other = space(t);
  const events: RtnlEvent[] = [];
  t.teardown(rtnl.watch((event) => void events.push(event)));
  const saw = (found: (event: RtnlEvent) => boolean): Promise<boolean> => until(() => events.some(found));
  const sawLink = (name: string, gone: boolean): Promise<boolean> => saw((event) => event.type === 'link' && event.link.name === name && event.gone === gone);

  const dev = rtnl.addLink({ kind: 'veth', name: 'v0', peer: { name: 'v1', netns: other.netns } });
  t.ok(await sawLink('v0', false));
  rtnl.setLink(dev, { up: true });
  other.rtnl.setLink(other.rtnl.link('v1')!.index, { up: true });
  t.ok(await saw((event) => event.type === 'link' && event.link.index === dev && event.link.carrier), 'carrier, which the other namespace gave');
  rtnl.addAddress(dev, '10.1.0.1/24');
  rtnl.replaceRoutes([{ dst: 'fd03::/64', dev }]);
  const neighbour = { dev, ip: '10.1.0.2', mac: '02:00:00:00:00:02' };
  rtnl.replaceNeighbours([neighbour]);
  rtnl.addRule({ priority: 77, table: 1000 });
  rtnl.setLink(dev, { mtu: 1400 });
  t.ok(await saw((event) => event.type === 'link' && event.link.mtu === 1400));
  t.same(new Set(events.map(({ type }) => type)), new Set(['link']), 'what is added is not told');
  rtnl.deleteRule({ priority: 77, table: 1000 });
  rtnl.deleteNeighbours([neighbour]);
  rtnl.deleteAddress(dev, '10.1.0.1/24');
  rtnl.deleteRoutes([{ dst: 'fd03::/64', dev }]);
  for (const type of ['address', 'route', 'neighbour', 'rule'] as const) t.ok(await saw((event) => event.type === type), `${type} gone`);

  const bridge = rtnl.addLink({ kind: 'bridge', name: 'br0' });
  rtnl.setLink(dev, { master: bridge });
  t.ok(await saw((event) => event.type === 'link' && event.link.index === dev && event.link.master === bridge));
  rtnl.setLink(dev, { master: null });
  t.ok(await saw((event) => event.type === 'link' && event.link.index === dev && event.link.master === undefined));
  t.notOk(events.some((event) => event.type === 'link' && event.link.index === dev && event.gone), 'to leave a bridge is not to be gone');
  await rtnl.moveLink(dev, other.netns);
  t.ok(await sawLink('v0', true), 'to leave the namespace is');
  t.equal(netns.path, rtnl.netns.path);
});

test('a watch that was stopped says nothing more', async (t) => {
  const { rtnl } = space(t);
  let told = 0;
  let alive = 0;
  const stop = rtnl.watch(() => void told++);
  t.teardown(rtnl.watch(() => void alive++));
  rtnl.addLink({ kind: 'bridge', name: 'br0' });
  t.ok(await until(() => told > 0 && alive > 0));
  stop();
  stop();
  const [before, seen] = [told, alive];
  rtnl.addLink({ kind: 'bridge', name: 'br1' });
  t.ok(await until(() => alive > seen));
  t.equal(told, before);

  // Several events come in one turn here: what is told first may stop the rest.
  let heard = 0;
  const stopAtOnce = rtnl.watch(() => {
    heard++;
    stopAtOnce();
  });
  const last = alive;
  for (const name of ['v0', 'v1', 'v2', 'v3']) rtnl.addLink({ kind: 'bridge', name });
  t.ok(await until(() => alive > last + 3));
  t.equal(heard, 1);
});

test('of what happens to one link in one turn only the last is told, in its place', async (t) => {
  const { rtnl } = space(t);
  const told: string[] = [];
  t.teardown(rtnl.watch((event) => void (event.type === 'link' && told.push(`${event.link.name} ${event.link.mtu}${event.gone ? ' gone' : ''}`))));
  const first = rtnl.addLink({ kind: 'bridge', name: 'br0' });
  const second = rtnl.addLink({ kind: 'bridge', name: 'br1' });
  for (const mtu of [1200, 1300, 1400]) rtnl.setLink(first, { mtu });
  t.ok(await until(() => told.includes('br0 1400')));
  t.same(told, ['br1 1500', 'br0 1400']);
  await rtnl.deleteLink(second);
  t.ok(await until(() => told.includes('br1 1500 gone')));
});

test('a handler that throws is reported and goes on being called', async (t) => {
  const { rtnl } = space(t);
  const warnings: string[] = [];
  const onWarning = (warning: Error): void => void warnings.push(warning.message);
  process.on('warning', onWarning);
  t.teardown(() => process.off('warning', onWarning));
  let calls = 0;
  t.teardown(rtnl.watch(() => {
    calls++;
    throw new Error('from the handler');
  }));
  rtnl.addLink({ kind: 'bridge', name: 'br0' });
  t.ok(await until(() => warnings.includes('from the handler')));
  const before = calls;
  rtnl.addLink({ kind: 'bridge', name: 'br1' });
  t.ok(await until(() => calls > before));
});

test('more events than the socket holds: the loss is told, everything after it is told again, and the process lives', async (t) => {
  const { path } = space(t);
  const printed = script(`
    import { openNetns } from '$linux/netns.ts';
    import { openRtnl } from '$linux/rtnl.ts';
    const rtnl = openRtnl(openNetns('${path}'));
    const dev = rtnl.addLink({ kind: 'vxlan', name: 'x', vni: 7, local: '10.0.0.1', port: 4789 });
    let lost = 0;
    const waiting = new Set();
    rtnl.watch((event) => {
      if (event.type === 'lost') lost++;
      if (event.type === 'link') waiting.delete(event.link.name);
    });
    const entries = Array.from({ length: 20_000 }, (_, i) => ({ dev, mac: '02:00:00:00:' + (i >> 8).toString(16).padStart(2, '0') + ':' + (i & 255).toString(16).padStart(2, '0'), vtep: '10.0.0.2' }));
    for (let round = 0; round < 2; round++) {
      rtnl.replaceFdb(entries);
      rtnl.deleteFdb(entries);
      for (let i = 0; i < 500 && lost <= round; i++) await new Promise((resolve) => setTimeout(resolve, 10));
    }
    waiting.add('br0');
    rtnl.addLink({ kind: 'bridge', name: 'br0' });
    for (let i = 0; i < 500 && waiting.size > 0; i++) await new Promise((resolve) => setTimeout(resolve, 10));
    console.log(lost === 2, waiting.size);
  `);
  t.equal(printed, 'true 0\n');
});

test('a watch does not keep the process alive', async (t) => {
  const { path } = space(t);
  const printed = script(`
    import { openNetns } from '$linux/netns.ts';
    import { openRtnl } from '$linux/rtnl.ts';
    openRtnl(openNetns('${path}')).watch(() => {});
    process.on('exit', () => console.log('over'));
  `);
  t.equal(printed, 'over\n');
});

test('requests and notifications never share a socket, and all who watch one namespace share theirs', async (t) => {
  const { rtnl, netns, run } = space(t);
  for (const each of [rtnl, rtnl, openRtnl(netns)]) t.teardown(each.watch(() => {}));
  await rtnl.deleteLink(rtnl.addLink({ kind: 'bridge', name: 'br0' }));
  // sk Eth Pid Groups …: of this namespace's rtnetlink sockets, the kernel's own has port 0.
  const groups = run('cat', '/proc/net/netlink').split('\n').map((line) => line.trim().split(/\s+/))
    .filter(([, protocol, port]) => protocol === '0' && port !== '0').map((columns) => columns[3]);
  t.same(groups.sort(), ['00000000', '00000000', '00000000', '000405dd'], 'the requests\' of both, the slow lane\'s and the monitor\'s');
});
