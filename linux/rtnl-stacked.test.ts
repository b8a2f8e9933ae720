//   a ══ b        two macvlans on a, and what this kernel has of the rest
import { test } from 'tap';
import { KernelError, type LinkSpec, type MacvlanMode, type Rtnl } from './types.ts';
import { space } from './testing.ts';

/** Whether this kernel was built with a kind of link. */
function has(rtnl: Rtnl, spec: LinkSpec): boolean {
  try {
    rtnl.addLink(spec);
    return true;
  } catch (error) {
    if (error instanceof KernelError && error.code === 'EOPNOTSUPP') return false;
    throw error;
  }
}

test('macvlans stand on a link, in each mode, and go with it', async (t) => {
  const { rtnl, run } = space(t);
  const parent = rtnl.addLink({ kind: 'veth', name: 'a', mtu: 1400, up: true, peer: { name: 'b', up: true } });
  for (const mode of ['bridge', 'private', 'vepa'] satisfies MacvlanMode[]) {
    const index = rtnl.addLink({ kind: 'macvlan', name: `m-${mode}`, parent, mode, mac: '02:00:00:00:00:07' });
    t.match(rtnl.link(index), { kind: 'macvlan', parent, macvlan: mode, mac: '02:00:00:00:00:07', mtu: 1400 });
    t.match(run('ip', '-d', 'link', 'show', `m-${mode}`), `macvlan mode ${mode}`);
  }
  t.throws(() => rtnl.addLink({ kind: 'macvlan', name: 'm-all', parent, mode: 'passthru' }), { code: 'EINVAL' }, 'it would have to be alone');
  const other = rtnl.link('b')!.index;
  rtnl.addLink({ kind: 'macvlan', name: 'm-all', parent: other, mode: 'passthru' });
  t.equal(rtnl.link('m-all')!.macvlan, 'passthru');
  const bridge = rtnl.addLink({ kind: 'bridge', name: 'br0' });
  const port = rtnl.addLink({ kind: 'veth', name: 'p', master: bridge, peer: { name: 'q' } });
  t.throws(() => rtnl.addLink({ kind: 'macvlan', name: 'm-port', parent: port, mode: 'bridge' }), { code: 'EBUSY' });
  t.equal(rtnl.link('br0')!.parent, undefined);
  await rtnl.deleteLink(parent);
  t.same(rtnl.links().filter(({ kind }) => kind === 'macvlan'), []);
});

test('a macvlan moves, and what its parent was is not mistaken for a link there', async (t) => {
  const [host, container] = [space(t), space(t)];
  const parent = host.rtnl.addLink({ kind: 'veth', name: 'a', up: true, peer: { name: 'b', up: true } });
  const index = host.rtnl.addLink({ kind: 'macvlan', name: 'm', parent, mode: 'bridge' });
  await host.rtnl.moveLink(index, container.netns, 'eth0');
  t.match(container.rtnl.link('eth0'), { kind: 'macvlan', parent });
  t.equal(host.rtnl.link('m'), undefined);
});

test('ipvlans stand on a link, with its MAC address, and have one mode', (t) => {
  const [host, container] = [space(t), space(t)];
  const { rtnl, run } = host;
  const parent = rtnl.addLink({ kind: 'veth', name: 'a', mtu: 1400, up: true, peer: { name: 'b', up: true } });
  const made = has(rtnl, { kind: 'ipvlan', name: 'i-1', parent, mode: 'l2', flag: 'bridge' });
  t.equal(rtnl.hasLinkKind('ipvlan'), made, 'whether the kernel has them is known before one is made');
  t.test('ipvlans of a link', { skip: !made && 'this kernel was built without CONFIG_IPVLAN' }, async (t) => {
    const { mac } = rtnl.link('a')!;
    t.match(rtnl.link('i-1'), { kind: 'ipvlan', parent, ipvlan: { mode: 'l2', flag: 'bridge' }, mac, mtu: 1400 });
    t.match(run('ip', '-d', 'link', 'show', 'i-1'), 'ipvlan  mode l2 bridge');
    const index = rtnl.addLink({ kind: 'ipvlan', name: 'i-2', parent, mode: 'l3s', flag: 'private' });
    t.match(rtnl.link(index), { ipvlan: { mode: 'l3s', flag: 'private' }, mac });
    t.match(rtnl.link('i-1'), { ipvlan: { mode: 'l3s', flag: 'private' } }, 'the last one speaks for all');
    t.throws(() => rtnl.setLink(index, { mac: '02:00:00:00:00:07' }), { code: 'EOPNOTSUPP' }, 'none has a MAC address of its own');
    t.throws(() => rtnl.addLink({ kind: 'macvlan', name: 'm', parent, mode: 'bridge' }), { code: 'EBUSY' }, 'nor the other kind beside it');
    await rtnl.moveLink(index, container.netns, 'eth0');
    t.match(container.rtnl.link('eth0'), { kind: 'ipvlan', parent, ipvlan: { mode: 'l3s', flag: 'private' } });
    await rtnl.deleteLink(parent);
    t.equal(container.rtnl.link('eth0'), undefined, 'all go with it');
  });
  t.end();
});

test('kinds that a kernel has', (t) => {
  const { rtnl } = space(t);
  const before = rtnl.links();
  t.ok(rtnl.hasLinkKind('macvlan'));
  t.same(rtnl.links(), before, 'nothing is made');
  t.end();
});

test('802.1Q', (t) => {
  const { rtnl, run } = space(t);
  const parent = rtnl.addLink({ kind: 'veth', name: 'a', up: true, peer: { name: 'b', up: true } });
  const made = has(rtnl, { kind: 'vlan', name: 'a.100', parent, vlan: 100, group: 5, up: true });
  t.test('a VLAN of a link', { skip: !made && 'this kernel was built without CONFIG_VLAN_8021Q' }, (t) => {
    t.match(rtnl.link('a.100'), { kind: 'vlan', parent, vlan: 100, group: 5, up: true });
    t.match(run('ip', '-d', 'link', 'show', 'a.100'), 'vlan protocol 802.1Q id 100');
    t.end();
  });
  t.end();
});

test('links that lose what is sent through them', (t) => {
  const { rtnl } = space(t);
  const kinds = (['dummy', 'ifb'] as const).filter((kind) => has(rtnl, { kind, name: kind, up: true }));
  t.ok(kinds.length > 0, `this kernel has ${kinds.join(' and ')}`);
  for (const kind of kinds) t.match(rtnl.link(kind), { kind, carrier: true });
  t.end();
});
