/**
 * So many nodes of ours in this process, LAN profile, on 127.1.x.y of a network namespace in which nothing else talks;
 * measured as integration/memberlist-peer/bench.go measures Go's. Ends with one JSON line.
 *
 *   node bench/gossip-nodes.ts NODES [KILLS STEADY_SECONDS]      (without the latter only how long joining takes)
 */
import { setTimeout as wait } from 'node:timers/promises';
import { readFileSync } from 'node:fs';
import { systemClock as clock } from '../base/clock.ts';
import { silentLogger as log } from '../base/log.ts';
import { systemRandom as random } from '../base/random.ts';
import { createGossip, type Gossip } from '../gossip/gossip.ts';
import { openTransport } from '../gossip/net-transport.ts';

const count = Number(process.argv[2] ?? 10);
const kills = Number(process.argv[3] ?? 0);
/** How long the quiet cluster is looked at. */
const steadyMs = Number(process.argv[4] ?? 0) * 1_000;
const PORT = 7946;
const CASTS = 9;

interface Measured { gossip: Gossip; heard: Map<string, number>; lost: Map<string, number>; killed: boolean }

async function start(i: number): Promise<Measured> {
  const heard = new Map<string, number>();
  const lost = new Map<string, number>();
  const transport = await openTransport({ bind: { host: `127.1.${Math.floor(i / 250)}.${1 + (i % 250)}`, port: PORT } });
  const gossip = createGossip({
    name: `node-${String(i).padStart(3, '0')}`, transport, clock, random, log,
    delegate: {
      // Passed on once, as the Go peer does.
      onMessage: (message) => {
        const text = message.toString();
        if (heard.has(text)) return;
        heard.set(text, performance.now());
        gossip.broadcast(message);
      },
    },
  });
  gossip.watch(({ type, member }) => void (type === 'leave' && !lost.has(member.name) && lost.set(member.name, performance.now())));
  return { gossip, heard, lost, killed: false };
}

async function until(limitMs: number, condition: () => boolean): Promise<void> {
  for (const end = performance.now() + limitMs; performance.now() < end && !condition();) await wait(2 + count / 10);
}

/** Bytes and packets that the loopback device has carried, with link and IP headers. */
function loopback(): [bytes: number, packets: number] {
  const counters = /lo:\s*(\d+)\s+(\d+)/.exec(readFileSync('/proc/net/dev', 'utf8'));
  return [Number(counters?.[1]), Number(counters?.[2])];
}

const processorMs = (): number => {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1_000;
};

const memoryBefore = process.memoryUsage().rss;
const nodes: Measured[] = [];
for (let i = 0; i < count; i++) nodes.push(await start(i));
const present = (): Measured[] => nodes.filter(({ killed }) => !killed);
/** Seconds from `start` until the last of those who are there. */
const lastOf = (since: number, moment: (node: Measured) => number | undefined): number => Math.max(...present().map((node) => ((moment(node) ?? Infinity) - since) / 1_000));

const first = { host: '127.1.0.1', port: PORT };
let since = performance.now();
for (const { gossip } of nodes.slice(1)) void gossip.join([first]);
await until(360_000, () => nodes.every(({ gossip }) => gossip.members().length === count));
const result: Record<string, number | number[]> = { join_s: (performance.now() - since) / 1_000 };

if (kills > 0) {
  await wait(8_000);
  const broadcasts: number[] = [];
  for (let k = 0; k < CASTS; k++) {
    const message = String(k).padEnd(64);
    const source = nodes[(k * 7) % count]!;
    since = performance.now();
    source.heard.set(message, since);
    source.gossip.broadcast(Buffer.from(message));
    await until(30_000, () => nodes.every(({ heard }) => heard.has(message)));
    broadcasts.push(lastOf(since, ({ heard }) => heard.get(message)) * 1_000);
    await wait(1_000);
  }
  await wait(8_000);
  const [cpu, [bytes, packets]] = [processorMs(), loopback()];
  since = performance.now();
  await wait(steadyMs);
  const each = (total: number): number => total / (performance.now() - since) * 1_000 / count;
  const [bytesAfter, packetsAfter] = loopback();
  Object.assign(result, {
    broadcast_ms: broadcasts, bytes_per_s: each(bytesAfter - bytes), packets_per_s: each(packetsAfter - packets), cpu_percent: each(processorMs() - cpu) / 10,
    memory_kib: (process.memoryUsage().rss - memoryBefore) / 1024 / count,
  });
  const detections: number[] = [];
  for (let k = 0; k < kills; k++) {
    const victim = nodes[count - 1 - k]!;
    victim.killed = true;
    since = performance.now();
    await victim.gossip.shutdown();
    await until(120_000, () => present().every(({ lost }) => lost.has(victim.gossip.name)));
    detections.push(lastOf(since, ({ lost }) => lost.get(victim.gossip.name)));
    await wait(2_000);
  }
  result['detect_s'] = detections;
}
console.log(JSON.stringify(result));
process.exit(0);
