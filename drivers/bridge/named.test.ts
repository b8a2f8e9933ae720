//     router
//       │ 10.99.1.0/24
//   host 10.99.1.1
//   ┌───┴──────┐
//  site0      br9 (somebody else's, 10.41.0.1/24)
//  │   │       │
//  s1  s2      a1
//
//  site 10.40.0.0/24 on site0, a bridge that its user has named; adopted on br9, which was there before
import { test } from 'tap';
import { bridgeEnd } from '../names.ts';
import { Underlay, network } from '../testbed.ts';
import { NAME_OPTION } from './options.ts';
import { BridgeHost } from './testbed.ts';

const underlay = new Underlay();
const site = network('site', 'bridge', '10.40.0.0/24', { options: { [NAME_OPTION]: 'site0' } });
const adopted = network('adopted', 'bridge', '10.41.0.0/24', { options: { [NAME_OPTION]: 'br9' } });

test('bridges that their users have named', async (t) => {
  t.teardown(() => underlay.remove());
  const weftd = new BridgeHost(underlay);
  t.teardown(() => weftd.purge());
  const { space: host, driver, networks, endpoints } = weftd;
  host.run('ip', 'link', 'add', 'br9', 'address', '02:00:00:00:00:09', 'type', 'bridge');
  host.run('ip', 'link', 'set', 'br9', 'up');
  host.run('ip', 'address', 'add', '10.41.9.9/32', 'dev', 'br9');
  host.run('iptables', '-A', 'FORWARD', '-i', 'br9', '-j', 'ACCEPT');
  // A bridge has carrier once it has had a port.
  const state = (): string => `${host.snapshot().replaceAll(/<[^>]*>/g, '')}${host.run('ip', '-4', '-o', 'address')}`;
  const before = state();
  const restored = (): string => {
    weftd.restoreSysctls();
    return state();
  };

  await weftd.create(site);
  await weftd.create(adopted);
  const { space: s1 } = await weftd.attach('s1', site, '10.40.0.2');
  await weftd.attach('s2', site, '10.40.0.3');
  const { space: a1 } = await weftd.attach('a1', adopted, '10.41.0.2');

  t.test('they are the host\'s, and so are their ports', async (t) => {
    t.match(host.rtnl.link('site0'), { kind: 'bridge', up: true });
    for (const { id, networkId } of endpoints) t.equal(host.rtnl.link(bridgeEnd(id))!.master, host.rtnl.link(networkId === site.id ? 'site0' : 'br9')!.index);
    t.match(host.run('bridge', '-d', 'link', 'show', 'dev', bridgeEnd(endpoints[0]!.id)), /hairpin on/, 'br_netfilter sends back by the port what came by it');
    for (const [from, to] of [[s1, '10.40.0.3'], [s1, '10.40.0.1'], [a1, '10.41.0.1']] as const) t.ok(from.pings(to), to);
    t.notOk(a1.pings('10.40.0.2'), 'networks are apart');
    t.same(await weftd.repair(), []);
  });

  t.test('where endpoints may send from any address, the host still takes none that is another\'s', async (t) => {
    const loose = network('loose', 'bridge', '10.42.0.0/24', { options: { [NAME_OPTION]: 'loose0', 'weft.antispoof': 'false' } });
    await weftd.create(loose);
    const { space: l1 } = await weftd.attach('l1', loose, '10.42.0.2');
    const dropped = (): number => {
      const [names, values] = host.run('grep', '^TcpExt', '/proc/net/netstat').trim().split('\n').map((line) => line.split(' '));
      return Number(values![names!.indexOf('IPReversePathFilter')]);
    };
    t.ok(l1.pings('10.42.0.1'));
    const before = dropped();
    l1.run('ip', 'address', 'add', '10.99.2.2/32', 'dev', 'eth0');
    t.notOk(l1.pings('10.42.0.1', '-I', '10.99.2.2'));
    t.ok(dropped() > before);
    t.equal(host.run('sysctl', '-n', 'net.ipv4.conf.br9.rp_filter').trim(), host.run('sysctl', '-n', 'net.ipv4.conf.default.rp_filter').trim(), 'on a bridge of somebody else\'s nothing changes');
    await driver.deleteEndpoint(loose, endpoints.pop()!);
    await weftd.delete(loose);
  });

  t.test('what is not to be had', async (t) => {
    const named = (name: string): (() => void) => () => driver.validate(network('other', 'bridge', '10.42.0.0/24', { options: { [NAME_OPTION]: name } }));
    t.throws(named('br9'), { code: 'WEFT-OPTION-VALUE', message: /bridge of network adopted/ });
    t.throws(named('eth0'), { code: 'WEFT-OPTION-VALUE', message: /no bridge/ });
    for (const prefix of ['wb', 'wbr', 'wc', 'we', 'wl', 'wm', 'wmh', 'wmp', 'wu', 'wv']) t.throws(named(`${prefix}-1`), { code: 'WEFT-OPTION-VALUE', message: /no link of Weft's/ }, `${prefix}-: a repair would take it for its own`);
    for (const dockers of ['docker0', 'docker_gwbridge', 'br-0123456789ab']) t.throws(named(dockers), { code: 'WEFT-OPTION-VALUE', message: /Docker's/ }, dockers);
    t.doesNotThrow(() => driver.validate(adopted), 'its own');
  });

  t.test('what is broken is mended, and of an adopted bridge no more than is ours', async (t) => {
    const cases: [string[], RegExp][] = [
      [['ip', 'link', 'set', 'site0', 'down'], /site0 had another up/],
      [['ip', 'link', 'del', 'site0'], /site0 was missing/],
      [['ip', 'link', 'set', bridgeEnd(endpoints[0]!.id), 'nomaster'], /another master/],
      [['ip', 'address', 'del', '10.41.0.1/24', 'dev', 'br9'], /address 10\.41\.0\.1/],
      [['ip', 'link', 'set', 'br9', 'down'], /br9 had another up/],
      [['nft', 'flush', 'chain', 'ip', 'filter', 'FORWARD'], /FORWARD/],
    ];
    for (const [breakIt, words] of cases) {
      host.run(...breakIt);
      t.match((await weftd.repair()).join('; '), words);
      t.same(await weftd.repair(), []);
    }
    host.run('ip', 'link', 'set', 'br9', 'mtu', '1400');
    t.same(await weftd.repair(), [], 'its MTU is its owner\'s');
    host.run('ip', 'link', 'set', 'br9', 'mtu', '1500');
    t.ok(s1.pings('10.40.0.3') && a1.pings('10.41.0.1'));
    host.run('iptables', '-I', 'FORWARD', '-i', 'br9', '-j', 'ACCEPT');
  });

  t.test('one that became something else keeps no other network from being mended', async (t) => {
    host.run('ip', 'link', 'del', 'site0');
    host.run('ip', 'link', 'add', 'site0', 'type', 'veth');
    host.run('ip', 'link', 'set', 'br9', 'down');
    const found = await driver.repair(networks, endpoints);
    t.match(found, [{ what: 'network site could not be mended', error: /no bridge/ }, { what: /br9 had another up/ }]);
    host.run('ip', 'link', 'del', 'site0');
    t.match((await weftd.repair()).join('; '), /site0 was missing/);
    t.same(await weftd.repair(), []);
  });

  t.test('one that we made and that belongs to nothing', async (t) => {
    networks.splice(networks.indexOf(site), 1);
    const [first, second, third] = endpoints.splice(0);
    endpoints.push(third!);
    t.ok(first && second);
    t.ok((await weftd.repair()).includes('link site0 belonged to nothing'));
    t.notOk(host.rtnl.link('site0'));
    await weftd.create(site);
  });

  t.test('they go: the one that we made, and what the other was given', async (t) => {
    await driver.deleteEndpoint(adopted, endpoints.pop()!);
    for (const each of [site, adopted]) await weftd.delete(each);
    t.notOk(host.rtnl.link('site0'));
    t.equal(host.run('sysctl', '-n', 'net.ipv4.conf.br9.route_localnet').trim(), '0', 'nobody on the bridge reaches the host\'s 127.0.0.1');
    t.equal(restored(), before);
    await weftd.create(adopted);
    await weftd.create(site);
    t.same(await driver.purge(), []);
    t.equal(restored(), before, 'a purge, too');
  });
});
