/** What a power cut or a full disk may leave of the embedded store: files that end anywhere in their last writes. */
import { copyFileSync, mkdtempSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import tap, { test } from 'tap';
import { systemClock as clock } from '../base/clock.ts';
import { silentLogger as log } from '../base/log.ts';
import { openSqliteStore } from './sqlite.ts';
import type { Store } from './store.ts';

tap.setTimeout(240_000);

const text = async (store: Store): Promise<string> => JSON.stringify((await store.range('')).entries);

async function opened(path: string): Promise<string> {
  let store: Store | undefined;
  try {
    store = openSqliteStore(path, { clock, log });
    return await text(store);
  } catch (error) {
    return (error as { code?: string }).code ?? String(error);
  } finally {
    await store?.close();
  }
}

/** Fsync costs nothing there, and thousands of files are opened. */
const FAST = '/dev/shm';

void test('the log cut at every byte of its last writes: an earlier state, never another one', async (t) => {
  const folder = mkdtempSync(join(FAST, 'weft-cut-'));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  const path = join(folder, 'store.db');
  const store = openSqliteStore(path, { clock, log });
  t.teardown(() => store.close());
  // What was there before the log began is in the file itself.
  await store.txn([], Array.from({ length: 20 }, (_, i) => ({ put: `before/${i}`, value: 'x'.repeat(50) })));
  await store.close();
  const again = openSqliteStore(path, { clock, log });
  t.teardown(() => again.close());
  const states = [await text(again)];
  const sizes = [statSync(`${path}-wal`).size];
  for (let i = 0; i < 3; i++) {
    await again.txn([], [{ put: 'last', value: String(i) }, { delete: `before/${i}` }]);
    states.push(await text(again));
    sizes.push(statSync(`${path}-wal`).size);
  }
  const log_ = readFileSync(`${path}-wal`);
  const cut = join(folder, 'cut.db');
  const wrong: string[] = [];
  let known = 0;
  for (let at = sizes[1]!; at <= sizes[3]!; at++) {
    copyFileSync(path, cut);
    writeFileSync(`${cut}-wal`, log_.subarray(0, at));
    const found = states.indexOf(await opened(cut));
    // A transaction counts from its last byte on, not before.
    const complete = sizes.findLastIndex((size) => size <= at);
    if (found !== complete) wrong.push(`cut at ${at}: state ${found}, not ${complete}`);
    known = Math.max(known, found);
  }
  t.same(wrong.slice(0, 5), [], `${sizes[3]! - sizes[1]! + 1} cuts`);
  t.equal(known, 3);
});

void test('the file itself cut: it is refused, never half of it taken for the whole', async (t) => {
  const folder = mkdtempSync(join(FAST, 'weft-cut-'));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  const path = join(folder, 'store.db');
  const store = openSqliteStore(path, { clock, log });
  for (let i = 0; i < 400; i += 100) await store.txn([], Array.from({ length: 100 }, (_, j) => ({ put: `k/${i + j}`, value: 'x'.repeat(50) })));
  const whole = await text(store);
  await store.close();
  const { size } = statSync(path);
  const cut = join(folder, 'cut.db');
  const answers = new Map<string, number>();
  for (const at of [...Array.from({ length: 4096 }, (_, i) => size - i), ...Array.from({ length: 4096 }, (_, i) => i + 1)]) {
    for (const suffix of ['-wal', '-shm']) rmSync(`${cut}${suffix}`, { force: true });
    copyFileSync(path, cut);
    truncateSync(cut, at);
    const answer = await opened(cut);
    const kind = answer === whole ? 'whole' : answer.startsWith('[') ? 'in part' : answer;
    answers.set(kind, (answers.get(kind) ?? 0) + 1);
  }
  t.same(Object.fromEntries(answers), { whole: 1, 'WEFT-STORE-UNREACHABLE': 2 * 4096 - 1 });
});
