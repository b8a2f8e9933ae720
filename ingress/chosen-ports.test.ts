import { test } from 'tap';
import type { Endpoint, PortMapping } from '../cnm/model.ts';
import { until } from '../drivers/testbed.ts';
import { type MeshHost, container, meshScene, port } from './testbed.ts';

test('ports that are chosen', async (t) => {
  const { a, b, store } = await meshScene(t);

  t.test('a port left to us; addresses; families', async (t) => {
    const dynamic = container('d1', '10.20.0.41', port(0, 80, { hostIp: '0.0.0.0' }), port(0, 80, { hostIp: '::' }));
    const chosen = await a.publish(dynamic, 'd');
    t.equal(chosen.length, 1, 'named once for each family, published once');
    t.ok(chosen[0]!.hostPort >= 49152 && chosen[0]!.hostPort <= 65535, String(chosen[0]!.hostPort));
    t.same(await a.publish(dynamic, 'd'), chosen);
    const [other] = await b.publish(container('d2', '10.20.0.42', port(0, 80)), 'd2');
    t.not(other!.hostPort, chosen[0]!.hostPort, 'the same random numbers, another port');
    await t.rejects(a.publish(container('d3', '10.20.0.43', port(80, 80, { hostIp: '2001:db8::1' })), 'd'), { code: 'WEFT-FEATURE-MISSING' });
    t.same(await a.publish(container('d4', '10.20.0.44'), 'd'), [], 'without ports there is nothing to do');
    await a.revoke(dynamic);
    await b.revoke(container('d2', ''));
  });

  t.test('a range: each container gets the first port that is free on all nodes', async (t) => {
    const range = (containerPort: number, last: number, more: Partial<PortMapping> = {}): PortMapping => port(8000, containerPort, { hostPortEnd: last, ...more });
    const chosen = async (node: MeshHost, each: Endpoint, service: string): Promise<number[]> => (await node.publish(each, service)).map(({ hostPort }) => hostPort);
    const [r1, r2, r3, r4] = [1, 2, 3, 4].map((i) => container(`r${i}`, `10.20.0.6${i}`, range(80, 8002)));
    const both = await Promise.all([chosen(a, r1!, 'r'), chosen(b, r2!, 'r')]);
    t.same(both.flat().sort(), [8000, 8001], 'at the same moment, of one service, on two nodes: one each');
    t.same(await chosen(a, r3!, 'other'), [8002]);
    await t.rejects(b.publish(r4!, 'r'), { code: 'WEFT-PORT-RANGE', message: /8000-8002\/tcp/ });
    await a.revoke(r1!);
    t.same(await chosen(b, r4!, 'r'), both[0], 'what one gives up another gets');
    for (const [node, each] of [[b, r2], [a, r3], [b, r4]] as const) await node.revoke(each!);

    const mixed = container('r5', '10.20.0.65', port(0, 83), range(81, 8002), range(82, 8002), port(8000, 80), range(81, 8001, { protocol: 'udp' }));
    const got = new Map((await a.publish(mixed, 'r')).map((each) => [`${each.containerPort}/${each.protocol}`, each.hostPort]));
    t.same([80, 81, 82].map((each) => got.get(`${each}/tcp`)), [8000, 8001, 8002], 'those that leave no choice come first');
    t.equal(got.get('81/udp'), 8000);
    await a.revoke(mixed);
    await t.rejects(a.publish(container('r6', '10.20.0.66', port(8000, 80), port(8000, 81)), 'r'), { code: 'WEFT-PORT-TWICE', message: /8000\/tcp.*80 .*81 / });
    t.same((await store.range('ports/')).entries, []);
    await until(() => a.free(8000));
  });
});
