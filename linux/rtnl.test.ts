//   host a                 one wire                 host b
//   [fabric fa]  br--vxlan    a0 ======= b0    vxlan--br  [fabric fb]
//        |                                                    |
//     veth ca                                              veth cb
import { test } from 'tap';
import { withRtnl } from './rtnl.ts';
import { space } from './testing.ts';

const mac = (n: number): string => `02:42:00:00:${(n >> 8).toString(16).padStart(2, '0')}:${(n & 255).toString(16).padStart(2, '0')}`;

test('links are made, found, changed and deleted', async (t) => {
  const { rtnl, run } = space(t);
  const bridge = rtnl.addLink({ kind: 'bridge', name: 'br0', mtu: 1400, mac: '02:00:00:00:00:01', group: 7, ageingSeconds: 77, up: true });
  t.match(rtnl.link('br0'), { index: bridge, kind: 'bridge', mtu: 1400, mac: '02:00:00:00:00:01', group: 7, up: true });
  t.same(rtnl.link(bridge), rtnl.link('br0'));
  t.match(run('ip', '-d', 'link', 'show', 'br0'), /ageing_time 7700/);
  const v0 = rtnl.addLink({ kind: 'veth', name: 'v0', master: bridge, up: true, peer: { name: 'v1', mac: mac(9), mtu: 1300, up: true } });
  t.equal(rtnl.link('v0')!.master, bridge);
  t.ok(rtnl.link('v0')!.carrier, 'both ends are up');
  t.match(rtnl.link('v1'), { mac: mac(9), mtu: 1300 });
  rtnl.setLink(rtnl.link('v1')!.index, { up: false });
  t.notOk(rtnl.link('v0')!.carrier);
  rtnl.setLink(v0, { name: 'v2', master: null, mtu: 1200, mac: mac(8), up: false, group: 3 });
  t.match(rtnl.link(v0), { name: 'v2', master: undefined, mtu: 1200, mac: mac(8), up: false, group: 3 });
  await rtnl.deleteLink('v2');
  await rtnl.deleteLink('v2');
  await rtnl.deleteLink(v0);
  t.equal(rtnl.link('v1'), undefined, 'a veth goes with its peer');
  t.same(rtnl.links().map(({ name }) => name).sort(), ['br0', 'lo']);
});

test('changes made together come in their order, all of them, and the first failure is told', (t) => {
  const { rtnl } = space(t);
  const bridge = rtnl.addLink({ kind: 'bridge', name: 'br0' });
  const v0 = rtnl.addLink({ kind: 'veth', name: 'v0', peer: { name: 'v1' } });
  rtnl.together(() => {
    rtnl.setLink(v0, { master: bridge });
    rtnl.addPortMac(v0, mac(1));
    t.equal(rtnl.link(v0)!.master, undefined, 'nothing was sent yet');
  });
  t.equal(rtnl.link(v0)!.master, bridge);
  t.same(rtnl.portMacs(v0), [mac(1)]);
  t.throws(() => rtnl.together(() => {
    rtnl.setLink(99_999, { up: true });
    rtnl.setBridgePort(99_998, { learning: false });
    rtnl.setLink(v0, { mtu: 1300 });
  }), { code: 'ENODEV', message: /change link 99999/ });
  t.equal(rtnl.link(v0)!.mtu, 1300, 'those behind it were made');
  t.throws(() => rtnl.together(() => {
    throw new Error('before anything was sent');
  }), { message: 'before anything was sent' });
  rtnl.setLink(v0, { mtu: 1400 });
  t.equal(rtnl.link(v0)!.mtu, 1400, 'and single ones go on being sent at once');
  t.end();
});

test('errors carry the name of the errno and the kernel\'s own words', async (t) => {
  const { rtnl } = space(t);
  rtnl.addLink({ kind: 'bridge', name: 'br0' });
  t.throws(() => rtnl.addLink({ kind: 'bridge', name: 'br0' }), { name: 'KernelError', code: 'EEXIST' });
  const tunnel = { kind: 'vxlan', vni: 5, local: '10.0.0.1', port: 4789 } as const;
  rtnl.addLink({ ...tunnel, name: 'x1' });
  t.throws(() => rtnl.addLink({ ...tunnel, name: 'x2' }), { code: 'EEXIST', detail: /VNI/, message: /add vxlan link x2: EEXIST \(.*VNI/ });
  t.throws(() => rtnl.replaceRoutes([{ dst: '10.9.0.0/24', via: '10.1.1.1' }]), { code: 'ENETUNREACH', detail: /gateway/ });
  t.throws(() => rtnl.setLink(99_999, { up: true }), { code: 'ENODEV' });
  await t.rejects(rtnl.deleteLink('lo'), { code: 'EOPNOTSUPP' });
});

test('a veth\'s peer is born in another namespace, and is enslaved and up there', async (t) => {
  const [host, fabric, container] = [space(t), space(t), space(t)];
  const master = fabric.rtnl.addLink({ kind: 'bridge', name: 'br0', up: true });
  const index = host.rtnl.addLink({ kind: 'veth', name: 'wc-1', mtu: 1450, up: true, peer: { name: 'we-1', mtu: 1450, netns: fabric.netns, master, up: true } });
  t.equal(host.rtnl.link('we-1'), undefined);
  const port = fabric.rtnl.link('we-1')!;
  t.match(port, { master, up: true, carrier: true, mtu: 1450 });

  fabric.rtnl.setBridgePort(port.index, { learning: false, hairpin: true, neighSuppress: true, isolated: true, flood: false });
  const set = fabric.run('ip', '-d', 'link', 'show', 'we-1');
  for (const [end, shown] of [['we-1', set], ['wc-1', host.run('ip', '-d', 'link', 'show', 'wc-1')]] as const) t.match(shown, /numtxqueues 1 .*numrxqueues 1 /, end);
  for (const flag of ['learning off', 'hairpin on', 'neigh_suppress on', 'isolated on', ' flood off', 'bcast_flood on']) t.match(set, flag);
  fabric.rtnl.setBridgePort(port.index, { hairpin: false });
  t.match(fabric.run('ip', '-d', 'link', 'show', 'we-1'), /hairpin off.*learning off/, 'what is not named is left alone');

  const name = 'eth0';
  await host.rtnl.moveLink(index, container.netns, name);
  t.equal(host.rtnl.link(index), undefined);
  t.match(container.rtnl.link(name), { kind: 'veth', mtu: 1450 });
});

test('a pair whose peer cannot be finished is not left behind', async (t) => {
  const [host, fabric] = [space(t), space(t)];
  const peer = { name: 'we-1', netns: fabric.netns, master: 99_999, up: true };
  t.throws(() => host.rtnl.addLink({ kind: 'veth', name: 'wc-1', peer }), { code: 'EINVAL' });
  t.same([...host.rtnl.links(), ...fabric.rtnl.links()].map(({ name }) => name), ['lo', 'lo']);
});

test('VXLAN: the socket stays in the host, the device lives in the fabric, frames cross by static entries alone', async (t) => {
  const [a, b] = [{ host: space(t), fabric: space(t), container: space(t) }, { host: space(t), fabric: space(t), container: space(t) }];
  a.host.rtnl.addLink({ kind: 'veth', name: 'wire', up: true, peer: { name: 'wire', netns: b.host.netns, up: true } });
  for (const [{ host, fabric, container }, own, other] of [[a, 1, 2], [b, 2, 1]] as const) {
    host.rtnl.addAddress(host.rtnl.link('wire')!.index, `10.0.0.${own}/24`);
    const br = fabric.rtnl.addLink({ kind: 'bridge', name: 'br0', up: true, mtu: 1450 });
    const spec = { kind: 'vxlan', name: 'wv-1', vni: 0x800001, local: `10.0.0.${own}`, port: 4789, proxy: true, mtu: 1450, netns: fabric.netns, master: br, up: true } as const;
    const dev = host.rtnl.addLink(spec);
    t.match(fabric.rtnl.link('wv-1'), { index: dev, master: br, up: true, mtu: 1450, vxlan: { vni: 0x800001, port: 4789, local: `10.0.0.${own}` } });
    t.match(host.run('ss', '-lnu'), /:4789/);
    t.notMatch(fabric.run('ss', '-lnu'), /:4789/);
    t.match(fabric.run('ip', '-d', 'link', 'show', 'wv-1'), /nolearning proxy/);
    fabric.rtnl.setBridgePort(dev, { learning: false, flood: false });

    const inside = host.rtnl.addLink({ kind: 'veth', name: 'c', mac: mac(own), mtu: 1450, peer: { name: 'we', netns: fabric.netns, master: br, mtu: 1450, up: true } });
    await host.rtnl.moveLink(inside, container.netns, 'eth0');
    const eth0 = container.rtnl.link('eth0')!.index;
    container.rtnl.addAddress(eth0, `10.20.0.${own}/24`);
    container.rtnl.setLink(eth0, { up: true });

    const entry = { dev, mac: mac(other), vtep: `10.0.0.${other}`, master: true };
    fabric.rtnl.replaceFdb([entry]);
    t.same(fabric.rtnl.fdb(dev), [entry]);
    const neighbour = { dev, ip: `10.20.0.${other}`, mac: mac(other) };
    fabric.rtnl.replaceNeighbours([neighbour]);
    t.same(fabric.rtnl.neighbours(dev), [neighbour]);
    const table = fabric.run('bridge', 'fdb', 'show', 'dev', 'wv-1').split('\n').filter((line) => line.startsWith(mac(other)));
    t.equal(table.length, 2);
    for (const line of table) t.match(line, /static/, 'a permanent entry of a bridge swallows what is sent to it');
  }
  t.match(a.container.run('busybox', 'ping', '-c', '2', '-W', '2', '10.20.0.2'), / 0% packet loss/);
});

test('forwarding entries are replaced, and what points elsewhere by now is not deleted', async (t) => {
  const { rtnl, run } = space(t);
  const master = rtnl.addLink({ kind: 'bridge', name: 'br0', up: true });
  const dev = rtnl.addLink({ kind: 'vxlan', name: 'x', vni: 7, local: '10.0.0.1', port: 4789, master, up: true });
  const entry = { dev, mac: mac(1), vtep: '10.0.0.2', master: true };
  const moved = { ...entry, vtep: '10.0.0.3' };
  rtnl.replaceFdb([entry]);
  rtnl.replaceFdb([moved]);
  t.same(rtnl.fdb(dev), [moved], 'replaced, not added');
  rtnl.deleteFdb([entry]);
  t.same(rtnl.fdb(dev), [moved], 'in both tables');
  run('bridge', 'fdb', 'del', mac(1), 'dev', 'x', 'self', 'dst', '10.0.0.3');
  rtnl.deleteFdb([moved]);
  t.notMatch(run('bridge', 'fdb', 'show'), mac(1), 'what an interrupted deletion left in the bridge goes too');
  rtnl.deleteFdb([moved]);

  rtnl.replaceFdb([moved]);
  run('bridge', 'fdb', 'replace', mac(1), 'dev', 'x', 'master', 'permanent');
  t.same(rtnl.fdb(dev), [{ ...moved, master: false }], 'a permanent entry of the bridge is no entry');
  rtnl.replaceFdb([moved]);
  t.same(rtnl.fdb(dev), [moved], 'and is repaired');
  rtnl.replaceFdb([{ dev, mac: mac(2), vtep: '10.0.0.2' }]);
  t.match(rtnl.fdb(dev).find((each) => each.mac === mac(2)), { master: false });
  rtnl.setLink(dev, { master: null });
  rtnl.deleteFdb(rtnl.fdb(dev).map((each) => ({ ...each, master: true })));
  t.same(rtnl.fdb(dev), [], 'also from a device that is in no bridge any more');
  rtnl.deleteFdb([{ ...entry, dev: 99_999 }]);
  t.same(rtnl.fdb(99_999), []);
});

test('10,000 forwarding entries: bad ones are named, the others entered, and a dump is complete', async (t) => {
  const { rtnl } = space(t);
  const dev = rtnl.addLink({ kind: 'vxlan', name: 'x', vni: 7, local: '10.0.0.1', port: 4789 });
  const entries = Array.from({ length: 10_000 }, (_, i) => ({ dev: i === 5_000 || i === 9_999 ? 99_999 : dev, mac: mac(i), vtep: '10.0.0.2' }));
  t.throws(() => rtnl.replaceFdb(entries), { code: 'ENODEV', message: /02:42:00:00:13:88.*5001 of 10000, and 1 others/ });
  t.equal(new Set(rtnl.fdb(dev).map((entry) => entry.mac)).size, 9_998);
  rtnl.deleteFdb(entries);
  t.same(rtnl.fdb(dev), []);
});

test('neighbours: permanent ones, of one link, IPv4 and IPv6', async (t) => {
  const { rtnl } = space(t);
  const [dev, other] = ['a', 'b'].map((name) => rtnl.addLink({ kind: 'bridge', name, up: true })) as [number, number];
  const entries = ['10.0.0.2', 'fd00::2'].map((ip) => ({ dev, ip, mac: mac(2) }));
  rtnl.replaceNeighbours([...entries, { dev: other, ip: '10.0.0.3', mac: mac(3) }]);
  t.same(rtnl.neighbours(dev), entries);
  const changed = entries.map((entry) => ({ ...entry, mac: mac(4) }));
  rtnl.replaceNeighbours(changed);
  t.same(rtnl.neighbours(dev), changed);
  rtnl.deleteNeighbours([...changed, ...changed]);
  t.same(rtnl.neighbours(dev), []);
  t.equal(rtnl.neighbours(other).length, 1);
});

test('addresses', async (t) => {
  const { rtnl } = space(t);
  const [dev, other] = ['a', 'b'].map((name) => rtnl.addLink({ kind: 'bridge', name })) as [number, number];
  const addresses = ['10.1.0.1/24', 'fd00::1/64'];
  for (const address of [...addresses, ...addresses]) rtnl.addAddress(dev, address);
  rtnl.addAddress(other, '10.2.0.1/24');
  t.same(rtnl.addresses(dev).map(({ address }) => address), addresses);
  t.ok(rtnl.addresses().some(({ index, address }) => index === other && address === '10.2.0.1/24'));
  for (const address of [...addresses, ...addresses]) rtnl.deleteAddress(dev, address);
  t.same(rtnl.addresses(dev), []);
  t.same(rtnl.addresses(99_999), []);
});

test('routes and rules', async (t) => {
  const { rtnl, run } = space(t);
  rtnl.addLink({ kind: 'veth', name: 'd0', mtu: 1400, up: true, peer: { name: 'd1', up: true } });
  const dev = rtnl.link('d0')!.index;
  rtnl.addAddress(dev, '10.1.0.1/24');
  rtnl.addAddress(dev, 'fd01::1/64');
  const remote = { dst: '10.20.0.5/32', via: '10.255.0.2', dev, onlink: true, table: 1000 };
  rtnl.replaceRoutes([{ dst: 'default', via: '10.1.0.254', dev }, remote, remote, { dst: '169.254.77.2/32', dev }, { dst: 'fd02::/64', via: 'fd01::2', dev }]);
  t.match(rtnl.routes({ table: 1000 }), [remote]);
  rtnl.replaceRoutes([{ ...remote, via: '10.255.0.3' }]);
  t.same(rtnl.routes({ table: 1000 }).map(({ via }) => via), ['10.255.0.3'], 'replaced');
  t.match(rtnl.routes({ table: 254, dev }).find(({ dst }) => dst === 'fd02::/64'), { via: 'fd01::2', dev, table: 254 });
  t.match(rtnl.routes({ dev }).find(({ dst }) => dst === 'default'), { via: '10.1.0.254', table: 254 });
  t.same(rtnl.routes({ table: 4711 }), []);
  t.same(rtnl.routeTo('192.0.2.1'), { dev, via: '10.1.0.254', src: '10.1.0.1', mtu: 1400 });
  t.match(rtnl.routeTo('fd02::9'), { dev, via: 'fd01::2' });

  run('ip', 'route', 'add', '192.0.2.0/24', 'via', '10.1.0.9', 'mtu', '1280');
  t.match(rtnl.routeTo('192.0.2.1'), { via: '10.1.0.9', mtu: 1280 });
  run('ip', 'route', 'add', 'unreachable', '198.51.100.0/24');
  run('ip', 'route', 'add', 'blackhole', '198.51.101.0/24');
  for (const ip of ['198.51.100.1', '198.51.101.1', 'fd09::1']) t.equal(rtnl.routeTo(ip), undefined);
  run('ip', 'route', 'add', '203.0.113.0/24', 'nexthop', 'via', '10.1.0.7', 'nexthop', 'via', 'inet6', 'fd01::7', 'dev', 'd0');
  t.match(rtnl.routes({ dev }).filter(({ dst }) => dst === '203.0.113.0/24'), [{ via: '10.1.0.7', dev }, { via: 'fd01::7', dev }]);

  rtnl.deleteRoutes([{ dst: '10.20.0.5/32', table: 1000 }, { dst: '10.20.0.6/32', dev, table: 1000 }, { dst: 'default' }]);
  t.same(rtnl.routes({ table: 1000 }), []);
  t.notOk(rtnl.routes().some(({ dst }) => dst === 'default'));

  const rule = { priority: 200, table: 1000, iif: 'd0' };
  const marked = { priority: 101, table: 1101, fwmark: 0x49000000, fwmask: 0xff000000 };
  for (const each of [rule, rule, marked]) rtnl.addRule(each);
  t.same(rtnl.rules().filter(({ priority }) => priority === 200), [rule], 'entered once');
  t.same(rtnl.rules().filter(({ priority }) => priority === 101), [marked]);
  for (const each of [rule, rule, marked]) rtnl.deleteRule(each);
  const six = { family: 6 as const, priority: 200, table: 1000, iif: 'lo' };
  rtnl.addRule(six);
  t.same(rtnl.rules().filter(({ priority }) => priority === 200), [six]);
  rtnl.deleteRule(six);
  t.same(rtnl.rules().map(({ family = 4, priority }) => `${family} ${priority}`), ['4 0', '4 32766', '4 32767', '6 0', '6 32766']);
});

test('a visit to a namespace leaves no socket there, also when its work fails', (t) => {
  const { netns, run } = space(t);
  const sockets = (): number => run('cat', '/proc/net/netlink').trim().split('\n').length;
  const before = sockets();
  let during = 0;
  t.equal(withRtnl(netns, (rtnl) => {
    during = sockets();
    return rtnl.links().length;
  }), 1);
  t.ok(during > before);
  t.equal(sockets(), before);
  t.throws(() => withRtnl(netns, (rtnl) => rtnl.setLink(999, { up: true })), { code: 'ENODEV' });
  t.equal(sockets(), before);
  t.end();
});
