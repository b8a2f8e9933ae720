/** One network with 10,000 endpoints on 20 other nodes: what is in the kernel of a node that joins it, and how much of it goes in one turn of the event loop. */
import { setImmediate as nextTurn } from 'node:timers/promises';
import { test } from 'tap';
import type { Rtnl } from '../../linux/types.ts';
import { overlayTunnel } from '../names.ts';
import { SharedState, Underlay, endpoint, network, nodeInfo } from '../testbed.ts';
import { nodeAddress } from './addressing.ts';
import { REMOTE_TABLE } from './routed-tunnel.ts';
import { Node } from './testbed.ts';

const NODES = 20;
/** Of each node. */
const CONTAINERS = 500;
const TOTAL = NODES * CONTAINERS;
/** Of each kind of entries: well below what takes five milliseconds. */
const MOST_PER_TURN = 64;
const WRITES = ['replaceFdb', 'deleteFdb', 'replaceNeighbours', 'deleteNeighbours', 'replaceRoutes', 'deleteRoutes'] as const;
const web = network('web', 'overlay', '10.20.0.0/16', { vni: 0x800001 });

/** Node 1 is this one; the others are 2 and up. */
const vtepOf = (number: number): string => `172.20.0.${number}`;
const place = (number: number, n: number): { ip: string; mac: string; key: string } => {
  const [high, low] = [((number - 1) * CONTAINERS + n) >> 8, ((number - 1) * CONTAINERS + n) & 255];
  return { ip: `10.20.${high}.${low}`, mac: `02:42:0a:14:${[high, low].map((byte) => byte.toString(16).padStart(2, '0')).join(':')}`, key: `e${number}-${n}` };
};

/** Counts what is written to the kernel: in all, and at most in one turn. */
function countWrites(rtnl: Rtnl) {
  const counts = Object.fromEntries(WRITES.map((name) => [name, { total: 0, inThisTurn: 0, most: 0 }]));
  for (const name of WRITES) {
    const write = rtnl[name] as (things: readonly unknown[]) => void;
    rtnl[name] = (things: readonly unknown[]) => {
      const count = counts[name]!;
      if (count.inThisTurn === 0) setImmediate(() => (count.inThisTurn = 0));
      count.total += things.length;
      count.inThisTurn += things.length;
      count.most = Math.max(count.most, count.inThisTurn);
      write(things);
    };
  }
  return {
    most: () => Math.max(...Object.values(counts).map(({ most }) => most)),
    /** Since the last call. */
    written: () => {
      const totals = Object.entries(counts).filter(([, { total }]) => total > 0).map(([name, { total }]) => [name, total]);
      for (const count of Object.values(counts)) count.total = 0;
      return Object.fromEntries(totals) as Record<string, number>;
    },
  };
}

test('a network with 10,000 endpoints on other nodes', async (t) => {
  const underlay = new Underlay();
  const shared = new SharedState();
  let node: Node | undefined;
  t.teardown(async () => {
    await node?.purge();
    underlay.remove();
  });
  const state = (number: number) => shared.of(`p${number}`);
  const publish = (number: number, { ip, mac, key }: ReturnType<typeof place>): void => state(number).publish('endpoint', key, { networkId: web.id, endpointId: key, ip, mac });
  const peers = Array.from({ length: NODES }, (_, i) => i + 2);
  for (const number of peers) state(number).publish('node', 'self', nodeInfo(`p${number}`, number, vtepOf(number)));
  node = new Node(underlay, shared, [web], 'a', 1, 1);
  const { driver, fabric: { rtnl } } = node;
  await driver.createNetwork(web);
  await node.repair();

  const { hostRtnl } = node.fabric;
  const { routeTo } = hostRtnl;
  let asked = 0;
  hostRtnl.routeTo = (ip) => {
    asked++;
    return routeTo(ip);
  };
  driver.setBackends([{ ip: '10.20.0.9', protocol: 'tcp', port: 80 }]);
  hostRtnl.routeTo = routeTo;
  t.equal(asked, 0, 'a published port of a container asks for the way to nobody');

  const { most, written } = countWrites(rtnl);
  const settled = async (): Promise<void> => {
    for (let i = 0; i < TOTAL / 8; i++) await nextTurn();
  };
  /** ip → who has it. */
  const wanted = new Map<string, { number: number; mac: string }>();
  /** Everything in the kernel of this node is what `wanted` says, and nothing besides. */
  const exact = (what: string): void => {
    const dev = rtnl.link(overlayTunnel(web.id))!.index;
    const all = [...wanted].sort(([a], [b]) => (a < b ? -1 : 1));
    const by = <T>(items: T[], key: (item: T) => string): string[] => items.map(key).sort();
    t.strictSame(by(rtnl.neighbours(dev), ({ ip, mac }) => `${ip} ${mac}`), by(all, ([ip, { mac }]) => `${ip} ${mac}`), `neighbours, ${what}`);
    t.strictSame(by(rtnl.fdb(dev), ({ mac, vtep, master }) => `${mac} ${vtep} ${master}`), by(all, ([, { mac, number }]) => `${mac} ${vtepOf(number)} true`), `forwarding entries, ${what}`);
    t.strictSame(by(rtnl.routes({ table: REMOTE_TABLE }), ({ dst, via }) => `${dst} ${via}`), by(all, ([ip, { number }]) => `${ip}/32 ${nodeAddress('10.255.0.0/16', number)}`), `routes, ${what}`);
  };

  for (const number of peers) {
    for (let n = 0; n < CONTAINERS; n++) {
      const at = place(number, n);
      publish(number, at);
      wanted.set(at.ip, { number, mac: at.mac });
    }
  }
  await settled();
  t.same(written(), { replaceRoutes: TOTAL }, 'before it has an endpoint there, a node has the host\'s routes to them');

  const first = endpoint('first', web, '10.20.0.9/16');
  const joined = node.driver.createEndpoint(web, first);
  node.endpoints.push(first);
  // While it is built, endpoints come, go and move.
  await nextTurn();
  for (let n = 0; n < 50; n++) {
    const [gone, moved] = [place(2, n), place(3, n)];
    state(2).withdraw('endpoint', gone.key);
    wanted.delete(gone.ip);
    state(3).withdraw('endpoint', moved.key);
    publish(4, { ...moved, key: `${moved.key}-again` });
    wanted.set(moved.ip, { number: 4, mac: moved.mac });
    publish(5, { ip: `10.20.200.${n}`, mac: `02:42:0a:14:c8:${n.toString(16).padStart(2, '0')}`, key: `new-${n}` });
    wanted.set(`10.20.200.${n}`, { number: 5, mac: `02:42:0a:14:c8:${n.toString(16).padStart(2, '0')}` });
    await nextTurn();
  }
  await joined;
  await settled();
  exact('after it joined');
  t.ok(most() <= MOST_PER_TURN, `at most ${most()} entries in one turn`);
  written();

  t.same(await node.repair(), [], 'nothing to mend');
  t.same(written(), {}, 'nor was anything written');

  const one = place(6, 0);
  state(6).withdraw('endpoint', one.key);
  wanted.delete(one.ip);
  await nextTurn();
  t.same(written(), { deleteNeighbours: 1, deleteRoutes: 1, deleteFdb: 1 }, 'one that goes');
  publish(7, { ...one, key: 'one-again' });
  wanted.set(one.ip, { number: 7, mac: one.mac });
  await nextTurn();
  t.same(written(), { replaceFdb: 1, replaceNeighbours: 1, replaceRoutes: 1 }, 'one that comes');

  const dev = rtnl.link(overlayTunnel(web.id))!.index;
  const [lost, wrong] = [place(8, 1), place(8, 2)];
  rtnl.deleteNeighbours([{ dev, ip: lost.ip, mac: lost.mac }]);
  rtnl.replaceFdb([{ dev, mac: wrong.mac, vtep: '172.20.0.99', master: true }]);
  rtnl.replaceNeighbours([{ dev, ip: '10.20.250.1', mac: '02:42:00:00:00:01' }]);
  rtnl.deleteRoutes([{ dst: `${lost.ip}/32`, table: REMOTE_TABLE }]);
  const foreign = node.repair();
  // What changes meanwhile is not taken for somebody's disturbance.
  await nextTurn();
  const last = place(9, 3);
  state(9).withdraw('endpoint', last.key);
  wanted.delete(last.ip);
  t.strictSame((await foreign).sort(), [
    `1 forwarding entries were missing or wrong (${wrong.mac})`, `1 neighbours were missing or wrong (${lost.ip})`, '1 neighbours were stale (10.20.250.1)', `1 routes were missing (${lost.ip}/32)`,
  ]);
  exact('after a repair');
});
