/** Three nodes on real sockets and disks. */
import { join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { test } from 'tap';
import { systemClock as clock } from '../base/clock.ts';
import { silentLogger as log } from '../base/log.ts';
import { systemRandom as random } from '../base/random.ts';
import type { Address } from '../gossip/messages.ts';
import { openTransport } from '../gossip/net-transport.ts';
import { openLocalStore } from '../store/local.ts';
import { startCluster } from './cluster.ts';

void test('three nodes on loopback addresses', async (t) => {
  const directory = t.testdir();
  const addresses: Address[] = [];
  const start = async (i: number) => {
    const transport = await openTransport({ bind: { host: `127.0.2.${20 + i}`, port: addresses[i]?.port ?? 0 } });
    addresses[i] = transport.address;
    const local = openLocalStore(join(directory, `${i}.db`));
    const cluster = startCluster({ node: { id: `id${i}`, name: `host${i}` }, transport, keys: [Buffer.alloc(32, 1)], seeds: async () => addresses, clock, random, log, local });
    return { ...cluster, close: () => cluster.close().then(() => local.close()), leave: () => cluster.leave().then(() => local.close()) };
  };
  const nodes = [await start(0), await start(1), await start(2)];
  t.teardown(() => Promise.all(nodes.map((node) => node.close())));
  const eventually = async (what: string, condition: () => boolean): Promise<void> => {
    for (let i = 0; i < 200 && !condition(); i++) await wait(50);
    t.ok(condition(), what);
  };
  const everywhere = (keys: string[]): boolean => nodes.every(({ state }) => state.list('endpoint').map(({ key }) => key).sort().join() === keys.join());

  nodes.forEach(({ state }, i) => {
    for (let each = 0; each < 20; each++) state.publish('endpoint', `${i}-${each}`, { networkId: 'n', endpointId: `${i}-${each}`, ip: '10.1.0.2', mac: '02:42:0a:01:00:02' });
    state.ready();
  });
  const keys = [0, 1, 2].flatMap((i) => Array.from({ length: 20 }, (_, each) => `${i}-${each}`)).sort();
  await eventually('all see all', () => everywhere(keys));

  await nodes[2]!.close();
  nodes.pop();
  await eventually('the records of the one that failed are hidden', () => everywhere(keys.filter((key) => !key.startsWith('2'))));
  nodes.push(await start(2));
  await eventually('they return with it', () => nodes[0]!.state.list('endpoint').length === 60);
  nodes[2]!.state.ready();
  await eventually('what it did not say again is void', () => everywhere(keys.filter((key) => !key.startsWith('2'))));
  await nodes.pop()!.leave();
  await eventually('it has left', () => nodes.every(({ state }) => state.members().find(({ id }) => id === 'id2')?.state === 'left'));
});
