/**
 * One network with 10,000 endpoints on 20 other nodes: what that costs a node that joins it. Its fabric, bridge and tunnel are the
 * kernel's, its soft state is the agent's own, which gets the records as they come over the wire.
 *
 *   told_ms          from the first message about them until the host's routes to all of them are in the kernel; the node has no endpoint there yet
 *   join_ms          its first endpoint, which waits until all ways are in the kernel
 *   change_ms        an endpoint goes: from the message until its entries are out of the kernel
 *   compare_ms       a repair where nothing is wrong: done every 30 s
 *   *_turn_ms        the longest turn of the event loop meanwhile; `saved`: while they are written to the disk
 *   *_work_ms        the same without V8's pauses for its garbage, which fall into any turn
 *   told_bytes, joined_bytes   of weftd's heap for each remote endpoint, with all that soft state and driver keep of it
 *
 * Medians of ROUNDS (5). Half a minute.
 */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PerformanceObserver, type PerformanceEntry } from 'node:perf_hooks';
import { setTimeout as delay } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { systemClock } from '../base/clock.ts';
import { seededRandom } from '../base/random.ts';
import { silentLogger } from '../base/log.ts';
import { WEFTD_FLAGS } from '../cli/footprint.ts';
import { createSoftState, type ClusterState } from '../cluster/soft-state.ts';
import { pack, type Shipment } from '../cluster/owner.ts';
import { encodeMessage } from '../cluster/wire.ts';
import { overlayTunnel } from '../drivers/names.ts';
import { Node } from '../drivers/overlay/testbed.ts';
import { Underlay, endpoint, hex, network, nodeInfo } from '../drivers/testbed.ts';
import { openLocalStore } from '../store/local.ts';
import { median, report } from './figures.ts';

const ROUNDS = Number(process.env['ROUNDS'] ?? 5);
const NODES = 20;
/** Of each node. */
const CONTAINERS = 500;
const CHANGES = 50;
const MESSAGE_BYTES = 32 << 10;
/** Records are saved a second after they came (cluster/saved.ts). */
const SAVED_MS = 3_000;
const COMMAND = 'npm run bench -- scale';

// As weftd is started, without the optimizing compilers.
if (!process.execArgv.includes(WEFTD_FLAGS[0]!)) process.exit(spawnSync(process.execPath, [...WEFTD_FLAGS, import.meta.filename], { stdio: 'inherit' }).status ?? 1);

setFlagsFromString('--expose-gc');
const collectGarbage = runInNewContext('gc') as () => void;
const nextTurn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

async function heap(): Promise<number> {
  for (let i = 0; i < 3; i++) {
    await nextTurn();
    collectGarbage();
  }
  const { heapUsed, arrayBuffers } = process.memoryUsage();
  return heapUsed + arrayBuffers;
}

/** What is shorter is no candidate for the longest turn, and need not be kept. */
const LONG_MS = 0.5;

/** How long `doing` takes, the longest turn of the event loop meanwhile, and the longest without pauses for garbage. */
async function longestTurn(doing: () => Promise<unknown>): Promise<{ took: number; turn: number; work: number }> {
  const turns: { from: number; to: number }[] = [];
  const pauses: { from: number; to: number }[] = [];
  const note = (entries: readonly PerformanceEntry[]): void => void pauses.push(...entries.map(({ startTime, duration }) => ({ from: startTime, to: startTime + duration })));
  const observer = new PerformanceObserver((list) => note(list.getEntries()));
  observer.observe({ entryTypes: ['gc'] });
  let going = true;
  let last = performance.now();
  const look = (): void => {
    const now = performance.now();
    if (now - last > LONG_MS) turns.push({ from: last, to: now });
    last = now;
    if (going) setImmediate(look);
  };
  await nextTurn();
  const start = performance.now();
  last = start;
  setImmediate(look);
  await doing();
  const took = performance.now() - start;
  going = false;
  await nextTurn();
  note(observer.takeRecords());
  observer.disconnect();
  const paused = (turn: { from: number; to: number }): number => pauses.reduce((sum, { from, to }) => sum + Math.max(0, Math.min(to, turn.to) - Math.max(from, turn.from)), 0);
  const longest = (length: (turn: { from: number; to: number }) => number): number => Math.max(0, ...turns.map(length));
  return { took, turn: longest(({ from, to }) => to - from), work: longest((turn) => turn.to - turn.from - paused(turn)) };
}

const web = network('web', 'overlay', '10.20.0.0/16', { vni: 0x800001 });
const nodeId = (number: number): string => number.toString(16).padStart(16, '0');
const vtepOf = (number: number): string => `172.20.${number >> 8}.${number & 255}`;

function endpointRecord(number: number, n: number, sequence: number): Shipment['records'][number] {
  const index = number * CONTAINERS + n;
  const [high, low] = [index >> 8, index & 255];
  const id = hex(`e${index}-`);
  const mac = `02:42:0a:14:${high.toString(16).padStart(2, '0')}:${low.toString(16).padStart(2, '0')}`;
  return ['endpoint', id, sequence, { networkId: web.id, endpointId: id, ip: `10.20.${high}.${low}`, mac }];
}

const messagesOf = (from: string, shipment: Shipment): Buffer[] => [...pack([shipment], MESSAGE_BYTES)].map((shipments) => encodeMessage({ kind: 'records', from, shipments }));

/** Node 1 is the one that is measured. */
function peerMessages(): { nodes: Buffer[]; endpoints: Buffer[] } {
  const nodes: Buffer[] = [];
  const endpoints: Buffer[] = [];
  for (let number = 2; number <= NODES + 1; number++) {
    const owner = nodeId(number);
    const rest = { owner, epoch: 1, completeAt: 0 };
    nodes.push(...messagesOf(owner, { ...rest, from: 0, upTo: 1, records: [['node', 'self', 1, nodeInfo(owner, number, vtepOf(number))]] }));
    endpoints.push(...messagesOf(owner, { ...rest, from: 1, upTo: 1 + CONTAINERS, records: Array.from({ length: CONTAINERS }, (_, n) => endpointRecord(number, n, 2 + n)) }));
  }
  return { nodes, endpoints };
}

async function withNode<T>(work: (node: Node, state: ClusterState) => Promise<T>): Promise<T> {
  const underlay = new Underlay();
  const directory = mkdtempSync(join(tmpdir(), 'weft-scale-'));
  const local = openLocalStore(join(directory, 'local.db'));
  const state = createSoftState({ self: nodeId(1), clock: systemClock, random: seededRandom(1), log: silentLogger, local });
  let node: Node | undefined;
  try {
    node = new Node(underlay, { of: () => state }, [web], nodeId(1), 1, 1);
    return await work(node, state);
  } finally {
    await node?.purge();
    state.close();
    local.close();
    rmSync(directory, { recursive: true });
    underlay.remove();
  }
}

const TOTAL = NODES * CONTAINERS;
const inKernel = (node: Node): number => {
  const dev = node.fabric.rtnl.link(overlayTunnel(web.id))?.index;
  return dev === undefined ? 0 : node.fabric.rtnl.neighbours(dev).length;
};

/** How many routes it has programmed, without asking the kernel, which would hold the event loop. */
function countRoutes({ fabric: { rtnl } }: Node): () => number {
  let count = 0;
  const { replaceRoutes } = rtnl;
  rtnl.replaceRoutes = (routes) => {
    replaceRoutes(routes);
    count += routes.length;
  };
  return () => count;
}

async function receive(state: ClusterState, messages: readonly Buffer[]): Promise<void> {
  for (const message of messages) {
    state.delegate.onMessage!(message);
    // Each comes in a turn of its own, from a socket.
    await nextTurn();
  }
}

const rounds: Record<string, number>[] = [];
const { nodes, endpoints } = peerMessages();

// The first round warms up.
for (let i = -1; i < ROUNDS; i++) {
  const round = await withNode(async (node, state) => {
    await receive(state, nodes);
    await node.driver.createNetwork(web);
    await node.repair();
    const before = await heap();
    const routes = countRoutes(node);
    const told = await longestTurn(async () => {
      await receive(state, endpoints);
      while (routes() < TOTAL) await nextTurn();
    });
    const saved = await longestTurn(() => delay(SAVED_MS));
    const toldBytes = (await heap() - before) / TOTAL;
    const made = endpoint('first', web, '10.20.0.9/16');
    const join = await longestTurn(async () => {
      await node.driver.createEndpoint(web, made);
    });
    node.endpoints.push(made);
    if (inKernel(node) !== TOTAL) throw new Error(`${inKernel(node)} neighbours`);
    const joinedBytes = (await heap() - before) / TOTAL;
    const compare = await longestTurn(async () => {
      const found = await node.repair();
      if (found.length > 0) throw new Error(`nothing was changed, and yet: ${found.join(', ')}`);
    });
    const changes: number[] = [];
    for (let n = 0; n < CHANGES; n++) {
      const number = 2 + n % NODES;
      const sequence = 2 + CONTAINERS + Math.floor(n / NODES);
      const [, id] = endpointRecord(number, n, 0);
      const [message] = messagesOf(nodeId(number), { owner: nodeId(number), epoch: 1, completeAt: 0, from: sequence - 1, upTo: sequence, records: [['endpoint', id, sequence, null]] });
      const start = performance.now();
      state.delegate.onMessage!(message!);
      await new Promise<void>((resolve) => queueMicrotask(resolve));
      changes.push(performance.now() - start);
      await nextTurn();
    }
    if (inKernel(node) !== TOTAL - CHANGES) throw new Error(`${inKernel(node)} neighbours after the changes`);
    return { told_ms: told.took, told_turn_ms: told.turn, told_work_ms: told.work, saved_turn_ms: saved.turn, saved_work_ms: saved.work, told_bytes: toldBytes, joined_bytes: joinedBytes, join_ms: join.took, join_turn_ms: join.turn, join_work_ms: join.work, compare_ms: compare.took, compare_turn_ms: compare.turn, compare_work_ms: compare.work, change_ms: median(changes) };
  });
  console.log(JSON.stringify(round));
  if (i >= 0) rounds.push(round);
}
console.log(`repeat with: ${COMMAND}`);
report('scale', {}, { endpoints: TOTAL, n: ROUNDS, ...Object.fromEntries(Object.keys(rounds[0] ?? {}).map((key) => [key, median(rounds.map((each) => each[key]!))])) });
process.exit(0);
