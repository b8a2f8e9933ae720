/**
 * A large cluster on the virtual clock: what memory and two cores cannot run in real time. All know all at the start; then
 * what a quiet second costs each, how long until all know of a change, and of a death. State exchanges, which nothing of
 * this needs and which are a third of a megabyte each way at 5,000 nodes, are left out. Ends with one JSON line.
 *
 *   node bench/gossip-virtual.ts NODES
 */
import { silentLogger as log } from '../base/log.ts';
import { seededRandom } from '../base/random.ts';
import { VirtualClock } from '../base/virtual-clock.ts';
import { createGossip, type Gossip, type Member } from '../gossip/gossip.ts';
import { MemoryNetwork } from '../gossip/memory-transport.ts';
import type { Address } from '../gossip/messages.ts';
import { OWN_VERSIONS } from '../gossip/versions.ts';

const count = Number(process.argv[2] ?? 1_000);
const QUIET_MS = 5_000;
const STEP_MS = 50;

const clock = new VirtualClock();
const random = seededRandom(1);
const network = new MemoryNetwork(clock, random);
const addressOf = (i: number): Address => ({ host: `10.${i >> 16}.${(i >> 8) & 255}.${i & 255}`, port: 7946 });
const incarnation = Math.floor(clock.wallNow() / 1_000);
const known = Array.from({ length: count }, (_, i): Member => ({ name: `n${i}`, address: addressOf(i), meta: Buffer.alloc(0), versions: OWN_VERSIONS, state: 'alive', incarnation, since: 0 }));
const nodes = known.map(({ name, address }): Gossip => createGossip({ name, transport: network.transport(address), clock, random, log, known, tuning: { pushPullInterval: 1e9 } }));

/** Milliseconds until the n-th of the nodes says so, for each n asked for. */
async function times(marks: readonly number[], says: (node: Gossip) => boolean): Promise<number[]> {
  const start = clock.now();
  const waiting = new Set(nodes);
  const reached: number[] = [];
  while (reached.length < marks.length && clock.now() - start < 120_000) {
    for (const node of waiting) if (says(node)) waiting.delete(node);
    while (reached.length < marks.length && nodes.length - waiting.size >= marks[reached.length]!) reached.push(clock.now() - start);
    if (reached.length < marks.length) await clock.advance(STEP_MS);
  }
  return reached;
}

await clock.advance(2_000);
const [packets, bytes] = [network.packets, network.packetBytes];
await clock.advance(QUIET_MS);
const perSecond = (total: number): number => total / (QUIET_MS / 1_000) / count;
const quiet = { packets_per_s: perSecond(network.packets - packets), packet_bytes_per_s: perSecond(network.packetBytes - bytes) };

void nodes[0]!.updateNode(Buffer.from('news'));
const [half, all] = await times([count / 2, count], (node) => node.member('n0')!.meta.length > 0);

const victim = nodes.pop()!;
await victim.shutdown();
const [first, last] = await times([1, count - 1], (node) => node.member(victim.name)!.state === 'dead');
console.log(JSON.stringify({ ...quiet, news_half_ms: half, news_all_ms: all, detect_first_ms: first, detect_all_ms: last }));
process.exit(0);
