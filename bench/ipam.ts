/**
 * What an address costs.
 *
 *   alloc_p50_ms              a request served from a block in hand, on disk before it is answered
 *   disk_write_p50_ms         what one write to that disk takes until it is durable, in turn with the former: its floor
 *   alloc_p50_us_memory       the same, with a disk that costs nothing
 *   fill_slash8_s, _mb        every address of a /8 handed out in memory; what the process grew by
 *   restart_10k_claims_ms     from opening the files of a node that has given out 10,000 addresses to its first answer
 *   attach_slow_store_vs_fast `docker network connect` with every answer of etcd 50 ms late, against etcd as it is
 *
 * ROUNDS (default 1000) requests are measured, and a tenth of it as many attachments of each kind, in random order.
 */
import { closeSync, existsSync, fdatasyncSync, mkdtempSync, openSync, rmSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import Docker from 'dockerode';
import { systemClock as clock } from '../base/clock.ts';
import { silentLogger as log } from '../base/log.ts';
import { parsePrefix } from '../base/prefix.ts';
import { startEtcd } from '../integration/lab/etcd.ts';
import { IMAGE } from '../integration/lab/image.ts';
import { createLab } from '../integration/lab/lab.ts';
import { until } from '../integration/lab/run.ts';
import { weftUp } from '../integration/lab/weft.ts';
import { layoutOf } from '../ipam/layout.ts';
import { createAddressManager, type StartedAddressManager } from '../ipam/manager.ts';
import { createSpace } from '../ipam/space.ts';
import { openLocalStore } from '../store/local.ts';
import { openSqliteStore } from '../store/sqlite.ts';
import type { LocalStore } from '../store/store.ts';
import { inRandomOrder, median, quantile, report, timed } from './figures.ts';

const ROUNDS = Number(process.env['ROUNDS'] ?? 1_000);
const CLAIMS = 10_000;
const DELAY_MS = 50;
const PROXY_PORT = 12_379;
const COMMAND = 'npm run bench -- ipam';

setFlagsFromString('--expose-gc');
const collectGarbage = runInNewContext('gc') as () => void;

/** A disk that costs nothing. */
function inMemory(): LocalStore {
  const entries = new Map<string, string>();
  return {
    get: (key) => entries.get(key),
    list: (prefix) => [...entries].filter(([key]) => key.startsWith(prefix)).sort(([a], [b]) => (a < b ? -1 : 1)).map(([key, value]) => ({ key, value })),
    put: (key, value) => void entries.set(key, value),
    delete: (key) => void entries.delete(key),
    transaction: (body) => body(),
    close: () => {},
  };
}

async function withManager<T>(folder: string, local: LocalStore, run: (ipam: StartedAddressManager) => Promise<T>): Promise<T> {
  const store = openSqliteStore(join(folder, 'store.db'), { clock, log });
  const ipam = createAddressManager({ store, local, node: { id: 'a', name: 'a' }, clock, log, occupied: () => [] });
  try {
    await ipam.start();
    return await run(ipam);
  } finally {
    ipam.close();
    local.close();
    await store.close();
  }
}

const SUBNET = '10.0.0.0/16';
const request = (ipam: StartedAddressManager, i: number): Promise<string> => ipam.requestAddress({ subnet: SUBNET, holder: `h${i}`, chooser: 'weft' });

/** Milliseconds of each request; `between` runs after each. */
const allocations = (folder: string, local: LocalStore, count: number, between = (): void => {}): Promise<number[]> => withManager(folder, local, async (ipam) => {
  await ipam.requestPool({ subnet: SUBNET });
  const took: number[] = [];
  for (let i = 0; i < count; i++) {
    took.push(await timed(() => request(ipam, i)));
    between();
  }
  return took;
});

/** Milliseconds of each request, and of as many writes of a page to the same disk, in turn. */
async function onDisk(folder: string): Promise<{ took: number[]; writes: number[] }> {
  const local = openLocalStore(join(folder, 'local.db'));
  const file = openSync(join(folder, 'plain'), 'w');
  const page = Buffer.alloc(4096);
  const writes: number[] = [];
  const took = await allocations(folder, local, ROUNDS, () => {
    const start = performance.now();
    writeSync(file, page);
    fdatasyncSync(file);
    writes.push(performance.now() - start);
  });
  closeSync(file);
  return { took, writes };
}

function fillSlash8(): { seconds: number; megabytes: number } {
  const before = footprint();
  const start = performance.now();
  const space = createSpace(layoutOf(parsePrefix('10.0.0.0/8')!));
  const bounds = layoutOf(parsePrefix('10.0.0.0/8')!).choosable;
  for (let block = bounds.high.block; block >= 0; block--) space.add(block, 'weft');
  let given = 0;
  while (space.takeNext(bounds)) given++;
  const seconds = (performance.now() - start) / 1000;
  const megabytes = (footprint() - before) / 1e6;
  if (given !== 2 ** 24 - 2 || space.countFree() !== 0) throw new Error(`${given} addresses were given`);
  return { seconds, megabytes };
}

function footprint(): number {
  collectGarbage();
  const { heapUsed, arrayBuffers } = process.memoryUsage();
  return heapUsed + arrayBuffers;
}

async function restart(folder: string): Promise<number> {
  const path = join(folder, 'local.db');
  await allocations(folder, openLocalStore(path), CLAIMS);
  const start = performance.now();
  const first = await withManager(folder, openLocalStore(path), async (ipam) => {
    await request(ipam, CLAIMS);
    return performance.now() - start;
  });
  return first;
}

/** Milliseconds of each `network connect`, by the Docker API. */
async function attachments(rounds: number): Promise<{ fast: number[]; slow: number[] }> {
  const lab = await createLab({ name: 'ipambench', hosts: 2, docker: true });
  try {
    const [h1, h2] = [lab.host(1), lab.host(2)];
    const etcd = await startEtcd(h1);
    h2.spawn([process.execPath, new URL('./slow-proxy.ts', import.meta.url).pathname, String(PROXY_PORT), new URL(etcd.url).host, String(DELAY_MS)]);
    await until('the proxy', async () => (await h2.exec(['curl', '-sf', '-m', '2', `http://127.0.0.1:${PROXY_PORT}/health`])).code === 0);
    await weftUp(h1, { store: etcd.url });
    await weftUp(h2, { store: `http://127.0.0.1:${PROXY_PORT}` });
    await h1.docker('network', 'create', '-d', 'weft-overlay', '--ipam-driver', 'weft', 'net');
    const subjects = [{ name: 'fast' as const, host: h1 }, { name: 'slow' as const, host: h2 }];
    const took = { fast: [] as number[], slow: [] as number[] };
    const engines = new Map<string, Docker>();
    for (const { name, host } of subjects) {
      await until(`the network is on ${host.name}`, async () => (await host.docker('network', 'ls', '--format', '{{.Name}}')).split('\n').includes('net'));
      await host.docker('run', '-d', '--stop-signal', 'KILL', '--name', 'subject', IMAGE, 'sleep', '100000');
      engines.set(name, new Docker({ socketPath: `/proc/${host.pid}/root/run/docker.sock` }));
    }
    // The first ones take a block.
    for (let i = -2; i < rounds; i++) {
      for (const { name } of inRandomOrder(subjects)) {
        const network = engines.get(name)!.getNetwork('net');
        const ms = await timed(() => network.connect({ Container: 'subject' }));
        await network.disconnect({ Container: 'subject' });
        if (i >= 0) took[name].push(ms);
      }
    }
    return took;
  } finally {
    await lab.destroy();
  }
}

const folder = mkdtempSync(join(existsSync('/var/tmp') ? '/var/tmp' : '.', 'weft-bench-'));
try {
  const { took, writes } = await onDisk(join(folder, 'disk'));
  const memory = await allocations(join(folder, 'memory'), inMemory(), ROUNDS);
  const restarts: number[] = [];
  for (let i = 0; i < 5; i++) restarts.push(await restart(join(folder, `restart${i}`)));
  const filled = fillSlash8();
  const { fast, slow } = await attachments(Math.ceil(ROUNDS / 10));
  console.log(`repeat with: ${COMMAND}`);
  report('ipam', { attach_slow_store_vs_fast: median(slow) / median(fast) }, {
    n: ROUNDS,
    alloc_p50_ms: median(took), alloc_p95_ms: quantile(took, 0.95), disk_write_p50_ms: median(writes),
    alloc_p50_us_memory: median(memory) * 1000, alloc_p95_us_memory: quantile(memory, 0.95) * 1000,
    fill_slash8_s: filled.seconds, fill_slash8_mb: filled.megabytes,
    restart_10k_claims_ms: median(restarts),
    attach_fast_store_p50_ms: median(fast), attach_slow_store_p50_ms: median(slow),
  });
} finally {
  rmSync(folder, { recursive: true });
}
process.exit(0);
