//             router
//   10.99.1.0/24 │ 10.99.2.0/24
//           ┌────┴────┐
//   host 10.99.1.1   client 10.99.2.2
//      ┌────┴─────┐
//     web        dbs
//     │  │        │
//     w1 w2       d1
//
//  web 10.20.0.0/24, dbs 10.21.0.0/24
import tap, { test } from 'tap';
import { apartBridge, apartUplink, bridgeEnd, gatewayMac, hostBridge, hostEnd } from '../names.ts';
import { Underlay, ask, endpoint, network, serve } from '../testbed.ts';
import { BridgeHost, port } from './testbed.ts';

tap.setTimeout(240_000);

const underlay = new Underlay();
const web = network('web', 'bridge', '10.20.0.0/24');
const dbs = network('dbs', 'bridge', '10.21.0.0/24');
const GATEWAY = '10.20.0.1';

test('bridge networks after faults, crashes and a weftd that was away', async (t) => {
  t.teardown(() => underlay.remove());
  const host = new BridgeHost(underlay);
  const client = underlay.host(2, 2);
  t.teardown(() => host.purge());
  for (const each of [web, dbs]) await host.create(each);
  const w1 = await host.attach('w1', web, '10.20.0.11');
  const w2 = await host.attach('w2', web, '10.20.0.12');
  const d1 = await host.attach('d1', dbs, '10.21.0.11');

  t.test('what is broken is mended, and said', async (t) => {
    const [gateway, bridge, uplink, member] = [hostBridge(web.id), apartBridge(web.id), apartUplink(web.id), bridgeEnd(w1.endpoint.id)];
    await host.publish(w1, port(8080, 80));
    t.same(await host.repair(), [], 'nothing is wrong');
    const cases: [string, string[], RegExp][] = [
      ['bridge down', host.asInside('ip', 'link', 'set', bridge, 'down'), /another up/],
      ['bridge gone', host.asInside('ip', 'link', 'del', bridge), /wb-.* was missing/],
      ['another MTU', host.asInside('ip', 'link', 'set', bridge, 'mtu', '1400'), /another mtu/],
      ['gateway down', ['ip', 'link', 'set', gateway, 'down'], /another up/],
      ['gateway gone', ['ip', 'link', 'del', gateway], /wbr-.* was missing/],
      ['another MAC', ['ip', 'link', 'set', gateway, 'address', '02:00:00:00:00:01'], /another mac/],
      ['another MTU of the gateway', ['ip', 'link', 'set', gateway, 'mtu', '1400'], /another mtu/],
      ['address', ['ip', 'address', 'del', `${GATEWAY}/24`, 'dev', gateway], /address 10\.20\.0\.1\/24 was missing/],
      ['gateway without bridge', host.asInside('ip', 'link', 'set', uplink, 'nomaster'), /another master/],
      ['address behind the gateway\'s port', host.asInside('bridge', 'fdb', 'del', gatewayMac(web.id), 'dev', uplink, 'master'), /address of port/],
      ['port without bridge', host.asInside('ip', 'link', 'set', member, 'nomaster'), /another master/],
      ['address behind a port', host.asInside('bridge', 'fdb', 'del', w1.endpoint.mac, 'dev', member, 'master'), /address of port/],
      ['all rules', ['nft', 'flush', 'ruleset'], /weft-bridge/],
      ['one rule', ['nft', 'flush', 'chain', 'inet', 'weft-bridge', 'forward'], /weft-bridge/],
      ['one port', ['nft', 'delete', 'element', 'inet', 'weft-bridge', 'ports', '{ tcp . 8080 }'], /weft-bridge/],
      ['a firewall that came anew', ['iptables', '-P', 'FORWARD', 'DROP'], /FORWARD/],
      ['forwarding', ['sysctl', '-qw', 'net.ipv4.ip_forward=0'], /ip_forward was 0/],
    ];
    for (const [name, breakIt, words] of cases) {
      host.space.run(...breakIt);
      const found = await host.repair();
      t.ok(found.some((what) => words.test(what)), `${name}: ${found.join('; ')}`);
      t.same(await host.repair(), [], `${name}: nothing is left to mend`);
    }
    const server = await serve(w1.space, 'w1');
    t.teardown(() => server.kill());
    t.ok(w1.space.pings(w2.ip) && w1.space.pings(client.address), 'everything works again');
    t.equal(ask(client.space, `${host.address}:8080`), `w1 ${client.address}`);
    t.equal(ask(host.space, '127.0.0.1:8080'), `w1 ${GATEWAY}`);
    t.notOk(w1.space.pings(d1.ip));
    host.unpublish(w1);
  });

  t.test('others have their turns while it is repaired, and what goes meanwhile stays gone', async (t) => {
    const passing = await host.attach('w8', web, '10.20.0.18');
    const pieces = host.endpoints.length + host.networks.length;
    const { promise: detached, resolve } = Promise.withResolvers<void>();
    let turns = 0;
    let isOver = false;
    const count = (): void => {
      if (turns++ === 2) resolve(host.detach(passing));
      if (!isOver) setImmediate(count);
    };
    setImmediate(count);
    t.same(await host.repair(), []);
    isOver = true;
    t.ok(turns >= pieces, `${turns} turns for ${pieces} pieces`);
    await detached;
    t.notOk(host.driver.inside.link(bridgeEnd(passing.endpoint.id)));
    t.same(await host.repair(), []);
    t.ok(w1.space.pings(w2.ip));
  });

  t.test('nothing moves while weftd is away, and nothing has to be mended when it returns', async (t) => {
    const server = await serve(w1.space, 'w1');
    t.teardown(() => server.kill());
    await host.publish(w1, port(8080, 80));
    await host.publish(w2, port(8081, 80), port(8082, 80, { hostIp: '10.99.1.77' })).catch(() => {});
    host.space.run('ip', 'address', 'add', '10.99.1.77/32', 'dev', 'lo');
    await host.publish(w2, port(8081, 80), port(8082, 80, { hostIp: '10.99.1.77' }));
    const before = host.space.snapshot();
    host.driver.close();
    t.equal(ask(client.space, `${host.address}:8080`), `w1 ${client.address}`);
    host.start();
    t.same(await host.repair(), []);
    t.equal(host.space.snapshot(), before);
    t.equal(ask(client.space, `${host.address}:8080`), `w1 ${client.address}`);
    t.same(await host.publish(w1, port(8080, 80)), [port(8080, 80)], 'held as before');
    t.same(host.warnings, []);

    host.unpublish(w1);
    t.same(await host.repair(), []);
    t.equal(ask(client.space, `${host.address}:8080`), 'nothing', 'what is withdrawn does not come back');

    host.driver.close();
    host.space.run('ip', 'address', 'del', '10.99.1.77/32', 'dev', 'lo');
    host.start();
    t.same(await host.repair(), [], 'an address of the host is gone, and with it a published port');
    t.match(host.warnings, [/taken from us/]);
    host.unpublish(w2);
  });

  t.test('bridges of an earlier version stood in the host\'s namespace: containers keep their links, also where a crash came in between', async (t) => {
    const inside = host.driver.inside;
    const gateway = hostBridge(web.id);
    for (const left of [[w1, w2], [w2]]) {
      for (const name of [gateway, apartBridge(web.id)]) await (name === gateway ? host.space.rtnl : inside).deleteLink(name);
      const old = host.space.rtnl.addLink({ kind: 'bridge', name: gateway, mac: gatewayMac(web.id), up: true });
      host.space.rtnl.addAddress(old, `${GATEWAY}/24`);
      for (const { endpoint: { id } } of left) {
        await inside.moveLink(inside.link(bridgeEnd(id))!.index, host.space.netns);
        host.space.rtnl.setLink(host.link(bridgeEnd(id))!.index, { master: old, up: true });
      }
      t.ok(w2.space.pings(GATEWAY), 'as it was');

      t.match((await host.repair()).join('; '), /wbr-.* of an earlier version/);
      t.match([host.link(gateway), inside.link(apartBridge(web.id))], [{ kind: 'veth' }, { kind: 'bridge' }]);
      t.ok(w1.space.pings(w2.ip) && w1.space.pings(GATEWAY) && w2.space.pings(client.address));
      w1.space.run('ip', 'link', 'set', 'eth0', 'address', w2.endpoint.mac);
      t.notOk(w1.space.pings(GATEWAY), 'its port is held to its addresses');
      w1.space.run('ip', 'link', 'set', 'eth0', 'address', w1.endpoint.mac);
      t.same(await host.repair(), []);
    }
  });

  t.test('a crash between an endpoint\'s record and its link, in the middle of its making, and before its record went', async (t) => {
    const made = endpoint('w9', web, '10.20.0.19/24');
    const { sourceName } = await host.driver.join(web, made);
    t.equal(sourceName, hostEnd(made.id));
    t.ok(host.link(sourceName), 'Join makes what is missing');
    host.endpoints.push(made);
    host.inside('ip', 'link', 'set', bridgeEnd(made.id), 'down', 'nomaster');
    await host.repair();
    t.match(host.driver.inside.link(bridgeEnd(made.id)), { up: true, master: host.driver.inside.link(apartBridge(web.id))!.index }, 'half made');
    host.endpoints.pop();
    t.match(await host.repair(), [/we-.* belonged to nothing/]);
    t.notOk(host.link(sourceName));
    await host.driver.deleteEndpoint(web, made);
    t.pass('deleting what is gone');
  });

  t.test('a network that a crash left behind, and one that it kept from being made', async (t) => {
    const lost = network('lost', 'bridge', '10.23.0.0/24');
    await host.create(lost);
    host.networks.pop();
    t.match(await host.repair(), [/wb-.* belonged to nothing/, /wu-.* belonged to nothing/]);
    t.notMatch(host.space.run('nft', 'list', 'table', 'inet', 'weft-bridge'), /10\.23\.0\.0/);
    host.networks.push(lost);
    t.match(await host.repair(), [/wb-.* was missing/, /wbr-.* was missing/, /address .* was missing/]);
    await host.delete(lost);
    t.same(await host.repair(), []);
  });

  t.test('a network that was to go, and stayed, is apart from others again with its next endpoint', async (t) => {
    const kept = network('kept', 'bridge', '10.24.0.0/24');
    const rules = (): string => host.space.run('nft', 'list', 'table', 'inet', 'weft-bridge');
    await host.create(kept);
    await host.driver.deleteNetwork(kept);
    t.notMatch(rules(), /10\.24\.0\.0/);
    const k9 = await host.attach('k9', kept, '10.24.0.11');
    t.match(rules(), /10\.24\.0\.0/);
    t.ok(k9.space.pings('10.24.0.1'));
    for (const [from, to] of [[k9, w1], [w1, k9]] as const) t.notOk(from.space.pings(to.ip));
    await host.detach(k9);
    await host.delete(kept);
  });
});
