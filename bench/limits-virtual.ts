/**
 * A cluster of N nodes on the virtual clock, each with its own record and its containers', sealed and joined as they are in
 * truth: how long until all know everything, until all know of one more container, and what a quiet second costs each.
 */
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { World, endpoint } from '../cluster/world-for-tests.ts';
import { addressOf } from '../gossip/world-for-tests.ts';
import { round } from './figures.ts';

/** Of each node. */
const CONTAINERS = 2;
const SEEDS = [1, 2, 3];
/** As hosts come up when a rack is switched on. */
const APART_MS = 50;
/** News of the joins goes round for a while longer: among 300 nodes for 35 s. */
const SETTLE_MS = 45_000;
const QUIET_MS = 5_000;
const LIMIT_MS = 120_000;

setFlagsFromString('--expose-gc');
const collectGarbage = runInNewContext('gc') as () => void;

function heap(): number {
  collectGarbage();
  const { heapUsed, arrayBuffers } = process.memoryUsage();
  return heapUsed + arrayBuffers;
}

export async function measureVirtually(nodes: number): Promise<Record<string, number>> {
  const started = performance.now();
  const before = heap();
  const world = new World(1);
  const all = Array.from({ length: nodes }, (_, i) => i + 1);
  for (const i of all) {
    const { state } = world.start(i, SEEDS);
    state.publish('node', 'self', { id: `id${i}`, name: `host${i}`, number: i, vtep: addressOf(i).host, underlayMtu: 1500, skippedPorts: [], occupied: [{ prefix: '10.0.0.0/16', by: 'the route by eth0' }, { prefix: '172.17.0.0/16', by: 'Docker network bridge' }] });
    for (let n = 0; n < CONTAINERS; n++) state.publish('endpoint', `e${i}-${n}`, endpoint(`e${i}-${n}`, `10.1.${i >> 8}.${i & 255}`));
    state.ready();
    await world.clock.advance(APART_MS);
  }
  const know = (records: number): boolean => all.every((i) => {
    const { state } = world.running.get(i)!;
    return state.members().length === nodes && state.list('endpoint').length === records;
  });
  const converge = await world.clock.advanceUntil(() => know(nodes * CONTAINERS), LIMIT_MS);
  const memory = (heap() - before) / nodes;
  await world.clock.advance(SETTLE_MS);
  const [bytes, packets] = [world.network.packetBytes, world.network.packets];
  await world.clock.advance(QUIET_MS);
  const perSecond = (total: number): number => total / (QUIET_MS / 1_000) / nodes;
  const quiet = { packets_per_s: perSecond(world.network.packets - packets), packet_bytes_per_s: perSecond(world.network.packetBytes - bytes) };
  world.running.get(nodes)!.state.publish('endpoint', 'news', endpoint('news'));
  const news = await world.clock.advanceUntil(() => know(nodes * CONTAINERS + 1), LIMIT_MS);
  await world.stop();
  return { converge_ms: converge, news_all_ms: news, ...quiet, memory_kib: memory / 1_024, machine_s: round((performance.now() - started) / 1_000, 1) };
}
