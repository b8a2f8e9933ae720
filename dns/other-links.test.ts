import { test } from 'tap';
import { VirtualClock } from '../base/virtual-clock.ts';
import { space } from '../linux/testing.ts';
import { watchOtherLinks } from './other-links.ts';

test('interfaces that no network of ours leads to, found within a second', async (t) => {
  const { netns, rtnl } = space(t);
  const host = space(t);
  const clock = new VirtualClock();
  let ours = 1;
  const isElsewhere = watchOtherLinks(netns, () => ours, clock);
  t.equal(isElsewhere(), false, 'loopback does not count');
  for (const name of ['eth0', 'eth1', 'down0']) {
    const index = rtnl.addLink({ kind: 'veth', name, peer: { name: `host-${name}`, netns: host.netns } });
    if (name !== 'down0') rtnl.setLink(index, { up: true });
  }
  t.equal(isElsewhere(), false, 'looked at a moment ago');
  await clock.advance(1_000);
  t.equal(isElsewhere(), true);
  ours = 2;
  t.equal(isElsewhere(), false, 'what we lead to is known at once; links that are down do not count');
});

test('what a container makes for itself leads to nobody\'s network', async (t) => {
  const { netns, rtnl } = space(t);
  const nested = space(t);
  const bridge = rtnl.addLink({ kind: 'bridge', name: 'docker0', up: true });
  const port = rtnl.addLink({ kind: 'veth', name: 'port0', peer: { name: 'eth0', netns: nested.netns } });
  rtnl.setLink(port, { up: true, master: bridge });
  t.equal(watchOtherLinks(netns, () => 0, new VirtualClock())(), false);
});

test('a namespace that cannot be looked at', async (t) => {
  const { netns } = space(t);
  const failing = { ...netns, run: () => { throw new Error('no descriptors'); } };
  t.equal(watchOtherLinks(failing as unknown as typeof netns, () => 5, new VirtualClock())(), undefined);
});
