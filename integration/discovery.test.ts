/**
 *   lan (a bridge: 10.97.0.0/24, on which multicast passes)
 *    |   |   |
 *   h1  h2  h3      on h3 an etcd of the user's, and a hash table's first node
 *
 * A cluster that has lost everything it knew of itself: the store is away, and no node remembers where others were.
 */
import { existsSync } from 'node:fs';
import { resolve } from 'node:path';
import tap, { type Test, test } from 'tap';
import type { StatusAnswer } from '../agent/api.ts';
import { startEtcd } from './lab/etcd.ts';
import type { Host, Service } from './lab/host.ts';
import { createLab, type Lab } from './lab/lab.ts';
import { must, until, wait } from './lab/run.ts';
import { ready, startWeftd, weft, weftJson } from './lab/weft.ts';

tap.setTimeout(240_000);

const ROOT = resolve(import.meta.dirname, '..');
const DHT_PORT = 7951;
/** Nodes that are alone ask after 1, 2 and 4 s, each time up to twice as late. */
const IN_VAIN_MS = 6_000;

interface Node { host: Host; service: Service; address: string }

const onLan = (number: number): string => `10.97.0.${number}`;

async function connectToLan(lab: Lab, number: number): Promise<void> {
  const [router, host] = [lab.namespace('router'), lab.namespace(`h${number}`)];
  await must(['ip', 'link', 'add', `lan${number}`, 'netns', router, 'type', 'veth', 'peer', 'name', 'eth1', 'netns', host]);
  await must(['ip', '-n', router, 'link', 'set', `lan${number}`, 'master', 'lan', 'up']);
  await must(['ip', '-n', host, 'addr', 'add', `${onLan(number)}/24`, 'dev', 'eth1']);
  await must(['ip', '-n', host, 'link', 'set', 'eth1', 'up']);
}

const seesAlive = async ({ host }: Node, { address }: Node): Promise<boolean> =>
  (await weftJson<StatusAnswer>(host, 'status')).members.some((member) => member.address === address && member.state === 'alive');

async function areTogether(t: Test, [a, b]: readonly [Node, Node], how: string): Promise<void> {
  const start = Date.now();
  await until(`they find each other ${how}`, async () => await seesAlive(a, b) && await seesAlive(b, a), 60_000, 200);
  t.pass(`they find each other ${how} (${((Date.now() - start) / 1000).toFixed(1)} s)`);
}

async function areApart(t: Test, [a, b]: readonly [Node, Node], why: string): Promise<void> {
  await wait(IN_VAIN_MS);
  t.notOk(await seesAlive(a, b) || await seesAlive(b, a), why);
}

/** They forget where others are, and start again. */
async function forget(nodes: readonly Node[], ...options: string[]): Promise<void> {
  for (const { service } of nodes) await service.kill();
  for (const node of nodes) {
    await node.host.must([process.execPath, '--eval', `
      const { DatabaseSync } = require('node:sqlite');
      new DatabaseSync('/var/lib/weft/local.db').exec("DELETE FROM entries WHERE key GLOB 'cache/nodes/*' OR key GLOB 'gossip/address/*'");
    `]);
    await change(node, ...options);
  }
  for (const node of nodes) await start(node);
}

async function change({ host }: Node, ...options: string[]): Promise<void> {
  const { code, stderr } = await weft(host, 'up', '--no-start', ...options);
  if (code !== 0) throw new Error(stderr);
}

async function start({ host, service }: Node): Promise<void> {
  await service.start();
  await ready(host);
}

test('a cluster whose list of nodes is of no use finds itself', async (t) => {
  const lab = await createLab({ name: 'discover', hosts: 3 });
  t.teardown(() => lab.destroy());
  await must(['ip', '-n', lab.namespace('router'), 'link', 'add', 'lan', 'up', 'type', 'bridge']);
  const etcd = await startEtcd(lab.host(3));
  const nodes: Node[] = [];
  for (const number of [1, 2]) {
    await connectToLan(lab, number);
    const host = lab.host(number);
    const address = onLan(number);
    await host.must([process.execPath, resolve(ROOT, 'dist/weft.cjs'), 'up', '--no-start', '--name', host.name, '--store', etcd.url, '--advertise', address, '--no-multicast']);
    nodes.push({ host, address, service: await startWeftd(host) });
    await ready(host);
  }
  const both = nodes as [Node, Node];
  const [h1] = both;
  await areTogether(t, both, 'through the store\'s list');
  await etcd.stop();

  await forget(nodes);
  await areApart(t, both, 'with nothing to ask and no store they do not');
  await h1.service.stop();
  await change(h1, '--seeds', both[1].address);
  await start(h1);
  await areTogether(t, both, 'by a seed that one of them is given');

  await forget(nodes, '--multicast', '--seeds=');
  await areTogether(t, both, 'by multicast');

  if (!existsSync(resolve(ROOT, 'node_modules/hyperdht'))) return t.comment('hyperdht is not installed');
  await connectToLan(lab, 3);
  lab.host(3).spawn([process.execPath, '--input-type=module', '--eval', `
    import DHT from ${JSON.stringify(resolve(ROOT, 'node_modules/hyperdht/index.js'))};
    await DHT.bootstrapper(${DHT_PORT}, '${onLan(3)}').ready();
  `]);
  await forget(nodes, '--no-multicast', '--dht', `${onLan(3)}:${DHT_PORT}`);
  await areTogether(t, both, 'through the hash table');

  // As it ships, without hyperdht beside it.
  await h1.service.stop();
  await h1.host.must(['mount', '-t', 'tmpfs', 'tmpfs', resolve(ROOT, 'node_modules/hyperdht')]);
  await start(h1);
  await until('it says what is missing', async () => (await h1.host.must(['cat', h1.service.log])).includes('WEFT-DISCOVERY-DHT'), 20_000);
  t.pass('without hyperdht weftd says so, and runs');
});
