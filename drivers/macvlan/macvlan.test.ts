//        switch                                   192.168.50.0/24
//   ┌───────┼────────┬──────────┐
//  host a  host b            printer 192.168.50.9, a machine nobody told us of
//   │ │ │    │
//  a1 a2 h   b1      containers; h: the host's own way to them
import { setTimeout as delay } from 'node:timers/promises';
import { test } from 'tap';
import type { Network } from '../../cnm/model.ts';
import { MACVLAN_NAMES, MADE_BY_WEFT } from '../names.ts';
import { Lan, LanHost } from '../stacked/testbed.ts';
import { capture, endpoint, network, until } from '../testbed.ts';
import { createMacvlanDriver } from './macvlan.ts';

const PRINTER = '192.168.50.9';

const lan = (name: string, options: Record<string, string> = {}, more: Partial<Network> = {}): Network =>
  network(name, 'macvlan', '192.168.50.0/24', { options: { parent: 'eth1', 'weft.probe_ms': '60', ...options }, scope: 'cluster', ...more });
const web = lan('web', { 'weft.host_access': 'true' });

test('macvlan networks', async (t) => {
  const segment = new Lan();
  t.teardown(() => segment.remove());
  // weftd's timers keep no process alive, its sockets do.
  const alive = setInterval(() => {}, 1_000);
  t.teardown(() => clearInterval(alive));
  const printer = segment.space('printer');
  segment.plug(printer, 'p-printer', 'eth0', `${PRINTER}/24`);
  const printerMac = printer.rtnl.link('eth0')!.mac;
  const a = new LanHost({ lan: segment, name: 'a', create: createMacvlanDriver, ownAddresses: [PRINTER, '192.168.50.250'], address: '192.168.50.1/24' });
  const b = new LanHost({ lan: segment, name: 'b', create: createMacvlanDriver, ownAddresses: [PRINTER, '192.168.50.251'] });
  t.teardown(async () => {
    for (const host of [a, b]) {
      await host.driver.purge();
      host.driver.close();
    }
  });

  await t.test('what cannot be is refused before anything is made', async (t) => {
    const refused = (options: Record<string, string>, code: string, message: RegExp): void => void t.throws(() => a.driver.validate(lan('x', options)), { code, message });
    refused({ parent: 'eth7' }, 'WEFT-PARENT-MISSING', /node a has no interface eth7; give one of .*eth1.*weft\.parent\.a=/);
    refused({ parent: 'eth7.100' }, 'WEFT-PARENT-MISSING', /eth7\.100/);
    refused({ parent: 'lo' }, 'WEFT-PARENT-UNFIT', /loopback/);
    refused({ 'weft.mtu': '9000' }, 'WEFT-MTU-TOO-LARGE', /1500/);
    const port = a.space.rtnl.addLink({ kind: 'bridge', name: 'br1' });
    a.space.rtnl.setLink(a.space.rtnl.link('eth2')!.index, { master: port });
    refused({ parent: 'eth2' }, 'WEFT-PARENT-UNFIT', /port of br1; give br1 itself/);
    await a.space.rtnl.deleteLink('br1');
    t.equal(a.space.snapshot(), a.before);
  });

  const onA = await a.create(web);
  const onB = await b.create(lan('web', { parent: 'nonsense', 'weft.parent.b': 'eth1', 'weft.host_access': 'true' }));
  t.equal(a.space.snapshot(), a.before, 'nothing is built before it is used');
  const a1 = await a.attach('a1', onA, '192.168.50.101');
  const a2 = await a.attach('a2', onA, '192.168.50.102');
  const b1 = await b.attach('b1', onB, '192.168.50.111');

  await t.test('containers are machines of the LAN', async (t) => {
    t.match(a1.space.rtnl.link('eth0'), { mac: a1.endpoint.mac, mtu: 1500, up: true, carrier: true, macvlan: 'bridge' });
    t.match(a1.space.rtnl.routes().find(({ dst }) => dst === 'default'), { via: '192.168.50.1' });
    t.ok(a1.space.pings(a2.ip), 'the same host');
    t.ok(a1.space.pings(b1.ip) && b1.space.pings(a1.ip), 'another host, where the interface has another name');
    t.ok(a1.space.pings(PRINTER) && printer.pings(a1.ip), 'other machines');
    t.ok(await until(() => a.up.size === 2 && b.up.size === 1), 'that they work is noticed');
  });

  await t.test('the host reaches its own containers, and they it', async (t) => {
    t.ok(a.space.pings(a1.ip) && a.space.pings(a2.ip), 'a host with an address of the LAN');
    t.ok(b.space.pings(b1.ip), 'one without');
    t.ok(a1.space.pings('192.168.50.1'), 'by its address on the LAN');
    t.ok(a1.space.pings(a.ownAddress), 'by its address on the network');
    t.ok(a.space.pings(PRINTER) && a.space.pings(b1.ip), 'all others as before');
    printer.run('ip', 'neigh', 'flush', 'all');
    t.ok(printer.pings('192.168.50.1'));
    t.notMatch(a.space.run('ip', 'address'), `${PRINTER}/`, 'an address for the host that another machine has is changed for another');
    t.match(printer.run('ip', 'neigh', 'show', '192.168.50.1'), a.space.rtnl.link('eth1')!.mac, 'the LAN finds the host where it was');
  });

  await t.test('an address that another machine has is not given away', async (t) => {
    const before = a.space.snapshot();
    await t.rejects(a.attach('thief', onA, PRINTER), { code: 'WEFT-ADDRESS-ON-LAN', message: new RegExp(`${PRINTER} is in use.*eth1.*${printerMac}`) });
    await t.rejects(a.attach('thief', onA, '192.168.50.1'), { code: 'WEFT-ADDRESS-ON-LAN', message: /eth1 of this host/ });
    await t.rejects(a.attach('thief', onA, b1.ip), { code: 'WEFT-ADDRESS-ON-LAN', message: new RegExp(b1.endpoint.mac) });
    t.equal(a.space.snapshot(), before, 'and nothing stays of the attempt');
  });

  await t.test('an address is announced when its container is there', async (t) => {
    const stop = await capture(printer, 'eth0', 'arp');
    const late = await a.attach('late', onA, '192.168.50.120');
    await until(() => a.up.has(late.endpoint.id));
    await delay(2_100);
    const heard = (await stop()).split('\n');
    t.equal(heard.filter((line) => /who-has 192\.168\.50\.120 (\(.*\) )?tell 0\.0\.0\.0/.test(line)).length, 3, 'asked for three times');
    t.equal(heard.filter((line) => /who-has 192\.168\.50\.120 (\(.*\) )?tell 192\.168\.50\.120/.test(line)).length, 2, 'announced twice');
    await a.detach(late);
    t.notOk(late.space.rtnl.link('eth0'), 'it goes, wherever it is');
    t.notMatch(a.space.run('ip', 'route'), late.ip);
  });

  await t.test('what is broken is mended, and said', async (t) => {
    const shim = MACVLAN_NAMES.hostAccess(onA.id);
    t.same(await a.repair(), [], 'nothing is wrong');
    const cases: [string, string[], RegExp][] = [
      ['the host\'s link gone', ['ip', 'link', 'del', shim], /wmh-.* was missing/],
      ['down', ['ip', 'link', 'set', shim, 'down'], /another up/],
      ['its address', ['ip', 'address', 'del', `${a.ownAddress}/32`, 'dev', shim], /address 192\.168\.50\.250\/32 was missing/],
      ['a route', ['ip', 'route', 'del', a1.ip, 'dev', shim], /1 routes were missing/],
      ['a route too many', ['ip', 'route', 'add', '192.168.50.77', 'dev', shim], /1 routes were stale/],
      ['a link of nobody', ['ip', 'link', 'add', 'wm-00000000000', 'link', 'eth1', 'type', 'macvlan'], /wm-0.* belonged to nothing/],
    ];
    for (const [name, breakIt, words] of cases) {
      a.space.run(...breakIt);
      const found = await a.repair();
      t.ok(found.some((what) => words.test(what)), `${name}: ${found.join('; ')}`);
      t.same(await a.repair(), [], `${name}: nothing is left to mend`);
    }
    a.space.run('sysctl', '-qw', `net.ipv4.conf.${shim}.arp_filter=0`);
    await a.repair();
    t.equal(a.space.run('sysctl', '-n', `net.ipv4.conf.${shim}.arp_filter`).trim(), '1');
    t.ok(a.space.pings(a1.ip));
  });

  await t.test('a parent that is down', async (t) => {
    a.space.run('ip', 'link', 'set', 'eth1', 'down');
    const patient = await a.attach('patient', onA, '192.168.50.121');
    await a.repair();
    t.notOk(a.up.has(patient.endpoint.id), 'its name would lead nowhere yet');
    t.notOk(a.up.has(a1.endpoint.id), 'nor the others\'');
    a.space.run('ip', 'link', 'set', 'eth1', 'up');
    await a.repair();
    t.ok(patient.space.pings(PRINTER), 'works when it comes');
    t.ok(a.space.pings(patient.ip), 'for the host as well');
    t.ok(await until(() => a.up.has(patient.endpoint.id)));
    await a.detach(patient);
  });

  await t.test('each sandbox is looked into in a turn of its own', async (t) => {
    let turns = 0;
    const next = (): void => void (turns++, timer = setImmediate(next));
    let timer = setImmediate(next);
    await a.repair();
    clearImmediate(timer);
    t.ok(turns >= a.endpoints.length, `${turns} turns for ${a.endpoints.length} endpoints`);
  });

  await t.test('what its node brings together on one parent', async (t) => {
    const alone = { ...lan('alone', { parent: 'eth9', 'weft.parent.a': 'eth1', 'macvlan_mode': 'passthru' }), node: 'c' };
    a.networks.push(alone);
    await t.rejects(a.attach('late', alone, '192.168.50.122'), { code: 'WEFT-PARENT-UNFIT', message: /passthru a container has it to itself, and network web stands on it/ });
    await a.delete(alone);
  });

  await t.test('weftd away: nothing moves, nothing has to be mended when it returns', async (t) => {
    const before = a.space.snapshot();
    a.driver.close();
    t.ok(a1.space.pings(b1.ip) && a.space.pings(a1.ip));
    a.up.clear();
    a.start();
    t.same(await a.repair(), []);
    t.equal(a.up.size, 2, 'what works is known again');
    t.equal(a.space.snapshot(), before);
  });

  for (const each of [a1, a2]) await a.detach(each);
  t.notMatch(a.space.run('ip', 'route'), 'wmh-', 'the last container takes its route along');
  await b.detach(b1);
  await a.delete(onA);
  await b.delete(onB);
  for (const host of [a, b]) t.equal(host.space.snapshot(), host.before, `nothing is left on ${host.name}`);

  await t.test('both families, and IPv6 alone', async (t) => {
    const six = { subnet: 'fd00:50::/64', gateway: 'fd00:50::1' };
    printer.run('ip', 'address', 'add', 'fd00:50::9/64', 'dev', 'eth0', 'nodad');
    const [both, only] = [await a.create(lan('both', {}, { subnets: [{ subnet: '192.168.50.0/24', gateway: '192.168.50.1' }, six] })), await a.create(lan('only', {}, { subnets: [six] }))];
    const dual = await a.attach('dual', both, '192.168.50.101', { addressIpv6: 'fd00:50::101/64' });
    const [six1, six2] = [await a.attach('six1', only, 'fd00:50::102'), await a.attach('six2', only, 'fd00:50::103')];
    t.same(['192.168.50.1', 'fd00:50::1'].map((via) => dual.space.rtnl.routes().some((route) => route.dst === 'default' && route.via === via)), [true, true], 'a gateway of each family');
    t.ok(dual.space.pings(PRINTER) && dual.space.pings('fd00:50::9'), 'reaches other machines by both');
    t.ok(printer.pings('192.168.50.101') && printer.pings('fd00:50::101'), 'and they it');
    t.ok(six1.space.pings(six2.ip) && six1.space.pings('fd00:50::101'), 'containers reach each other');
    t.equal(six1.space.run('ip', '-4', 'route'), '', 'no IPv4 where there is none');
    t.ok(await until(() => [dual, six1, six2].every(({ endpoint: { id } }) => a.up.has(id))), 'that they work is noticed');
    t.same(await a.repair(), []);

    const before = a.space.snapshot();
    await t.rejects(a.attach('thief', only, 'fd00:50::9'), { code: 'WEFT-ADDRESS-ON-LAN', message: new RegExp(`fd00:50::9 is in use.*eth1.*${printerMac}`) }, 'an address that another machine has is not given away');
    await t.rejects(a.attach('thief', both, '192.168.50.105', { addressIpv6: 'fd00:50::9/64' }), { code: 'WEFT-ADDRESS-ON-LAN' }, 'nor beside one of IPv4 that is free');
    t.equal(a.space.snapshot(), before, 'and nothing stays of the attempt');

    const stop = await capture(printer, 'eth0', 'icmp6');
    const late = await a.attach('late', only, 'fd00:50::120');
    await until(() => a.up.has(late.endpoint.id));
    await delay(2_100);
    const heard = (await stop()).split('\n');
    t.equal(heard.filter((line) => /:: > ff02::1:ff00:120: .*neighbor solicitation, who has fd00:50::120/.test(line)).length, 3, 'asked for three times');
    t.equal(heard.filter((line) => /fd00:50::120 > ff02::1: .*neighbor advertisement, tgt is fd00:50::120/.test(line)).length, 2, 'announced twice');
    for (const each of [dual, six1, six2, late]) await a.detach(each);
    for (const each of [both, only]) await a.delete(each);
    t.equal(a.space.snapshot(), a.before);
  });

  await t.test('modes, as the kernel has them', async (t) => {
    const shut = await a.create(lan('shut', { macvlan_mode: 'private' }));
    const [p1, p2] = [await a.attach('p1', shut, '192.168.50.101'), await a.attach('p2', shut, '192.168.50.102')];
    t.notOk(p1.space.pings(p2.ip), 'private: not each other');
    t.ok(p1.space.pings(PRINTER), 'but everybody else');
    const hairpin = await a.create(lan('hairpin', { macvlan_mode: 'vepa' }));
    const [v1, v2] = [await a.attach('v1', hairpin, '192.168.50.103'), await a.attach('v2', hairpin, '192.168.50.104')];
    t.notOk(v1.space.pings(v2.ip), 'vepa: not with a switch that sends nothing back');
    segment.switch.rtnl.setBridgePort(segment.switch.rtnl.link('p-a')!.index, { hairpin: true });
    // The kernel is still asking for the other's address, once a second, and may ask next when this ping has given up.
    v1.space.run('ip', 'neigh', 'flush', 'all');
    t.ok(v1.space.pings(v2.ip), 'with one that does');
    segment.switch.rtnl.setBridgePort(segment.switch.rtnl.link('p-a')!.index, { hairpin: false });

    t.throws(() => a.driver.validate(lan('all', { macvlan_mode: 'passthru' })), { code: 'WEFT-PARENT-UNFIT', message: /network shut stands on it/ });
    for (const each of [p1, p2, v1, v2]) await a.detach(each);
    for (const each of [shut, hairpin]) await a.delete(each);
    const all = await a.create(lan('all', { macvlan_mode: 'passthru' }));
    t.throws(() => a.driver.validate(lan('more')), { code: 'WEFT-PARENT-UNFIT', message: /passthru/ });
    const only = await a.attach('only', all, '192.168.50.105');
    t.ok(only.space.pings(PRINTER), 'passthru: one container');
    await t.rejects(a.attach('second', all, '192.168.50.106'), { code: 'WEFT-PARENT-UNFIT', message: /to itself/ });
    await a.detach(only);
    await a.delete(all);
    t.equal(a.space.snapshot(), a.before);
  });

  await t.test('several networks on one parent', async (t) => {
    const [one, two] = [await a.create(lan('one')), await a.create(lan('two', { 'weft.mtu': '1400' }))];
    const [c1, c2] = [await a.attach('c1', one, '192.168.50.101'), await a.attach('c2', two, '192.168.50.102', { mac: '02:00:00:00:00:77' })];
    t.match(c2.space.rtnl.link('eth0'), { mtu: 1400, mac: '02:00:00:00:00:77' }, 'each with what was asked for it');
    t.ok(c1.space.pings(c2.ip), 'share the LAN');
    await a.detach(c1);
    await a.delete(one);
    t.ok(c2.space.pings(PRINTER), 'and one may go');
    await a.detach(c2);
    await a.delete(two);
  });

  await t.test('without a parent: each other, and nobody else', async (t) => {
    const alone = await a.create({ ...lan('alone'), options: {}, internal: true });
    const parent = MACVLAN_NAMES.isolatedParent(alone.id);
    const [c1, c2] = [await a.attach('c1', alone, '192.168.50.101'), await a.attach('c2', alone, '192.168.50.102')];
    t.ok(c1.space.pings(c2.ip));
    t.equal(c1.space.rtnl.routes().find(({ dst }) => dst === 'default'), undefined);
    for (const ip of ['192.168.50.1', PRINTER]) t.notOk(c1.space.pings(ip), ip);
    t.notOk(a.space.pings(c1.ip), 'the host');
    t.same(await a.repair(), []);
    a.space.run('ip', 'link', 'set', parent, 'down');
    t.match(await a.repair(), [/wmp-.* was down/]);
    t.ok(c1.space.pings(c2.ip));
    for (const each of [c1, c2]) await a.detach(each);
    await a.delete(alone);
    t.equal(a.space.snapshot(), a.before);
  });

  await t.test('a crash between an endpoint\'s record and its link, and before its record went', async (t) => {
    const on = await a.create(lan('crash'));
    const made = endpoint('lost', on, '192.168.50.101/24');
    const { sourceName } = await a.driver.join(on, { ...made, sandbox: '/run/netns/nowhere' });
    t.equal(sourceName, MACVLAN_NAMES.endpoint(made.id));
    t.ok(a.space.rtnl.link(sourceName), 'Join makes what is missing');
    t.match(await a.repair(), [/wm-.* belonged to nothing/]);
    await a.driver.deleteEndpoint(on, made);
    t.pass('deleting what is gone');
    await a.attach('c1', on, '192.168.50.102');
    t.same(await a.driver.purge(), []);
    t.same(await a.driver.purge(), [], 'a purge may be repeated');
    t.equal(a.space.snapshot(), a.before);
  });

  await t.test('a parent that is made again while an address is asked for', async (t) => {
    const make = (): void => void a.space.rtnl.addLink({ kind: 'veth', name: 'eth3', up: true, peer: { name: 'eth3-end', up: true } });
    make();
    const on = await a.create(lan('renewed', { parent: 'eth3', 'weft.probe_ms': '300' }));
    const starting = a.attach('c1', on, '192.168.50.101');
    // In the turn in which it began to ask: on a slow machine the answer's time would be over before the link is there again.
    a.space.run('ip', 'link', 'delete', 'eth3');
    make();
    const c1 = await starting;
    t.equal(c1.space.rtnl.link('eth0')!.parent, a.space.rtnl.link('eth3')!.index);
    await a.detach(c1);
    await a.delete(on);
    await a.space.rtnl.deleteLink('eth3');
    t.equal(a.space.snapshot(), a.before);
  });

  await t.test('802.1Q', async (t) => {
    const tagged = lan('tagged', { parent: 'eth2.100' });
    const made = await a.create(tagged).catch((error: unknown) => error as Error);
    if (made instanceof Error) {
      t.match(made, { code: 'WEFT-PARENT-VLAN', message: /eth2\.100.*CONFIG_VLAN_8021Q.*modprobe 8021q/ });
      a.networks.pop();
      t.equal(a.space.snapshot(), a.before);
    }
    await t.test('a sub-interface comes with its first network and goes with its last', { skip: made instanceof Error && 'this kernel was built without CONFIG_VLAN_8021Q' }, async (t) => {
      const again = await a.create(lan('again', { parent: 'eth2.100' }));
      t.match(a.space.rtnl.link('eth2.100'), { vlan: 100, up: true });
      await a.space.rtnl.deleteLink('eth2.100');
      const c1 = await a.attach('c1', again, '192.168.50.101');
      t.match(a.space.rtnl.link('eth2.100'), { vlan: 100, up: true }, 'made again for its next container');
      await a.space.rtnl.deleteLink('eth2.100');
      t.match(await a.repair(), [/eth2\.100 was missing/]);
      a.space.run('ip', 'link', 'set', 'eth2.100', 'down');
      t.match(await a.repair(), [/eth2\.100 was down/]);
      await a.detach(c1);
      await a.delete(again);
      t.ok(a.space.rtnl.link('eth2.100'), 'another network has it');
      await a.delete(made as Network);
      t.equal(a.space.snapshot(), a.before);
      a.space.rtnl.addLink({ kind: 'vlan', name: 'eth2.7', parent: a.space.rtnl.link('eth2')!.index, vlan: 7 });
      await a.delete(await a.create(lan('theirs', { parent: 'eth2.7' })));
      for (const vlan of [8, 9]) a.space.rtnl.addLink({ kind: 'vlan', name: `eth2.${vlan}`, parent: a.space.rtnl.link('eth2')!.index, vlan, group: MADE_BY_WEFT });
      t.match(await a.repair(), [/eth2\.8 belonged to nothing/, /eth2\.9 belonged to nothing/], 'what a crash left goes');
      t.ok(a.space.rtnl.link('eth2.7'), 'one that somebody else made stays');
    });
  });
});
