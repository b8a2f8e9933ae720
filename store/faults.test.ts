/** Three members and their clients while things go wrong. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, statfsSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import tap, { type Test, test } from 'tap';
import { type Clock, systemClock as clock } from '../base/clock.ts';
import { silentLogger as log } from '../base/log.ts';
import { seededRandom } from '../base/random.ts';
import { storesForTests } from './stores-for-tests.ts';
import { openEtcdStore } from './etcd.ts';
import { etcdForTests } from './etcd-for-tests.ts';
import { type MemberForTests, sceneForTests, succeeds, until } from './member-for-tests.ts';
import { openSqliteStore } from './sqlite.ts';
import type { Store } from './store.ts';
import { collect, replay } from './suite.ts';

const CHURN_MS = 1000 * Number(process.env['CHURN_S'] ?? 20);
tap.setTimeout(CHURN_MS + 220_000);

const READY_MS = 20_000;

async function threeMembers(t: Test): Promise<{ members: MemberForTests[]; store(): Store }> {
  const scene = sceneForTests(t);
  const first = await scene.member('a');
  await first.start({ type: 'first' }).ready(READY_MS);
  const { members: list } = scene.store([first]);
  const members = [first];
  for (const name of ['b', 'c']) {
    const member = await scene.member(name);
    const place = { name, peerUrl: member.options.peerUrl };
    await until('the others have settled', () => succeeds(() => list.enter(place)));
    member.start({ type: 'learner', peers: await list.enter(place) });
    await until('it has caught up', () => succeeds(() => list.promote(name)));
    members.push(member);
  }
  return { members, store: () => scene.store(members) };
}

/** Claims numbers one after the other, as nodes claim blocks of addresses: a key is created by one of them only. */
async function claim(store: Store, who: string, numbers: { next: number }, acknowledged: Map<string, string>, isOver: () => boolean): Promise<{ unknown: number }> {
  let unknown = 0;
  while (!isOver()) {
    // Two of them try each number.
    const key = `claim/${Math.floor(numbers.next++ / 2)}`;
    try {
      const { succeeded } = await store.txn([{ key, revision: 0 }], [{ put: key, value: who }]);
      if (!succeeded) continue;
      if (acknowledged.has(key)) throw new RangeError(`${key} was given to ${acknowledged.get(key)} and to ${who}`);
      acknowledged.set(key, who);
    } catch (error) {
      if (error instanceof RangeError) throw error;
      unknown++;
      await delay(20);
    }
  }
  return { unknown };
}

void test('one member of three killed or frozen, again and again: nothing acknowledged is lost or given twice', async (t) => {
  const seed = Date.now();
  t.comment(`seed ${seed}`);
  const random = seededRandom(seed);
  const { members, store } = await threeMembers(t);
  const clients = Array.from({ length: 4 }, store);
  const watch = collect(store(), 'claim/');
  const acknowledged = new Map<string, string>();
  const numbers = { next: 0 };
  const end = clock.now() + CHURN_MS;
  const claiming = Promise.all(clients.map((client, i) => claim(client, String(i), numbers, acknowledged, () => clock.now() > end)));
  let faults = 0;
  while (clock.now() < end) {
    const member = members[random.int(3)]!;
    await until('it runs', () => succeeds(async () => member.pid()));
    if (random.int(2)) {
      member.signal('SIGKILL');
      await delay(random.int(1500));
    } else {
      member.signal('SIGSTOP');
      await delay(random.int(2500));
      member.signal('SIGCONT');
    }
    faults++;
    await delay(random.int(1000));
  }
  const outcomes = await claiming;
  const final = await (async () => {
    await until('a majority is back', () => succeeds(() => clients[0]!.get('x')));
    return new Map((await clients[0]!.range('claim/')).entries.map(({ key, value }) => [key, value]));
  })();
  t.comment(`${faults} faults, ${acknowledged.size} claims, ${outcomes.reduce((sum, { unknown }) => sum + unknown, 0)} without an answer`);
  t.ok(faults > CHURN_MS / 5000);
  t.ok(acknowledged.size > 100);
  t.same([...acknowledged].filter(([key, who]) => final.get(key) !== who), [], 'all that was acknowledged is there, and whose it was');
  await watch.until((events) => Object.keys(replay(events)).length === final.size);
  t.same(replay(watch.events), Object.fromEntries(final), 'the watch missed nothing');
  const puts = watch.events.flatMap((event) => (event.type === 'put' ? [event.entry.key] : []));
  t.equal(new Set(puts).size, puts.length, 'and told nothing twice');
});

void test('the same claims without their guard are given twice: the test would notice', async (t) => {
  const store = storesForTests(t, clock).store();
  const unguarded: Store = { ...store, txn: (_, writes) => store.txn([], writes) };
  await t.rejects(claim(unguarded, '0', { next: 0 }, new Map(), () => false), RangeError);
});

/** A file system of its own, small. */
function smallDisk(t: Test, size: string): { folder: string; fill(): void; free(): void } {
  const folder = mkdtempSync('/tmp/weft-disk-');
  execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${size}`, 'weft-test', folder]);
  t.teardown(() => {
    execFileSync('umount', ['-l', folder]);
    rmSync(folder, { recursive: true });
  });
  const ballast = join(folder, 'ballast');
  return {
    folder,
    fill: () => {
      writeFileSync(ballast, '');
      const { bavail, bsize } = statfsSync(folder);
      execFileSync('fallocate', ['-l', String(bavail * bsize), ballast]);
    },
    free: () => truncateSync(ballast, 0),
  };
}

void test('a full disk under the embedded store: refused in words, and over when there is room', async (t) => {
  const disk = smallDisk(t, '4m');
  const path = join(disk.folder, 'store.db');
  const store = openSqliteStore(path, { clock, log });
  t.teardown(() => store.close());
  await store.txn([], [{ put: 'before', value: '1' }]);
  disk.fill();
  let written = 0;
  const full = (async () => {
    for (; written < 1000; written++) await store.txn([], [{ put: `full/${written}`, value: 'x'.repeat(10_000) }]);
  })();
  await t.rejects(full, { code: 'WEFT-STORE-UNREACHABLE', message: /full/ });
  t.equal(store.healthy, false);
  t.equal((await store.get('before'))?.value, '1', 'what is there can be read');
  t.equal(await store.get(`full/${written}`), undefined, 'a refused write has no effect');
  disk.free();
  await store.txn([], [{ put: 'after', value: '1' }]);
  t.equal(store.healthy, true);
  await store.close();
  const again = openSqliteStore(path, { clock, log });
  t.teardown(() => again.close());
  t.equal((await again.range('')).entries.length, 2 + written);
});

void test('a full disk under etcd: it ends, says why, and is back when there is room', async (t) => {
  const disk = smallDisk(t, '300m');
  const scene = sceneForTests(t);
  const folder = join(disk.folder, 'etcd');
  mkdirSync(folder);
  const member = await scene.member('a', folder);
  const etcd = member.start({ type: 'first' });
  await etcd.ready(READY_MS);
  const store = scene.store([member]);
  const acknowledged: string[] = [];
  await store.txn([], [{ put: 'before', value: '1' }]);
  disk.fill();
  const full = (async () => {
    for (let i = 0; i < 2000; i++) {
      const key = `full/${i}`;
      await store.txn([], [{ put: key, value: 'x'.repeat(500_000) }]);
      acknowledged.push(key);
    }
  })();
  await t.rejects(full, { code: 'WEFT-STORE-UNREACHABLE' });
  await until('it says why', async () => /space/.test((await etcd.health()).problem ?? ''), 30_000);
  t.match((await etcd.health()).problem, /no ?space/i);
  disk.free();
  await until('it is back by itself', () => succeeds(() => store.get('before')), 60_000);
  t.equal((await store.get('before'))?.value, '1');
  const present = new Set((await store.range('full/')).entries.map(({ key }) => key));
  t.same(acknowledged.filter((key) => !present.has(key)), []);
  await store.txn([], [{ put: 'after', value: '1' }]);
});

void test('the time of day may jump as it likes: no store asks for it', async (t) => {
  const noDay: Clock = { ...clock, wallNow: () => { throw new Error('the time of day was asked for'); } };
  const { endpoint } = await etcdForTests((end) => t.teardown(end));
  for (const store of [
    openSqliteStore(join(t.testdir(), 'store.db'), { clock: noDay, log }),
    openEtcdStore({ endpoints: [endpoint], clock: noDay, log }),
  ]) {
    t.teardown(() => store.close());
    const lease = await store.lease(1);
    const watch = collect(store, '');
    await store.txn([], [{ put: 'a', value: '1', lease }]);
    await watch.until((events) => replay(events)['a'] === '1');
    await delay(2500);
    t.equal((await store.get('a'))?.value, '1', 'its lease was renewed');
    await lease.revoke();
    await watch.until((events) => replay(events)['a'] === undefined);
  }
});
