//   node a (10.99.1.1) ── router ── node b (10.99.2.2)
//   slow, fast                      far                   web 10.20.0.0/24: 20 Mbit/s to each container, 8 from each; fast has its own
import { setImmediate as nextTurn } from 'node:timers/promises';
import { type Test, test } from 'tap';
import type { Network } from '../cnm/model.ts';
import { bridgeEnd, limiter } from './names.ts';
import { wantedRates } from './options.ts';
import { Node } from './overlay/testbed.ts';
import { SharedState, Space, Underlay, endpoint, network, plugIn, until } from './testbed.ts';

const underlay = new Underlay();
const web = network('web', 'overlay', '10.20.0.0/24', { vni: 0x800001, options: { 'weft.rate.in': '20mbit', 'weft.rate.out': '8mbit' } });
const networks: Network[] = [web];

/** Says what came in each second, but for the first: what a bucket holds at the start is gone by then. */
const RECEIVER = `
require("net").createServer((socket) => {
  let bytes = 0, since = 0;
  socket.on("data", (chunk) => (bytes += chunk.length)).on("error", () => {});
  setInterval(() => {
    const now = performance.now();
    if (since) console.log("bits " + 8000 * bytes / (now - since));
    bytes = 0, since = now;
  }, 1000);
}).listen(5201, "0.0.0.0", () => console.log("up"));`;
const SENDER = `
const socket = require("net").connect(5201, process.argv[1]);
const block = Buffer.alloc(65536);
const fill = () => { while (socket.write(block)); };
socket.on("connect", fill).on("drain", fill).on("error", () => process.exit()).on("close", () => process.exit());`;

/** What TCP may lose and send again: no second is like another. */
const [LEAST, MOST] = [0.6, 1.4];

/** Sends until two seconds in a row have had `mbit`, as the receiver sees it; a machine whose processor is taken away for a while is given time. No two seconds have more. */
async function within(t: Test, from: Space, to: Space, address: string, mbit: number, what: string): Promise<void> {
  const receiver = to.serve(process.execPath, '-e', RECEIVER);
  await until(() => receiver.out().includes('up'), 20_000);
  const sender = from.serve(process.execPath, '-e', SENDER, address);
  const pairs = (): number[] => {
    const seconds = [...receiver.out().matchAll(/bits (\S+)/g)].map(([, bits]) => Number(bits) / 1e6);
    return seconds.slice(1).map((second, i) => (seconds[i]! + second) / 2);
  };
  const isEnough = (rate: number): boolean => rate > mbit * LEAST;
  await until(() => pairs().some(isEnough), 20_000);
  sender.kill();
  receiver.kill();
  const measured = `${what}: ${pairs().map((rate) => rate.toFixed(1)).join(', ')} of ${mbit} Mbit/s`;
  t.ok(pairs().some(isEnough), measured);
  t.ok(pairs().every((rate) => rate < mbit * MOST), measured);
}

test('what endpoints may receive and send', async (t) => {
  t.teardown(() => underlay.remove());
  const shared = new SharedState();
  const a = new Node(underlay, shared, networks, 'a', 1, 1);
  const b = new Node(underlay, shared, networks, 'b', 2, 2);
  t.teardown(() => Promise.all([a, b].map((node) => node.purge())));
  for (const node of [a, b]) await node.driver.createNetwork(web);
  const slow = await a.attach('slow', web, '10.20.0.11');
  const far = await b.attach('far', web, '10.20.0.21');
  const fast = { space: underlay.space('fast'), made: endpoint('fast', web, '10.20.0.12/24', { options: { 'weft.rate.in': '40mbit', 'weft.rate.out': '1gbit' } }) };
  await a.driver.createEndpoint(web, fast.made);
  await plugIn(a.space, fast.space, fast.made, await a.driver.join(web, fast.made));
  a.endpoints.push(fast.made);
  a.state.publish('endpoint', fast.made.id, { networkId: web.id, endpointId: fast.made.id, ip: '10.20.0.12', mac: fast.made.mac });
  await nextTurn();

  await within(t, slow.container, far.container, far.ip, 8, 'sending');
  await within(t, fast.space, far.container, far.ip, 20, 'receiving, from another host');
  await within(t, slow.container, fast.space, '10.20.0.12', 8, 'sending on one host');
  await within(t, fast.space, slow.container, slow.ip, 20, 'receiving on one host');

  const { rtnl } = a.fabric;
  const indexOf = (name: string): number => rtnl.link(name)!.index;
  t.equal(rtnl.tokenBucketRate(indexOf(bridgeEnd(fast.made.id))), 5_000_000, 'the endpoint\'s own options count before its network\'s');
  t.same(await a.repair(), [], 'all is as it should be');
  const port = bridgeEnd(slow.endpoint.id);
  for (const [how, words] of [
    [['tc', 'qdisc', 'del', 'dev', port, 'root'], /was not limited to 20000000/], [['tc', 'qdisc', 'replace', 'dev', limiter(slow.endpoint.id), 'root', 'tbf', 'rate', '1gbit', 'burst', '64k', 'latency', '50ms'], /was not limited to 8000000/],
    [['tc', 'filter', 'del', 'dev', port, 'ingress', 'pref', '2'], /lets in was not limited/], [['ip', 'link', 'del', limiter(slow.endpoint.id)], /wl-.* was missing/],
  ] as const) {
    a.inFabric(...how);
    t.match(await a.repair(), [words]);
    t.same(await a.repair(), [], how.join(' '));
  }
  await within(t, slow.container, far.container, far.ip, 8, 'afterwards');
  slow.container.run('ip', 'address', 'add', '10.20.0.99/32', 'dev', 'eth0');
  t.notOk(slow.container.pings(far.ip, '-I', '10.20.0.99'), 'the source is looked at before');

  await a.driver.deleteEndpoint(web, slow.endpoint);
  t.equal(rtnl.link(limiter(slow.endpoint.id)), undefined, 'the limits go with the endpoint');
  a.endpoints.splice(a.endpoints.indexOf(slow.endpoint), 1);
});

test('rates as they are written', async (t) => {
  const rateOf = (value: string): number | undefined => wantedRates({ ...web, options: { 'weft.rate.in': value } }).in;
  for (const [value, bits] of [['10mbit', 1e7], ['500kbit', 5e5], ['1.5Gbit', 1.5e9], ['9000', 9000], ['64000bit', 64000]] as const) t.equal(rateOf(value), bits, value);
  for (const value of ['', 'fast', '10', '-1mbit', '10mb', '1kbit', '10 mbit']) t.throws(() => rateOf(value), { code: 'WEFT-OPTION-VALUE' }, `'${value}'`);
  t.same(wantedRates({ ...web, options: {} }), {});
  t.same(wantedRates(web, { options: { 'weft.rate.out': '1gbit' } }), { in: 2e7, out: 1e9 });
});
