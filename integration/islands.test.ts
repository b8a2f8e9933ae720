/**
 * Four hosts, two on each side of a router: h1 and h3, h2 and h4. Nobody has a list of seeds. The router is closed until each
 * side has given up the other, one node starts anew with nothing on its disk, and the router opens again.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join, resolve } from 'node:path';
import { createInterface } from 'node:readline';
import tap, { type Test, test } from 'tap';
import type { Host } from './lab/host.ts';
import { createLab } from './lab/lab.ts';
import { bothWays, createPartitions } from './lab/partitions.ts';
import { until } from './lab/run.ts';

tap.setTimeout(180_000);

const ROOT = resolve(import.meta.dirname, '..');
const PORT = 7950;

interface View { /** Names of those that are there. */ alive: string[]; dead: string[]; endpoints: string[]; names: string[] }
interface Node { view(): Promise<View>; /** It has no seeds any more. */ forget(): Promise<View>; kill(): Promise<void> }

/** A member in a process of its own on that host, with an endpoint and a name. Where it looks for others: once every five seconds at least. */
async function start(t: Test, host: Host, disk: string, seeds: readonly Host[]): Promise<Node> {
  const child = spawn('ip', ['netns', 'exec', host.namespace, process.execPath, '--input-type=module', '--eval', `
    import { createInterface } from 'node:readline';
    import { systemClock as clock } from '${ROOT}/base/clock.ts';
    import { silentLogger as log } from '${ROOT}/base/log.ts';
    import { systemRandom as random } from '${ROOT}/base/random.ts';
    import { startCluster } from '${ROOT}/cluster/cluster.ts';
    import { openTransport } from '${ROOT}/gossip/net-transport.ts';
    import { openLocalStore } from '${ROOT}/store/local.ts';
    const [name, address] = ['${host.name}', '${host.address}'];
    let seeds = ${JSON.stringify(seeds.map(({ address }) => ({ host: address, port: PORT })))};
    const { state, gossip } = startCluster({
      node: { id: 'id-' + name, name }, transport: await openTransport({ bind: { host: address, port: ${PORT} } }), keys: [Buffer.alloc(32, 7)],
      seeds: async () => seeds, clock, random, log, local: openLocalStore('${disk}'), tuning: { rejoinMaxInterval: 5_000 },
    });
    state.publish('endpoint', name, { networkId: 'net', endpointId: name, ip: address, mac: '02:42:0a:01:00:02' });
    state.publish('name', name, { networkId: 'net', networkName: 'net', endpointId: name, ip: address, name: 'on-' + name, names: [], service: '' });
    state.ready();
    for await (const line of createInterface({ input: process.stdin })) {
      if (line === 'forget') seeds = [];
      const named = (...states) => gossip.members().filter((member) => states.includes(member.state)).map(({ meta }) => meta.toString()).sort();
      console.log(JSON.stringify({
        alive: named('alive'), dead: named('dead'),
        endpoints: state.list('endpoint').map(({ key, value }) => key + ' ' + value.ip).sort(), names: state.list('name').map(({ key, value }) => key + ' ' + value.name).sort(),
      }));
    }
  `], { stdio: ['pipe', 'pipe', 'inherit'] });
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const ended = once(child, 'exit');
  const ask = async (what: string): Promise<View> => {
    child.stdin.write(`${what}\n`);
    const { value, done } = await lines.next();
    if (done) throw new Error(`the node of ${host.name} is gone`);
    return JSON.parse(value as string) as View;
  };
  const kill = async (): Promise<void> => {
    child.kill('SIGKILL');
    await ended;
  };
  t.teardown(kill);
  await ask('view');
  return { view: () => ask('view'), forget: () => ask('forget'), kill };
}

test('two islands merge by themselves, although nobody has a list of seeds and one node starts with nothing', async (t) => {
  const lab = await createLab({ name: 'islands', hosts: 4 });
  t.teardown(() => lab.destroy());
  const disks = t.testdir({});
  const partitions = await createPartitions(lab);
  const [h1, h2, h3, h4] = lab.hosts as [Host, Host, Host, Host];
  const began = Date.now();
  const nodes = new Map<Host, Node>();
  for (const host of lab.hosts) nodes.set(host, await start(t, host, join(disks, `${host.name}.db`), [h1]));

  const see = (hosts: readonly Host[], those: readonly Host[], timeoutMs: number): Promise<unknown> => {
    const alive = those.map(({ name }) => name).sort();
    const expected = [alive, those.map(({ name, address }) => `${name} ${address}`).sort(), alive.map((name) => `${name} on-${name}`)].join();
    return until(`${hosts.map(({ name }) => name).join()} see ${alive.join()} and no other`, async () => {
      for (const host of hosts) {
        const view = await nodes.get(host)!.view();
        if ([view.alive, view.endpoints, view.names].join() !== expected) throw new Error(`${host.name}: ${JSON.stringify(view)}`);
      }
      return true;
    }, timeoutMs, 100);
  };
  await see(lab.hosts, lab.hosts, 30_000);
  for (const node of nodes.values()) await node.forget();

  const heal = await partitions.cut([h1, h3].flatMap((a) => [h2, h4].flatMap((b) => bothWays(a, b))));
  await see([h1, h3], [h1, h3], 30_000);
  await see([h2, h4], [h2, h4], 30_000);
  t.same((await nodes.get(h1)!.view()).dead, ['h2', 'h4'], 'each side takes the other for dead');
  t.same((await nodes.get(h2)!.view()).dead, ['h1', 'h3'], 'and the other way round');
  await nodes.get(h4)!.kill();
  nodes.set(h4, await start(t, h4, join(disks, 'new.db'), []));
  await see([h2, h4], [h2, h4], 30_000);
  t.pass('a node that starts with no seeds and no memory is found by its own side');

  const healed = Date.now();
  await heal();
  await see(lab.hosts, lab.hosts, 30_000);
  t.pass(`all see all members, endpoints and names ${((Date.now() - healed) / 1000).toFixed(1)} s after the cut (${((Date.now() - began) / 1000).toFixed(1)} s in all)`);
});
