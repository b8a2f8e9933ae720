//   host a                  router-less wire                host b
//   [fabric fa]  br--vxlan      a0 ======= b0      vxlan--br  [fabric fb]
//        |                                                        |
//     veth ca                                                  veth cb
import { execFileSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { test } from 'tap';
import { createNetns, deleteNetns } from './netns.ts';
import { openRtnl } from './rtnl.ts';
import { KernelError, type Netns, type RtnlEvent, type Rtnl } from './types.ts';

interface Space { netns: Netns; rtnl: Rtnl; path: string }
const made: Space[] = [];
let count = 0;

function space(): Space {
  const path = `/run/netns/weft-t-${process.pid}-${count++}`;
  const netns = createNetns(path);
  const each = { netns, rtnl: openRtnl(netns), path };
  made.push(each);
  each.rtnl.setLink(each.rtnl.link('lo')!.index, { up: true });
  return each;
}

const ip = (at: Space, ...args: string[]): string => execFileSync('ip', ['-n', at.path.split('/').at(-1)!, ...args], { encoding: 'utf8' });
const inside = (at: Space, ...command: string[]): string => execFileSync('ip', ['netns', 'exec', at.path.split('/').at(-1)!, ...command], { encoding: 'utf8' });

test('rtnetlink', async (t) => {
  t.teardown(() => {
    for (const { netns, rtnl, path } of made) {
      rtnl.close();
      netns.close();
      deleteNetns(path);
    }
  });

  t.test('links are made, found, changed and deleted', async (t) => {
    const { rtnl } = space();
    const index = rtnl.addLink({ kind: 'bridge', name: 'br0', mtu: 1400, mac: '02:00:00:00:00:01', up: true });
    t.match(rtnl.link('br0'), { index, kind: 'bridge', mtu: 1400, mac: '02:00:00:00:00:01', up: true });
    rtnl.addLink({ kind: 'veth', name: 'v0', master: index, up: true, peer: { name: 'v1', mtu: 1400, up: true } });
    t.equal(rtnl.link('v0')!.master, index);
    t.ok(rtnl.link('v0')!.carrier, 'both ends are up');
    rtnl.setLink(rtnl.link('v1')!.index, { up: false });
    t.notOk(rtnl.link('v0')!.carrier);
    rtnl.setLink(rtnl.link('v0')!.index, { master: null, mtu: 1300 });
    t.match(rtnl.link('v0'), { master: undefined, mtu: 1300 });
    await rtnl.deleteLink('v0');
    await rtnl.deleteLink('v0');
    t.equal(rtnl.link('v1'), undefined, 'a veth goes with its peer');
    t.same(rtnl.links().map((link) => link.name).sort(), ['br0', 'lo']);
  });

  t.test('errors carry the name of the errno and the kernel\'s words', async (t) => {
    const { rtnl } = space();
    rtnl.addLink({ kind: 'bridge', name: 'br0' });
    t.throws(() => rtnl.addLink({ kind: 'bridge', name: 'br0' }), { code: 'EEXIST' });
    const host = space();
    host.rtnl.addLink({ kind: 'vxlan', name: 'x1', vni: 5, local: '10.0.0.1', port: 4789 });
    t.throws(() => host.rtnl.addLink({ kind: 'vxlan', name: 'x2', vni: 5, local: '10.0.0.1', port: 4789 }), { code: 'EEXIST', detail: /VNI/ });
    t.throws(() => rtnl.replaceRoutes([{ dst: '10.9.0.0/24', via: '10.1.1.1' }]), KernelError);
  });

  t.test('a veth\'s peer is born in another namespace, up and enslaved there', async (t) => {
    const host = space();
    const fabric = space();
    const master = fabric.rtnl.addLink({ kind: 'bridge', name: 'br0', up: true });
    host.rtnl.addLink({ kind: 'veth', name: 'wc-1', mtu: 1450, up: true, peer: { name: 'we-1', mtu: 1450, netns: fabric.netns, master, up: true } });
    t.match(fabric.rtnl.link('we-1'), { master, up: true, carrier: true, mtu: 1450 });
    fabric.rtnl.setBridgePort(fabric.rtnl.link('we-1')!.index, { learning: false, hairpin: true, neighSuppress: true });
    const detail = ip(fabric, '-d', 'link', 'show', 'we-1');
    t.match(detail, /learning off/);
    t.match(detail, /hairpin on/);
    t.match(detail, /neigh_suppress on/);
    const container = space();
    await host.rtnl.moveLink(host.rtnl.link('wc-1')!.index, container.netns, 'eth0');
    t.equal(host.rtnl.link('wc-1'), undefined);
    t.ok(container.rtnl.link('eth0'));
  });

  t.test('VXLAN: sockets stay in the host, devices live in the fabric, frames cross by static entries alone', async (t) => {
    const [a, b, fa, fb, ca, cb] = [space(), space(), space(), space(), space(), space()] as [Space, Space, Space, Space, Space, Space];
    a.rtnl.addLink({ kind: 'veth', name: 'a0', up: true, peer: { name: 'b0', netns: b.netns, up: true } });
    for (const [host, fabric, container, own, other, n] of [[a, fa, ca, '10.0.0.1', '10.0.0.2', 1], [b, fb, cb, '10.0.0.2', '10.0.0.1', 2]] as const) {
      const wire = host.rtnl.link(n === 1 ? 'a0' : 'b0')!;
      host.rtnl.addAddress(wire.index, `${own}/24`);
      host.rtnl.addAddress(wire.index, `${own}/24`);
      const br = fabric.rtnl.addLink({ kind: 'bridge', name: 'br0', up: true, mtu: 1450 });
      const vx = host.rtnl.addLink({ kind: 'vxlan', name: 'wv-1', vni: 0x800001, local: own, port: 4789, proxy: true, mtu: 1450, netns: fabric.netns, master: br, up: true });
      fabric.rtnl.setBridgePort(vx, { learning: false });
      t.match(fabric.rtnl.link('wv-1'), { index: vx, master: br, up: true, vxlan: { vni: 0x800001, port: 4789, local: own } });
      t.match(inside(host, 'ss', '-lnu'), /:4789/, 'the tunnel\'s socket is in the host');
      host.rtnl.addLink({ kind: 'veth', name: 'c', mac: `02:42:0a:14:00:0${n}`, mtu: 1450, peer: { name: 'we', netns: fabric.netns, master: br, mtu: 1450, up: true } });
      await host.rtnl.moveLink(host.rtnl.link('c')!.index, container.netns, 'eth0');
      const eth0 = container.rtnl.link('eth0')!.index;
      container.rtnl.addAddress(eth0, `10.20.0.${n}/24`);
      container.rtnl.setLink(eth0, { up: true });
      const m = 3 - n;
      fabric.rtnl.replaceFdb([{ dev: vx, mac: `02:42:0a:14:00:0${m}`, vtep: other, master: true }]);
      fabric.rtnl.replaceNeighbours([{ dev: vx, ip: `10.20.0.${m}`, mac: `02:42:0a:14:00:0${m}` }]);
      t.same(fabric.rtnl.fdb(vx), [{ dev: vx, mac: `02:42:0a:14:00:0${m}`, vtep: other, master: true }]);
      t.same(fabric.rtnl.neighbours(vx), [{ dev: vx, ip: `10.20.0.${m}`, mac: `02:42:0a:14:00:0${m}` }]);
    }
    t.match(inside(ca, 'busybox', 'ping', '-c', '2', '-W', '2', '10.20.0.2'), / 0% packet loss/);
    // An entry that is replaced points elsewhere at once; one that is deleted takes the way with it.
    const vx = fa.rtnl.link('wv-1')!.index;
    fa.rtnl.replaceFdb([{ dev: vx, mac: '02:42:0a:14:00:02', vtep: '10.0.0.9', master: true }]);
    t.same(fa.rtnl.fdb(vx).map(({ vtep }) => vtep), ['10.0.0.9'], 'replaced, not added');
    fa.rtnl.deleteFdb([{ dev: vx, mac: '02:42:0a:14:00:02', vtep: '10.0.0.9', master: true }]);
    fa.rtnl.deleteFdb([{ dev: vx, mac: '02:42:0a:14:00:02', vtep: '10.0.0.9', master: true }]);
    t.same(fa.rtnl.fdb(vx), []);
    fa.rtnl.deleteNeighbours([{ dev: vx, ip: '10.20.0.2', mac: '02:42:0a:14:00:02' }]);
    t.same(fa.rtnl.neighbours(vx), []);
  });

  t.test('routes and rules', async (t) => {
    const { rtnl } = space();
    const dev = rtnl.addLink({ kind: 'bridge', name: 'd0', up: true });
    rtnl.addAddress(dev, '10.1.0.1/24');
    rtnl.replaceRoutes([
      { dst: 'default', via: '10.1.0.254', dev }, { dst: '10.20.0.5/32', via: '10.255.0.2', dev, onlink: true, table: 1000 }, { dst: '169.254.77.2/32', dev },
    ]);
    t.match(rtnl.routes({ table: 1000 }), [{ dst: '10.20.0.5/32', via: '10.255.0.2', dev, onlink: true }]);
    t.match(rtnl.routeTo('192.0.2.1'), { dev, via: '10.1.0.254', src: '10.1.0.1', mtu: 1500 });
    rtnl.deleteRoutes([{ dst: '10.20.0.5/32', via: '10.255.0.2', dev, table: 1000 }, { dst: '10.20.0.6/32', dev, table: 1000 }]);
    t.same(rtnl.routes({ table: 1000 }), []);
    const rule = { priority: 200, table: 1000, iif: 'd0' };
    const marked = { priority: 101, table: 1101, fwmark: 0x48000001, fwmask: 0xffffffff };
    for (const each of [rule, rule, marked]) rtnl.addRule(each);
    t.same(rtnl.rules().filter(({ priority }) => priority === 200), [rule], 'entered once');
    t.same(rtnl.rules().filter(({ priority }) => priority === 101), [marked]);
    for (const each of [rule, rule, marked]) rtnl.deleteRule(each);
    t.notOk(rtnl.rules().some(({ priority }) => priority === 200 || priority === 101));
    await rtnl.deleteLink('d0');
    t.equal(rtnl.routeTo('192.0.2.1'), undefined);
  });

  t.test('10,000 forwarding entries: one bad one is named, the others are there, and a dump is complete', async (t) => {
    const host = space();
    const vx = host.rtnl.addLink({ kind: 'vxlan', name: 'x', vni: 7, local: '10.0.0.1', port: 4789 });
    const entries = Array.from({ length: 10_000 }, (_, i) => ({ dev: i === 5_000 ? 9999 : vx, mac: `02:00:00:00:${(i >> 8).toString(16).padStart(2, '0')}:${(i & 255).toString(16).padStart(2, '0')}`, vtep: '10.0.0.2' }));
    t.throws(() => host.rtnl.replaceFdb(entries), { code: 'ENODEV', message: /5001 of 10000/ });
    t.equal(host.rtnl.fdb(vx).length, 9_999);
  });

  t.test('what happens is told, and losses are', async (t) => {
    const { rtnl } = space();
    const events: RtnlEvent[] = [];
    const stop = rtnl.watch((event) => {
      events.push(event);
      if (event.type === 'link' && event.link.name === 'v0' && event.gone) throw new Error('a handler that throws does not end the process');
    });
    t.teardown(stop);
    rtnl.addLink({ kind: 'veth', name: 'v0', up: true, peer: { name: 'v1', up: true } });
    const has = async (found: (event: RtnlEvent) => boolean): Promise<boolean> => {
      for (let i = 0; i < 500 && !events.some(found); i++) await new Promise((resolve) => setTimeout(resolve, 10));
      return events.some(found);
    };
    t.ok(await has((event) => event.type === 'link' && event.link.name === 'v0' && event.link.carrier), 'carrier');
    await rtnl.deleteLink('v0');
    t.ok(await has((event) => event.type === 'link' && event.link.name === 'v0' && event.gone), 'gone');
    rtnl.addLink({ kind: 'bridge', name: 'd0', up: true });
    t.ok(await has((event) => event.type === 'link' && event.link.name === 'd0'), 'goes on after a handler threw');
    // More events in one turn than the socket holds: unhardened, this aborts the process.
    const dev = rtnl.link('d0')!.index;
    const routes = Array.from({ length: 60_000 }, (_, i) => ({ dst: `10.${i >> 16}.${(i >> 8) & 255}.${i & 255}/32`, dev }));
    for (let round = 0; round < 2; round++) {
      rtnl.replaceRoutes(routes);
      rtnl.deleteRoutes(routes);
    }
    t.ok(await has((event) => event.type === 'lost'), 'lost');
  });

  t.test('sockets are given back', async (t) => {
    const { netns } = space();
    const before = readdirSync('/proc/self/fd').length;
    for (let i = 0; i < 200; i++) openRtnl(netns).close();
    t.equal(readdirSync('/proc/self/fd').length, before);
  });
});
