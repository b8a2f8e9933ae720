//        switch                                   192.168.50.0/24, one MAC address at each of its ports
//   ┌───────┼────────┬──────────┐
//  host a  host b            printer 192.168.50.9, a machine nobody told us of; 10.60.0.0/24 is behind host a for it
//   │ │ │    │
//  a1 a2 h   b1      containers; h: the host's own way to them
import { setTimeout as delay } from 'node:timers/promises';
import { test, type Test } from 'tap';
import { systemClock } from '../../base/clock.ts';
import { silentLogger } from '../../base/log.ts';
import type { Network } from '../../cnm/model.ts';
import { IPVLAN_NAMES } from '../names.ts';
import { createMacvlanDriver } from '../macvlan/macvlan.ts';
import { Lan, LanHost } from '../stacked/testbed.ts';
import { Space, capture, endpoint, network, until } from '../testbed.ts';
import { createIpvlanDriver } from './ipvlan.ts';

const PRINTER = '192.168.50.9';
const LACKING = 'this kernel was built without CONFIG_IPVLAN';

const lan = (name: string, options: Record<string, string> = {}, more: Partial<Network> = {}): Network =>
  network(name, 'ipvlan', '192.168.50.0/24', { options: { parent: 'eth1', 'weft.probe_ms': '60', ...options }, scope: 'cluster', ...more });
const routed = (name: string, mode: string, options: Record<string, string> = {}): Network =>
  ({ ...lan(name, { ipvlan_mode: mode, ...options }), subnets: [{ subnet: '10.60.0.0/24', gateway: '10.60.0.1' }] });

const isThere = ((): boolean => {
  const probe = new Space('probe');
  try {
    return probe.rtnl.hasLinkKind('ipvlan');
  } finally {
    probe.remove();
  }
})();

/** weftd's timers keep no process alive, its sockets do. */
function stayAlive(t: Test): void {
  const alive = setInterval(() => {}, 1_000);
  t.teardown(() => clearInterval(alive));
}

test('a kernel without such links', { skip: isThere && 'this kernel has them' }, async (t) => {
  const segment = new Lan();
  t.teardown(() => segment.remove());
  stayAlive(t);
  const a = new LanHost({ lan: segment, name: 'a', create: createIpvlanDriver, ownAddresses: [PRINTER, PRINTER] });
  t.teardown(() => a.driver.close());
  t.throws(() => a.driver.validate(lan('web')), { code: 'WEFT-LINK-KIND', message: /kernel of node a has no ipvlan links; .*modprobe ipvlan.*CONFIG_IPVLAN.*weft-macvlan/ });
  const made = lan('web');
  await t.rejects(a.driver.createEndpoint(made, endpoint('c1', made, '192.168.50.101/24')), { code: 'WEFT-LINK-KIND' }, 'nor do containers start where the network came from another host');
  t.same(await a.driver.purge(), []);
  t.equal(a.space.snapshot(), a.before);
});

test('ipvlan networks', { skip: !isThere && LACKING }, async (t) => {
  const segment = new Lan();
  t.teardown(() => segment.remove());
  stayAlive(t);
  const printer = segment.space('printer');
  segment.plug(printer, 'p-printer', 'eth0', `${PRINTER}/24`);
  const a = new LanHost({ lan: segment, name: 'a', create: createIpvlanDriver, ownAddresses: [PRINTER, '192.168.50.250'], address: '192.168.50.1/24' });
  const b = new LanHost({ lan: segment, name: 'b', create: createIpvlanDriver, ownAddresses: [PRINTER, '192.168.50.251'] });
  t.teardown(async () => {
    for (const host of [a, b]) {
      await host.driver.purge();
      host.driver.close();
    }
  });
  const macOf = (host: LanHost): string => host.space.rtnl.link('eth1')!.mac;

  await t.test('l2: machines of the LAN, with the MAC address of their host', async (t) => {
    const [onA, onB] = [await a.create(lan('web')), await b.create(lan('web'))];
    t.equal(a.space.snapshot(), a.before, 'nothing is built before it is used');
    const [a1, a2, b1] = [await a.attach('a1', onA, '192.168.50.101'), await a.attach('a2', onA, '192.168.50.102'), await b.attach('b1', onB, '192.168.50.111')];
    t.match(a1.space.rtnl.link('eth0'), { ipvlan: { mode: 'l2', flag: 'bridge' }, mac: macOf(a), mtu: 1500, up: true, carrier: true });
    t.match(a1.space.rtnl.routes().find(({ dst }) => dst === 'default'), { via: '192.168.50.1' });
    t.ok(a1.space.pings(a2.ip), 'the same host');
    t.ok(a1.space.pings(b1.ip) && b1.space.pings(a1.ip), 'another host');
    t.ok(a1.space.pings(PRINTER) && printer.pings(a1.ip), 'other machines');
    t.match(printer.run('ip', 'neigh', 'show', a1.ip), macOf(a));
    t.notOk(a.space.pings(a1.ip), 'its own host has no way to it');
    t.ok(await until(() => a.up.size === 2 && b.up.size === 1), 'that they work is noticed');
    t.same(await a.repair(), [], 'nothing is wrong');

    await t.rejects(a.attach('thief', onA, PRINTER), { code: 'WEFT-ADDRESS-ON-LAN', message: new RegExp(`${PRINTER} is in use.*eth1.*${printer.rtnl.link('eth0')!.mac}`) });
    await t.rejects(a.attach('thief', onA, b1.ip), { code: 'WEFT-ADDRESS-ON-LAN', message: new RegExp(macOf(b)) }, 'one of a container of another host');
    await t.rejects(a.attach('thief', onA, '192.168.50.1'), { code: 'WEFT-ADDRESS-ON-LAN', message: /eth1 of this host/ });

    const stop = await capture(printer, 'eth0', 'arp');
    const late = await a.attach('late', onA, '192.168.50.120');
    await until(() => a.up.has(late.endpoint.id));
    await delay(2_100);
    t.equal((await stop()).split('\n').filter((line) => /who-has 192\.168\.50\.120 (\(.*\) )?tell 192\.168\.50\.120/.test(line)).length, 2, 'an address is announced twice when it is there');
    await a.detach(late);
    t.notOk(late.space.rtnl.link('eth0'), 'a link goes, wherever it is');

    a.driver.close();
    t.ok(a1.space.pings(b1.ip), 'traffic does not need weftd');
    a.up.clear();
    a.start();
    t.same(await a.repair(), [], 'nothing has to be mended when it returns');
    t.equal(a.up.size, 2, 'what works is known again');
    for (const each of [a1, a2]) await a.detach(each);
    await b.detach(b1);
    await a.delete(onA);
    await b.delete(onB);
    for (const host of [a, b]) t.equal(host.space.snapshot(), host.before, `nothing is left on ${host.name}`);
  });

  await t.test('the host reaches its own containers, and they it; what is broken is mended', async (t) => {
    const web = await a.create(lan('web', { 'weft.host_access': 'true' }));
    const a1 = await a.attach('a1', web, '192.168.50.101');
    t.ok(a.space.pings(a1.ip));
    t.ok(a1.space.pings(a.ownAddress), 'by its address on the network');
    t.ok(a1.space.pings('192.168.50.1'), 'by its address on the LAN');
    t.ok(a.space.pings(PRINTER), 'all others as before');
    const shim = IPVLAN_NAMES.hostAccess(web.id);
    const cases: [string, string[], RegExp][] = [
      ['the host\'s link gone', ['ip', 'link', 'del', shim], /wih-.* was missing/],
      ['down', ['ip', 'link', 'set', shim, 'down'], /another up/],
      ['its address', ['ip', 'address', 'del', `${a.ownAddress}/32`, 'dev', shim], /address 192\.168\.50\.250\/32 was missing/],
      ['a route', ['ip', 'route', 'del', a1.ip, 'dev', shim], /1 routes were missing/],
      ['a link of nobody', ['ip', 'link', 'add', 'wi-00000000000', 'link', 'eth1', 'type', 'ipvlan', 'mode', 'l2'], /wi-0.* belonged to nothing/],
    ];
    for (const [name, breakIt, words] of cases) {
      a.space.run(...breakIt);
      const found = await a.repair();
      t.ok(found.some((what) => words.test(what)), `${name}: ${found.join('; ')}`);
      t.same(await a.repair(), [], `${name}: nothing is left to mend`);
    }
    t.ok(a.space.pings(a1.ip));
    await a.detach(a1);
    t.notMatch(a.space.run('ip', 'route'), 'wih-', 'the last container takes its route along');
    await a.delete(web);
    t.equal(a.space.snapshot(), a.before);
  });

  for (const mode of ['l3', 'l3s'] as const) {
    await t.test(`${mode}: by the host's routes`, async (t) => {
      printer.run('ip', 'route', 'replace', '10.60.0.0/24', 'via', '192.168.50.1');
      const web = await a.create(routed('web', mode));
      const [c1, c2] = [await a.attach('c1', web, '10.60.0.11'), await a.attach('c2', web, '10.60.0.12')];
      t.match(c1.space.rtnl.link('eth0'), { ipvlan: { mode, flag: 'bridge' }, mac: macOf(a) });
      t.match(c1.space.run('ip', 'route'), /^default dev eth0 .*scope link/m, 'out by the link, without a gateway');
      t.ok(c1.space.pings(c2.ip), 'each other');
      t.ok(c1.space.pings(PRINTER), 'the LAN, which knows the way back');
      t.ok(printer.pings(c1.ip), 'and the other way round');
      t.ok(await until(() => a.up.has(c1.endpoint.id)));
      const inner = await a.create({ ...routed('inner', mode), internal: true });
      const c3 = await a.attach('c3', inner, '10.60.0.13');
      t.notMatch(c3.space.run('ip', 'route'), 'default', 'an internal network has no way out');
      t.same(await a.repair(), []);
      for (const each of [c1, c2, c3]) await a.detach(each);
      for (const each of [web, inner]) await a.delete(each);
      t.equal(a.space.snapshot(), a.before);
    });
  }

  await t.test('IPv6 in l2 and l3', async (t) => {
    printer.run('ip', 'address', 'add', 'fd00:50::9/64', 'dev', 'eth0', 'nodad');
    const six = { subnet: 'fd00:50::/64', gateway: 'fd00:50::1' };
    const near = await a.create(lan('near', {}, { subnets: [{ subnet: '192.168.50.0/24', gateway: '192.168.50.1' }, six] }));
    const dual = await a.attach('dual', near, '192.168.50.101', { addressIpv6: 'fd00:50::101/64' });
    t.ok(dual.space.pings('fd00:50::9') && printer.pings('fd00:50::101'));
    t.match(dual.space.run('ip', '-6', 'route'), /^default via fd00:50::1 /m);
    await t.rejects(a.attach('thief', near, '192.168.50.102', { addressIpv6: 'fd00:50::9/64' }), { code: 'WEFT-ADDRESS-ON-LAN', message: /fd00:50::9/ });
    await a.detach(dual);
    await a.delete(near);
    const far = await a.create({ ...routed('far', 'l3'), subnets: [{ subnet: 'fd00:60::/64', gateway: 'fd00:60::1' }] });
    const [f1, f2] = [await a.attach('f1', far, 'fd00:60::11'), await a.attach('f2', far, 'fd00:60::12')];
    t.ok(f1.space.pings(f2.ip));
    t.match(f1.space.run('ip', '-6', 'route'), /^default dev eth0 /m, 'out by the link, without a gateway');
    t.notMatch(f1.space.run('ip', '-4', 'route'), 'default', 'and of no family that it has no address of');
    for (const each of [f1, f2]) await a.detach(each);
    await a.delete(far);
    t.equal(a.space.snapshot(), a.before);
  });

  await t.test('flags', async (t) => {
    const shut = await a.create(lan('shut', { ipvlan_flag: 'private' }));
    const [p1, p2] = [await a.attach('p1', shut, '192.168.50.101'), await a.attach('p2', shut, '192.168.50.102')];
    t.match(p1.space.rtnl.link('eth0'), { ipvlan: { mode: 'l2', flag: 'private' } });
    t.notOk(p1.space.pings(p2.ip), 'private: not each other');
    t.ok(p1.space.pings(PRINTER), 'but everybody else');
    for (const each of [p1, p2]) await a.detach(each);
    await a.delete(shut);
    const hairpin = await a.create(lan('hairpin', { ipvlan_flag: 'vepa' }));
    const [v1, v2] = [await a.attach('v1', hairpin, '192.168.50.103'), await a.attach('v2', hairpin, '192.168.50.104')];
    t.match(v1.space.rtnl.link('eth0'), { ipvlan: { mode: 'l2', flag: 'vepa' } });
    t.notOk(v1.space.pings(v2.ip), 'vepa: not by the host itself');
    t.ok(v1.space.pings(PRINTER));
    for (const each of [v1, v2]) await a.detach(each);
    await a.delete(hairpin);
    t.equal(a.space.snapshot(), a.before);
  });

  await t.test('what an interface cannot carry at once', async (t) => {
    const one = await a.create(lan('one'));
    const two = await a.create(lan('two', { 'weft.mtu': '1400' }));
    const [c1, c2] = [await a.attach('c1', one, '192.168.50.101'), await a.attach('c2', two, '192.168.50.102')];
    t.equal(c2.space.rtnl.link('eth0')!.mtu, 1400, 'several networks share it');
    t.ok(c1.space.pings(c2.ip));
    t.throws(() => a.driver.validate(lan('three', { ipvlan_mode: 'l3' })), { code: 'WEFT-PARENT-UNFIT', message: /one mode and flag, and those of network one are l2 and bridge/ });
    t.throws(() => a.driver.validate(lan('three', { ipvlan_flag: 'private' })), { code: 'WEFT-PARENT-UNFIT' });
    a.driver.validate(lan('three', { parent: 'eth2', ipvlan_mode: 'l3' }));
    const elsewhere = { ...lan('elsewhere', { parent: 'eth9', 'weft.parent.a': 'eth1', ipvlan_mode: 'l3' }), node: 'c' };
    a.networks.push(elsewhere);
    await t.rejects(a.attach('late', elsewhere, '192.168.50.103'), { code: 'WEFT-PARENT-UNFIT', message: /one mode and flag, and those of network one are l2 and bridge/ }, 'nor on a node that did not make the network');
    t.match(c1.space.rtnl.link('eth0'), { ipvlan: { mode: 'l2' } });
    t.ok(c1.space.pings(c2.ip), 'and the others go on');
    await a.delete(elsewhere);

    const macvlan = createMacvlanDriver({
      host: a.space.netns, self: () => ({ id: 'a', name: 'a' }), networks: () => a.networks, hostAddresses: async () => [], releaseHostAddresses: async () => {}, onCarrier: () => {},
      clock: systemClock, log: silentLogger,
    });
    t.teardown(() => macvlan.close());
    const other = network('other', 'macvlan', '192.168.50.0/24', { options: { parent: 'eth1', 'weft.probe_ms': '0' }, scope: 'cluster' });
    t.throws(() => macvlan.validate(other), { code: 'WEFT-PARENT-UNFIT', message: /either macvlan or ipvlan links, and has ipvlan ones, those of network one; use weft-ipvlan here/ });
    await t.rejects(macvlan.createEndpoint(other, endpoint('m1', other, '192.168.50.105/24')), { code: 'WEFT-PARENT-UNFIT', message: /ipvlan links stand on it; .*use weft-ipvlan/ }, 'as the kernel has it');
    for (const each of [c1, c2]) await a.detach(each);
    for (const each of [one, two]) await a.delete(each);
    a.networks.push(other);
    t.throws(() => a.driver.validate(lan('late')), { code: 'WEFT-PARENT-UNFIT', message: /has macvlan ones, those of network other; use weft-macvlan here/ });
    a.networks.pop();
    t.equal(a.space.snapshot(), a.before);
  });

  await t.test('without a parent: each other, and nobody else', async (t) => {
    const alone = await a.create({ ...lan('alone'), options: {} });
    const [c1, c2] = [await a.attach('c1', alone, '192.168.50.101'), await a.attach('c2', alone, '192.168.50.102')];
    t.equal(c1.space.rtnl.link('eth0')!.mac, a.space.rtnl.link(IPVLAN_NAMES.isolatedParent(alone.id))!.mac);
    t.ok(c1.space.pings(c2.ip));
    t.equal(c1.space.rtnl.routes().find(({ dst }) => dst === 'default'), undefined);
    for (const ip of ['192.168.50.1', PRINTER]) t.notOk(c1.space.pings(ip), ip);
    a.space.run('ip', 'link', 'set', IPVLAN_NAMES.isolatedParent(alone.id), 'down');
    t.match(await a.repair(), [/wip-.* was down/]);
    t.ok(c1.space.pings(c2.ip));
    for (const each of [c1, c2]) await a.detach(each);
    await a.delete(alone);
    t.equal(a.space.snapshot(), a.before);
  });

  await t.test('a parent that is down', async (t) => {
    const web = await a.create(lan('web'));
    a.space.run('ip', 'link', 'set', 'eth1', 'down');
    const patient = await a.attach('patient', web, '192.168.50.121');
    await a.repair();
    t.notOk(a.up.has(patient.endpoint.id), 'its name would lead nowhere yet');
    a.space.run('ip', 'link', 'set', 'eth1', 'up');
    t.ok(await until(() => patient.space.pings(PRINTER)), 'works when it comes');
    await a.repair();
    t.ok(await until(() => a.up.has(patient.endpoint.id)));
    a.space.run('ip', 'link', 'set', 'eth1', 'address', '02:00:00:00:00:07');
    await a.repair();
    t.ok(a.up.has(patient.endpoint.id), 'it is known again when its parent has another MAC address');
    await a.detach(patient);
    await a.delete(web);
  });

  await t.test('802.1Q: a sub-interface comes with its first network and goes with its last', async (t) => {
    const before = a.space.snapshot();
    const [tagged, again] = [await a.create(lan('tagged', { parent: 'eth2.100' })), await a.create(lan('again', { parent: 'eth2.100' }))];
    t.match(a.space.rtnl.link('eth2.100'), { vlan: 100, up: true });
    await a.space.rtnl.deleteLink('eth2.100');
    const [c1, c2] = [await a.attach('c1', again, '192.168.50.101'), await a.attach('c2', tagged, '192.168.50.102')];
    t.match(a.space.rtnl.link('eth2.100'), { vlan: 100, up: true }, 'made again for its next container');
    t.ok(c1.space.pings(c2.ip));
    a.space.run('ip', 'link', 'set', 'eth2.100', 'down');
    t.match(await a.repair(), [/eth2\.100 was down/]);
    for (const each of [c1, c2]) await a.detach(each);
    await a.delete(again);
    t.ok(a.space.rtnl.link('eth2.100'), 'another network has it');
    await a.delete(tagged);
    t.equal(a.space.snapshot(), before);
  });
});
