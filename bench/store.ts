/**
 * What an operation on the store costs: the embedded one, one member of the cluster's, three members, and the same member over its
 * socket without TLS. All with durable writes. Then what a start, a move and a backup of 10,000 keys take.
 *
 * Interleaved in random order, in one run. Milliseconds; `cpu` is this process alone.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { systemClock as clock, sleep } from '../base/clock.ts';
import { silentLogger as log } from '../base/log.ts';
import { authorityForTests } from '../store/certificates-for-tests.ts';
import { decodeBackup, encodeBackup } from '../store/backup.ts';
import { openEtcdStore } from '../store/etcd.ts';
import { freePorts } from '../store/etcd-for-tests.ts';
import { createMovableStore } from '../store/movable.ts';
import { openSqliteStore } from '../store/sqlite.ts';
import type { Store } from '../store/store.ts';
import { type Birth, prepareMember, superviseEtcd, type SupervisedEtcd } from '../store/supervised-etcd.ts';
import { inRandomOrder, median, quantile, report, timed } from './figures.ts';

const ROUNDS = Number(process.env['ROUNDS'] ?? 200);
const KEYS = 10_000;
const SIDE_BY_SIDE = 32;
const READY_MS = 30_000;
const COMMAND = 'npm run bench -- store';

// Not a memory file system: fsync has to cost what it costs.
const folder = mkdtempSync(join(process.env['BENCH_DIR'] ?? tmpdir(), 'weft-bench-'));
const awake = setInterval(() => {}, 1000);
const binary = join(folder, 'etcd.sh');
writeFileSync(binary, '#!/bin/sh\nexec setpriv --pdeathsig KILL etcd "$@"\n', { mode: 0o700 });
const authority = authorityForTests(folder);
const tls = authority.issue();
const ends: (() => Promise<unknown>)[] = [];

interface Running { etcd: SupervisedEtcd; clientUrl: string; peerUrl: string }

async function member(name: string, birth: Birth | ((peerUrl: string) => Promise<Birth>)): Promise<Running> {
  const [client, peer] = await freePorts(2);
  const options = { folder: join(folder, name), name, clientUrl: `https://127.0.0.1:${client}`, peerUrl: `https://127.0.0.1:${peer}`, tls, clock, log, binary };
  prepareMember(options.folder, typeof birth === 'function' ? await birth(options.peerUrl) : birth);
  const etcd = superviseEtcd(options);
  ends.push(() => etcd.stop());
  return { etcd, ...options };
}

const opened = <S extends Store>(store: S): S => {
  ends.push(() => store.close());
  return store;
};

async function insist<T>(action: () => Promise<T>): Promise<T> {
  for (;;) {
    try {
      return await action();
    } catch {
      await sleep(clock, 100);
    }
  }
}

async function cluster(size: number): Promise<{ urls: string[]; local: string }> {
  const first = await member(`${size}-0`, { type: 'first' });
  await first.etcd.ready(READY_MS);
  const { members } = opened(openEtcdStore({ endpoints: [first.clientUrl], tls, clock, log }));
  const urls = [first.clientUrl];
  for (let i = 1; i < size; i++) {
    const name = `${size}-${i}`;
    const next = await member(name, async (peerUrl) => ({ type: 'learner', peers: await insist(() => members.enter({ name, peerUrl })) }));
    await insist(() => members.promote(name));
    urls.push(next.clientUrl);
  }
  return { urls, local: first.etcd.localEndpoint };
}

/** Names are parts of figures' names. */
const operations: Record<string, (store: Store, i: number) => Promise<unknown>> = {
  get: (store) => store.get('k/7'),
  put: (store, i) => store.txn([], [{ put: `k/${i % 100}`, value: '{"node":"0123456789abcdef"}' }]),
  claim: (store, i) => store.txn([{ key: `claim/${i}`, revision: 0 }], [{ put: `claim/${i}`, value: '{}' }]),
  range_100: (store) => store.range('hundred/'),
};

/** Times from the begin of a write to its arrival at a watch that is there already. */
function watcher(store: Store): (i: number) => Promise<number> {
  let heard = new Map<string, () => void>();
  store.watch('watched/', (event) => {
    if (event.type === 'put') heard.get(event.entry.key)?.();
  });
  return async (i) => {
    const put = `watched/${i}`;
    const arrival = new Promise<void>((resolve) => { heard = new Map([[put, resolve]]); });
    return timed(() => Promise.all([store.txn([], [{ put, value: '' }]), arrival]));
  };
}

try {
  const one = await cluster(1);
  const three = await cluster(3);
  const subjects: { name: string; store: Store }[] = [
    { name: 'sqlite', store: opened(openSqliteStore(join(folder, 'bench.db'), { clock, log })) },
    { name: 'etcd1', store: opened(openEtcdStore({ endpoints: one.urls, tls, prefix: '/bench/', clock, log })) },
    { name: 'etcd1_local', store: opened(openEtcdStore({ endpoints: [one.local], prefix: '/bench-local/', clock, log })) },
    { name: 'etcd3', store: opened(openEtcdStore({ endpoints: three.urls, tls, prefix: '/bench/', clock, log })) },
  ];
  for (const { store } of subjects) await store.txn([], Array.from({ length: 100 }, (_, i) => ({ put: `hundred/${i}`, value: '{"node":"0123456789abcdef"}' })));

  const delays = new Map(subjects.map(({ name, store }) => [name, watcher(store)]));
  for (const arrives of delays.values()) await arrives(-1);
  const times = new Map<string, number[]>();
  const cpu = new Map<string, number>();
  const add = (name: string, took: number): void => void (times.get(name) ?? times.set(name, []).get(name)!).push(took);
  for (let i = 0; i < ROUNDS; i++) {
    for (const { name, store } of inRandomOrder(subjects)) {
      for (const [operation, run] of Object.entries(operations)) {
        const before = process.cpuUsage();
        add(`${operation}_${name}`, await timed(() => run(store, i)));
        const { user, system } = process.cpuUsage(before);
        cpu.set(`${operation}_${name}`, (cpu.get(`${operation}_${name}`) ?? 0) + user + system);
      }
      add(`watch_${name}`, await delays.get(name)!(i));
    }
  }
  const figures: Record<string, number> = { n: ROUNDS };
  for (const [name, values] of times) {
    figures[`${name}_p50_ms`] = median(values);
    figures[`${name}_p95_ms`] = quantile(values, 0.95);
  }
  for (const [name, microseconds] of cpu) figures[`${name}_cpu_us`] = microseconds / ROUNDS;
  for (const { name, store } of inRandomOrder(subjects)) {
    for (const [operation, run] of Object.entries({ get: operations['get']!, put: operations['put']! })) {
      const count = ROUNDS * 5;
      let next = 0;
      const took = await timed(() => Promise.all(Array.from({ length: SIDE_BY_SIDE }, async () => {
        while (next < count) await run(store, next++);
      })));
      figures[`${operation}_${name}_per_s`] = (count / took) * 1000;
    }
  }

  // Ten thousand keys: about what a cluster of 300 nodes has.
  const path = join(folder, 'large.db');
  const filled = openSqliteStore(path, { clock, log });
  for (let at = 0; at < KEYS; at += 100) await filled.txn([], Array.from({ length: 100 }, (_, i) => ({ put: `k/${at + i}`, value: '{"node":"0123456789abcdef"}' })));
  await filled.close();
  let large = openSqliteStore(path, { clock, log });
  await large.close();
  figures['open_10k_ms'] = await timed(async () => { large = openSqliteStore(path, { clock, log }); });
  const { entries, revision } = await large.range('');
  figures['backup_10k_ms'] = await timed(async () => decodeBackup(encodeBackup({ header: { created: '', node: '', store: '', revision }, entries }), ''));
  const movable = createMovableStore(large);
  const target = opened(openEtcdStore({ endpoints: one.urls, tls, prefix: '/moved/', clock, log }));
  figures['move_10k_ms'] = await timed(() => movable.moveTo(target, { id: 'bench', commit: () => {} }));
  await large.close();

  const ratio = (a: string, b: string): number => figures[`${a}_p50_ms`]! / figures[`${b}_p50_ms`]!;
  console.log(`repeat with: ${COMMAND}`);
  report('store', {
    claim_etcd1_vs_sqlite: ratio('claim_etcd1', 'claim_sqlite'),
    claim_etcd3_vs_etcd1: ratio('claim_etcd3', 'claim_etcd1'),
    get_tls_vs_local: ratio('get_etcd1', 'get_etcd1_local'),
  }, figures);
} finally {
  for (const end of ends.reverse()) await end();
  clearInterval(awake);
  rmSync(folder, { recursive: true, force: true });
}
process.exit(0);
