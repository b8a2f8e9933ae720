//   host [a 10.30.0.1] ─── [b] other
import { setTimeout as delay } from 'node:timers/promises';
import { test } from 'tap';
import { bytesToMac } from '../base/ip.ts';
import { VirtualClock } from '../base/virtual-clock.ts';
import { space } from '../linux/testing.ts';
import { watchDisturbances } from './disturbances.ts';

test('what disturbs, and what only goes with a link', async (t) => {
  const [host, other] = [space(t), space(t)];
  const clock = new VirtualClock();
  let told = 0;
  t.teardown(watchDisturbances(host.rtnl, host.netns, clock, () => void told++));
  const links = new Set<string>();
  t.teardown(host.rtnl.watch((event) => {
    if (event.type === 'link') links.add(event.link.name);
  }));
  let round = 0;
  /** All that the kernel had to say until now has been heard, and time enough has passed. */
  const settle = async (): Promise<void> => {
    const mark = `mark${round++}`;
    host.rtnl.addLink({ kind: 'bridge', name: mark });
    while (!links.has(mark)) await delay(5);
    await clock.advance(1_000);
  };
  const disturbs = async (change: () => unknown): Promise<boolean> => {
    await settle();
    told = 0;
    await change();
    await settle();
    return told > 0;
  };
  const pair = (): number => {
    const index = host.rtnl.addLink({ kind: 'veth', name: 'a', up: true, peer: { name: 'b', netns: other.netns, up: true } });
    host.rtnl.addAddress(index, '10.30.0.1/24');
    host.rtnl.replaceRoutes([{ dst: '10.31.0.0/24', via: '10.30.0.2', dev: index }]);
    return index;
  };
  const index = pair();
  t.ok(await disturbs(() => host.rtnl.deleteRoutes([{ dst: '10.31.0.0/24', via: '10.30.0.2', dev: index }])), 'a route taken away');
  const neighbourVanishes = (dev: number): Promise<boolean> => disturbs(() => {
    const neighbour = { dev, ip: '10.30.0.2', mac: '02:42:0a:1e:00:02' };
    host.rtnl.replaceNeighbours([neighbour]);
    host.rtnl.deleteNeighbours([neighbour]);
  });
  t.notOk(await neighbourVanishes(index), 'not a neighbour');
  const tunnel = host.rtnl.addLink({ kind: 'vxlan', name: 'wv-x', vni: 8, local: '10.30.0.1', port: 4788 });
  t.ok(await neighbourVanishes(tunnel), 'unless it was on a tunnel');
  t.ok(await disturbs(() => {
    const entry = { dev: tunnel, mac: '02:42:0a:1e:00:02', vtep: '10.30.0.2' };
    host.rtnl.replaceFdb([entry]);
    host.rtnl.deleteFdb([entry]);
  }), 'or a forwarding entry of one');
  t.ok(await disturbs(() => host.rtnl.deleteAddress(index, '10.30.0.1/24')), 'an address');
  t.notOk(await disturbs(() => host.rtnl.addAddress(index, '10.30.0.1/24')), 'not what is new');
  t.notOk(await disturbs(() => host.rtnl.deleteLink(index)), 'not what goes with a container\'s link');
  const moved = pair();
  t.notOk(await disturbs(() => host.rtnl.moveLink(moved, other.netns, 'c')), 'nor what Docker moves away with it');
  host.rtnl.addRule({ priority: 99, table: 100 });
  t.ok(await disturbs(() => host.rtnl.deleteRule({ priority: 99, table: 100 })), 'a rule');
  const up = host.rtnl.addLink({ kind: 'bridge', name: 'wbr-x', up: true });
  const foreign = host.rtnl.addLink({ kind: 'bridge', name: 'br0', up: true });
  t.notOk(await neighbourVanishes(foreign), 'on somebody else\'s bridge it is not ours');
  for (const [name, master, does] of [['we-x', up, true], ['veth0', foreign, false]] as const) {
    const port = host.rtnl.addLink({ kind: 'veth', name, master, peer: { name: `${name}-peer`, netns: other.netns } });
    host.rtnl.addPortMac(port, '02:42:0a:1e:00:03');
    t.equal(await disturbs(() => host.run('bridge', 'fdb', 'del', '02:42:0a:1e:00:03', 'dev', name, 'master')), does, `an address behind ${name}`);
    host.rtnl.addPortMac(port, '02:42:0a:1e:00:03');
    t.notOk(await disturbs(() => host.rtnl.deleteLink(port)), `but not what goes with ${name}`);
  }
  t.ok(await disturbs(() => host.rtnl.setLink(up, { up: false })), 'a link of ours set down');
  // With IPv6, that of its addresses would be told.
  host.run('sysctl', '-qw', 'net.ipv6.conf.wbr-x.disable_ipv6=1');
  host.rtnl.setLink(up, { up: true });
  t.ok(await disturbs(() => [false, true].forEach((to) => host.rtnl.setLink(up, { up: to }))), 'also where it is up again at once');
  t.ok(await disturbs(() => host.rtnl.deleteLink(up)), 'or deleted');

  for (const name of ['wmh-x', 'wmp-x', 'wih-x', 'wip-x']) {
    const link = host.rtnl.addLink({ kind: 'bridge', name, up: true });
    t.ok(await disturbs(() => host.rtnl.setLink(link, { up: false })), `${name}: one of a network on a LAN`);
  }
  const vxlan = host.rtnl.addLink({ kind: 'vxlan', name: 'x', vni: 7, local: '10.30.0.1', port: 4789 });
  const entries = Array.from({ length: 20_000 }, (_, i) => ({ dev: vxlan, mac: bytesToMac(Buffer.of(2, 0, 0, 0, i >> 8, i & 255)), vtep: '10.30.0.2' }));
  let unheard = 0;
  t.ok(await disturbs(async () => {
    host.rtnl.replaceFdb(entries);
    host.rtnl.deleteFdb(entries);
    // By now the kernel tells nothing more until what it told has been read.
    unheard = host.rtnl.addLink({ kind: 'bridge', name: 'q' });
    host.rtnl.addAddress(unheard, '10.32.0.1/24');
    while (told === 0) await delay(5);
  }), 'more than could be told');
  t.ok(await disturbs(() => host.rtnl.deleteAddress(unheard, '10.32.0.1/24')), 'and what a link loses that came meanwhile');
});
