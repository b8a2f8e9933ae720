//            router
//       10.99.1/24 │ 10.99.2/24
//         ┌────────┴────────┐
//       node a            node b        overlay web 10.20.0.0/24: a1, b1, b2
//         │                 │
//        a1                b1 b2
//
// weftd of node a was killed before its disk had what its kernel had: at the next start it does not know of b1 and b2.
import { setImmediate as nextTurn, setTimeout as delay } from 'node:timers/promises';
import { test } from 'tap';
import { overlayTunnel } from '../names.ts';
import { SharedState, Underlay, network } from '../testbed.ts';
import { Node } from './testbed.ts';

const web = network('web', 'overlay', '10.20.0.0/24', { vni: 0x800001 });
/** inheritance.ts */
const HEARD_MS = 5_000;

test('a node whose disk knows less than its kernel', async (t) => {
  const underlay = new Underlay();
  const shared = new SharedState();
  const [a, b] = [new Node(underlay, shared, [web], 'a', 1, 1), new Node(underlay, shared, [web], 'b', 2, 2)];
  t.teardown(async () => {
    for (const node of [a, b]) await node.purge();
    underlay.remove();
  });
  for (const node of [a, b]) {
    await node.driver.createNetwork(web);
    await node.repair();
  }
  const a1 = await a.attach('a1', web, '10.20.0.11');
  const [b1, b2] = [await b.attach('b1', web, '10.20.0.21'), await b.attach('b2', web, '10.20.0.22')];
  const all = [b1, b2];
  await nextTurn();
  for (const { ip } of all) t.ok(a1.container.pings(ip) && a.space.pings(ip), 'before');
  const recordOf = ({ endpoint: { id } }: typeof b1): string => `endpoint b ${id}`;
  const records = new Map(all.map((each) => [each, shared.records.get(recordOf(each))!]));
  const publish = (each: typeof b1): void => b.state.publish('endpoint', each.endpoint.id, records.get(each)!.value as never);
  const inKernel = (): string => [a.inFabric('bridge', 'fdb', 'show'), a.inFabric('ip', 'neigh', 'show'), a.inFabric('ip', 'route', 'show', 'table', '1000')].join('\n');
  const before = inKernel();

  await t.test('goes on with what its kernel has', async (t) => {
    a.stop();
    for (const each of all) shared.records.delete(recordOf(each));
    // Of nobody that is known.
    a.inFabric('ip', 'neigh', 'add', '10.20.0.99', 'lladdr', '02:42:0a:14:00:63', 'dev', overlayTunnel(web.id), 'nud', 'permanent');
    a.start();
    t.same(await a.repair(), ['1 neighbours were stale (10.20.0.99)']);
    for (const { ip } of all) t.ok(a1.container.pings(ip) && a.space.pings(ip), `${ip} is reached`);
    t.same(await a.repair(), [], 'that is no disturbance');
  });

  await t.test('hears the same from the others', async (t) => {
    for (const each of all) publish(each);
    await nextTurn();
    t.equal(inKernel(), before);
    t.same(await a.repair(), []);
  });

  await t.test('gives an address that is here by now to its own', async (t) => {
    a.stop();
    for (const each of all) shared.records.delete(recordOf(each));
    a.start();
    await a.repair();
    const here = await a.attach('here', web, b2.ip);
    await nextTurn();
    t.ok(a1.container.pings(here.ip));
    t.notMatch(inKernel(), b2.ip);
    t.ok(a1.container.pings(b1.ip), 'the other is where it was');
    a.state.withdraw('endpoint', here.endpoint.id);
    await a.driver.deleteEndpoint(web, here.endpoint);
    a.endpoints.pop();
  });

  await t.test('and forgets what the others do not confirm', async (t) => {
    t.ok(a1.container.pings(b1.ip));
    await delay(HEARD_MS);
    await a.repair();
    await nextTurn();
    t.notMatch(inKernel(), b1.ip);
    t.notOk(a1.container.pings(b1.ip));
    t.same(await a.repair(), []);
  });
});
