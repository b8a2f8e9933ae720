//   host a 10.99.1.1 ── router ── host b 10.99.2.2
//   [fabric]  a1 a2(fixed)        [fabric]  b1           a2: on a network whose MTU its user has chosen
import { test } from 'tap';
import { familyOf } from '../../base/prefix.ts';
import { bridgeEnd, overlayBridge, overlayTunnel } from '../names.ts';
import { SharedState, Underlay, network, nodeInfo, until } from '../testbed.ts';
import { createMtus, underlayOf } from './mtu.ts';
import { Node, type Container } from './testbed.ts';

test('what the underlay carries', async (t) => {
  const node = (number: number, more: object = {}) => ({ ...nodeInfo(`n${number}`, number, `10.0.0.${number}`), ...more });
  const self = node(1);
  const of = (peers: ReturnType<typeof node>[], routes: Record<string, number> = {}, found: number[] = []) => underlayOf(self, peers, (ip) => routes[ip], found);
  t.same(of([]), { said: 1500, carried: 1500, told: undefined }, 'alone');
  t.same(of([node(2), node(3, { underlayMtu: 1400 })]), { said: 1400, carried: 1400, told: undefined }, 'the smallest interface of all, which its own node tells');
  t.same(of([node(2), node(3)], { '10.0.0.2': 1300 }), { said: 1300, carried: 1300, told: 1300 }, 'a route of this node, which nobody else knows');
  t.same(of([node(2, { pathMtu: 1350 }), node(3)]), { said: 1500, carried: 1350, told: undefined }, 'what another node knows of its ways, and is not told on');
  t.same(of([node(2), node(3)], {}, [1280]), { said: 1500, carried: 1280, told: 1280 }, 'what was found to get through');
  t.same(of([node(2, { underlayMtu: 1200 })], {}, [1280]), { said: 1200, carried: 1200, told: 1280 });

  let told: number | undefined;
  let peers = [node(2)];
  const mtus = createMtus({ self: () => ({ ...self, pathMtu: told }), peers: () => peers, routeMtu: () => undefined, found: () => [], tell: (mtu) => (told = mtu) });
  const both = network('both', 'overlay', '10.20.0.0/24');
  both.subnets.push({ subnet: 'fd20::/64' });
  t.equal(familyOf(both.subnets[1]!.subnet), 6);
  const [four, own] = [network('four', 'overlay', '10.21.0.0/24'), network('own', 'overlay', '10.22.0.0/24', { options: { 'weft.mtu': '1000' } })];
  t.equal(mtus.look(), false, 'the first look');
  t.equal(mtus.of(four), 1450);
  peers = [node(2, { underlayMtu: 1100 })];
  t.equal(mtus.of(four), 1450, 'as of the last look');
  t.equal(mtus.look(), true);
  t.equal(mtus.look(), false);
  t.same([four, both, own].map(mtus.of), [1050, 1280, 1000], 'a link with IPv6 has its least (RFC 8200 §5); what its user chose stays');
});

test('a change of the underlay reaches running containers', async (t) => {
  const underlay = new Underlay();
  t.teardown(() => underlay.remove());
  const shared = new SharedState();
  const networks = [network('web', 'overlay', '10.20.0.0/24', { vni: 0x800001 }), network('fixed', 'overlay', '10.21.0.0/24', { vni: 0x800002, options: { 'weft.mtu': '1420' } })] as const;
  const [web, fixed] = networks;
  const [a, b] = [new Node(underlay, shared, [...networks], 'a', 1, 1), new Node(underlay, shared, [...networks], 'b', 2, 2)];
  t.teardown(() => Promise.all([a, b].map((node) => node.purge())));
  for (const node of [a, b]) for (const each of networks) await node.driver.createNetwork(each);
  const attach = async (node: Node, name: string, on: typeof web, ip: string): Promise<Container> => {
    const made = await node.attach(name, on, ip);
    made.endpoint.sandbox = made.container.path;
    return made;
  };
  const [a1, a2, b1] = [await attach(a, 'a1', web, '10.20.0.11'), await attach(a, 'a2', fixed, '10.21.0.12'), await attach(b, 'b1', web, '10.20.0.21')];
  const inside = ({ container }: Container): number => container.rtnl.link('eth0')!.mtu;
  const mtusOf = (node: Node, on: typeof web, { endpoint }: Container): number[] => [overlayBridge(on.id), overlayTunnel(on.id), bridgeEnd(endpoint.id)].map((name) => node.fabric.rtnl.link(name)!.mtu);
  const uplinkOf = (node: Node): number[] => [node.space.rtnl.link('weft-up')!.mtu, node.fabric.rtnl.link('uplink')!.mtu, node.fabric.rtnl.link('weft-in')!.mtu];
  const largest = (from: Container, to: Container, mtu: number): boolean => from.container.pings(to.ip, '-s', String(mtu - 28));
  for (const node of [a, b]) t.same(await node.repair(), []);
  t.same([inside(a1), inside(a2), inside(b1)], [1450, 1420, 1450]);

  await t.test('an interface that carries less, elsewhere', async (t) => {
    b.tell({ underlayMtu: 1400 });
    t.ok(await until(() => uplinkOf(a)[0] === 1350), 'the uplink follows at once');
    t.equal(a.mtuChanges, 1, 'and a repair is asked for');
    for (const node of [a, b]) t.same(await node.repair(), [], 'which calls nothing broken');
    t.same([inside(a1), inside(b1)], [1350, 1350]);
    t.same(mtusOf(a, web, a1), [1350, 1350, 1350]);
    t.same(uplinkOf(a), [1350, 1350, 1350]);
    t.same([inside(a2), ...mtusOf(a, fixed, a2)], [1420, 1420, 1420, 1420], 'what its user has chosen stays');
    t.ok(largest(a1, b1, 1350));
    t.same(await a.repair(), []);
  });

  await t.test('a route that carries less: all nodes know', async (t) => {
    a.space.run('ip', 'route', 'add', b.address, 'via', '10.99.1.201', 'mtu', '1300');
    for (const node of [a, b]) t.same(await node.repair(), []);
    t.same([inside(a1), inside(b1)], [1250, 1250]);
    a.space.run('ip', 'route', 'del', b.address);
  });

  await t.test('a container that has chosen less keeps it, and follows when it has more', async (t) => {
    b1.container.run('ip', 'link', 'set', 'eth0', 'mtu', '1200');
    b.tell({ underlayMtu: 1500 });
    for (const node of [a, b]) t.same(await node.repair(), []);
    t.same([inside(a1), inside(b1)], [1450, 1200], 'raised, where nobody else has a say');
    t.same(mtusOf(b, web, b1), [1450, 1450, 1450]);
    b.tell({ underlayMtu: 1200 });
    for (const node of [a, b]) await node.repair();
    t.same([inside(a1), inside(b1)], [1150, 1150]);
    b.tell({ underlayMtu: 1500 });
    for (const node of [a, b]) await node.repair();
    t.same([inside(a1), inside(b1)], [1450, 1450]);
    t.ok(largest(a1, b1, 1450));
  });

  await t.test('while weftd was away', async (t) => {
    a.stop();
    b.tell({ underlayMtu: 1400 });
    a.start();
    await a.repair();
    t.same([inside(a1), ...mtusOf(a, web, a1)], [1350, 1350, 1350, 1350]);
    a.stop();
    b.tell({ underlayMtu: 1500 });
    a.start();
    t.match((await a.repair()).join('\n'), /we-.* had another mtu/);
    t.same([inside(a1), ...mtusOf(a, web, a1)], [1450, 1450, 1450, 1450]);
    t.same(await a.repair(), []);
  });

  await t.test('a sandbox that is not there keeps its port large', async (t) => {
    a1.endpoint.sandbox = '/run/netns/weft-gone';
    b.tell({ underlayMtu: 1400 });
    t.same(await a.repair(), []);
    t.same([inside(a1), ...mtusOf(a, web, a1)], [1450, 1350, 1350, 1450], 'it goes on sending what fits that');
    a1.endpoint.sandbox = a1.container.path;
    await a.repair();
    t.same([inside(a1), ...mtusOf(a, web, a1)], [1350, 1350, 1350, 1350], 'until it is reached');
  });
});
