import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import tap, { test } from 'tap';
import { COPY_MARK } from '../store/copy.ts';
import { openLocalStore } from '../store/local.ts';
import { succeeds, until } from '../store/member-for-tests.ts';
import type { Store } from '../store/store.ts';
import { contents, hostsForTests } from './host-for-tests.ts';
import { nodeId } from './identity.ts';
import { memberFolder, peerUrlOf, rememberCluster } from './node-store.ts';

tap.setTimeout(180_000);

const FILLED = Object.fromEntries(Array.from({ length: 250 }, (_, i) => [`n/${i}`, String(i)]));

async function fill(store: Store): Promise<void> {
  const all = Object.entries(FILLED);
  for (let at = 0; at < all.length; at += 100) await store.txn([], all.slice(at, at + 100).map(([put, value]) => ({ put, value })));
}

void test('a host alone becomes a cluster of one, for good', async (t) => {
  const host = await (await hostsForTests(t)).host();
  let node = host.open();
  t.equal(node.kind, 'embedded');
  await fill(node.store);
  await Promise.all([node.startCluster(), node.startCluster()]);
  await node.startCluster();
  t.equal(node.kind, 'cluster');
  await node.store.txn([], [{ put: 'after', value: '1' }]);
  t.equal((await node.etcd!.health()).hasLeader, true);
  await until('the mark of the copy is gone', async () => (await node.store.get(COPY_MARK)) === undefined);
  t.notOk(existsSync(join(host.config.dataDir, 'store.db')));
  t.ok(existsSync(join(host.config.dataDir, 'store-before-cluster.db')));
  await host.close();
  node = host.open();
  t.equal(node.kind, 'cluster');
  t.same(await contents(node.store), { ...FILLED, after: '1' });
});

void test('a store that was there and is gone is not replaced by an empty one', async (t) => {
  const host = await (await hostsForTests(t)).host();
  const path = join(host.config.dataDir, 'store.db');
  await host.open().store.txn([], [{ put: 'a', value: '1' }]);
  await host.close();
  const whole = readFileSync(path);
  for (const ruin of [() => writeFileSync(path, ''), () => rmSync(path)]) {
    ruin();
    t.throws(() => host.open(), { code: 'WEFT-STORE-LOST' });
  }
  writeFileSync(path, whole);
  t.equal((await host.open().store.get('a'))?.value, '1');
});

void test('without etcd nothing is begun', async (t) => {
  const host = await (await hostsForTests(t)).host();
  for (const [binary, message] of [['/nowhere/etcd', /ENOENT/], ['/bin/true', /does not say its version/]] as [string, RegExp][]) {
    host.options.binary = binary;
    const node = host.open();
    await t.rejects(node.startCluster(), { code: 'WEFT-STORE-ETCD', message });
    t.notOk(existsSync(memberFolder(host.config)));
    await node.store.txn([], [{ put: 'a', value: '1' }]);
    await host.close();
  }
});

void test('a second host asks the first, and holds a copy when it is told to', async (t) => {
  const { host } = await hostsForTests(t);
  const [one, two] = [await host(), await host()];
  const first = one.open();
  await t.rejects(async () => first.startMember([]), { code: 'WEFT-STORE-ALONE' });
  await first.startCluster();
  await first.store.txn([], [{ put: 'a', value: '1' }]);
  const before = openLocalStore(join(two.config.dataDir, 'local.db'));
  rememberCluster(before, [`https://127.0.0.1:${one.config.storePort}`]);
  const id = nodeId(before);
  before.close();
  const second = two.open();
  t.equal((await second.store.get('a'))?.value, '1');
  t.equal(second.etcd, undefined);
  second.startMember(await second.cluster!.members.enter({ name: id, peerUrl: peerUrlOf(two.config) }));
  await until('it has caught up', () => succeeds(() => second.cluster!.members.promote(id)));
  const endpoints = (await second.cluster!.members.list()).map(({ clientUrl }) => clientUrl!);
  t.equal(endpoints.length, 2);
  second.useEndpoints(endpoints);
  await two.close();
  const again = two.open();
  await until('its copy runs again', async () => (await again.etcd!.health()).hasLeader);
  t.match(again.store.description, new RegExp(endpoints.join(', ')));
  await until('they have settled', () => succeeds(() => again.cluster!.members.remove(id)));
  await again.stopMember();
  t.notOk(existsSync(memberFolder(two.config)));
  again.useEndpoints([endpoints[0]!.includes(String(one.config.storePort)) ? endpoints[0]! : endpoints[1]!]);
  t.equal((await again.store.get('a'))?.value, '1');
});

/** Moves the state of the host in argv[0], and kills itself before the nth thing that others could see. */
const MOVER = `
import fs from 'node:fs';
import http from 'node:http';
import { syncBuiltinESMExports } from 'node:module';
const [options, last] = JSON.parse(process.argv[1]);
let steps = 0;
const step = () => { if (++steps === last) process.kill(process.pid, 'SIGKILL'); };
const { renameSync } = fs;
fs.renameSync = (...all) => { step(); return renameSync(...all); };
// Transactions go to this host's own copy, by its socket. How often it is asked whether it is ready is a matter of luck.
const { request } = http;
http.request = (options, ...all) => { if (options.path === '/v3/kv/txn') step(); return request(options, ...all); };
syncBuiltinESMExports();
const { openLocalStore } = await import('./store/local.ts');
const { openNodeStore } = await import('./agent/node-store.ts');
const { systemClock } = await import('./base/clock.ts');
const { silentLogger } = await import('./base/log.ts');
const local = openLocalStore(options.config.dataDir + '/local.db');
const stepping = { ...local, put: (...all) => { step(); local.put(...all); }, delete: (...all) => { step(); local.delete(...all); } };
setInterval(() => {}, 1000);
await openNodeStore({ ...options, local: stepping, clock: systemClock, log: silentLogger }).startCluster();
while (local.get('store/move') !== undefined) await new Promise((resolve) => { setTimeout(resolve, 10); });
console.log(steps);
process.exit(0);
`;

void test('killed before each step of the move, it loses nothing and can be begun again', async (t) => {
  const { host } = await hostsForTests(t);
  const homes: string[] = [];
  let steps = Infinity;
  for (let last = 1; last <= steps + 1; last++) {
    const one = await host();
    const before = one.open();
    await fill(before.store);
    await one.close();
    mkdirSync(memberFolder(one.config), { recursive: true });
    // A leftover of a kill in prepareMember.
    if (last % 2) writeFileSync(join(memberFolder(one.config), 'member.json.new'), '{');
    const child = spawn(process.execPath, ['--input-type=module', '-e', MOVER, JSON.stringify([one.options, last])],
      { cwd: join(import.meta.dirname, '..'), stdio: ['ignore', 'pipe', 'inherit'] });
    t.teardown(() => child.kill('SIGKILL'));
    let said = '';
    child.stdout.on('data', (text) => { said += String(text); });
    const [, signal] = await once(child, 'close') as [number, string | null];
    if (signal === null) steps = Number(said);

    const after = one.open();
    homes.push(after.kind === 'cluster' ? 'c' : 'e');
    await until(`the store after step ${last}`, () => succeeds(() => after.store.range('')));
    t.same(await contents(after.store), FILLED, `killed before step ${last}: all is there`);
    await after.store.txn([], [{ put: 'new', value: '' }]);
    await after.startCluster();
    t.equal(after.kind, 'cluster');
    t.same(await contents(after.store), { ...FILLED, new: '' });
    await until('the mark of the copy is gone', async () => (await after.store.get(COPY_MARK)) === undefined);
    t.notOk(existsSync(join(one.config.dataDir, 'store.db')));
    await after.stopMember();
    await one.close();
  }
  t.ok(steps > 8, `${steps} steps`);
  t.match(homes.join(''), /^e+c+$/, 'one moment, before which the old store counts and after which the new one does');
});
