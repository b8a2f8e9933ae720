//            router
//       10.99.1/24 │ 10.99.2/24
//         ┌────────┴────────┐
//       node a            node b        overlays web 10.20.0.0/24: b1; dbs 10.21.0.0/24: a2
//         │                 │
//        a2                b1
//
// Somebody on host a has a tunnel with web's VNI and port: the kernel refuses ours.
import { setImmediate as nextTurn } from 'node:timers/promises';
import { test } from 'tap';
import { overlayBridge, overlayTunnel } from '../names.ts';
import { SharedState, Underlay, endpoint, network } from '../testbed.ts';
import { Node } from './testbed.ts';

const web = network('web', 'overlay', '10.20.0.0/24', { vni: 0x800001 });
const dbs = network('dbs', 'overlay', '10.21.0.0/24', { vni: 0x800002 });
const FOREIGN = ['foreign', 'type', 'vxlan', 'id', String(0x800001), 'dstport', '4789', 'local', '10.99.1.1'];

test('a network that cannot be built', async (t) => {
  const underlay = new Underlay();
  const shared = new SharedState();
  const [a, b] = [new Node(underlay, shared, [web, dbs], 'a', 1, 1), new Node(underlay, shared, [web, dbs], 'b', 2, 2)];
  t.teardown(async () => {
    for (const node of [a, b]) await node.purge();
    underlay.remove();
  });
  for (const node of [a, b]) {
    for (const each of [web, dbs]) await node.driver.createNetwork(each);
    await node.repair();
  }
  const b1 = await b.attach('b1', web, '10.20.0.21');
  await a.attach('a2', dbs, '10.21.0.12');
  await nextTurn();
  t.ok(a.space.pings(b1.ip));
  a.space.run('ip', 'link', 'add', ...FOREIGN);
  const a1 = endpoint('a1', web, '10.20.0.11/24');

  await t.test('keeps the others from nothing, nor takes the host\'s way to its addresses', async (t) => {
    a.stop();
    a.start();
    a.endpoints.push(a1);
    a.inFabric('ip', 'link', 'set', overlayBridge(dbs.id), 'down');
    const found = await a.driver.repair([web, dbs], a.endpoints);
    t.match(found.find(({ error }) => error !== undefined), { what: 'network web could not be mended', error: /EEXIST/ });
    t.ok(found.some(({ what }) => /another up/.test(what)), 'the next one is mended');
    t.ok(a.space.pings(b1.ip), 'routes to the addresses of one that was not looked at stay');
    a.endpoints.pop();
  });

  await t.test('refuses its second endpoint as it did its first', async (t) => {
    a.inFabric('ip', 'link', 'del', overlayBridge(web.id));
    for (let i = 0; i < 2; i++) await t.rejects(a.driver.createEndpoint(web, a1), { code: 'EEXIST' });
  });

  await t.test('is built when it can be', async (t) => {
    a.space.run('ip', 'link', 'del', 'foreign');
    const { container } = await a.attach('a3', web, '10.20.0.13');
    t.ok(a.fabric.rtnl.link(overlayTunnel(web.id)));
    t.ok(container.pings(b1.ip) && a.space.pings(b1.ip));
    t.same(await a.repair(), []);
  });
});
