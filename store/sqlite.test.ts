import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Test, test } from 'tap';
import { systemClock } from '../base/clock.ts';
import { silentLogger as log } from '../base/log.ts';
import { VirtualClock } from '../base/virtual-clock.ts';
import { openSqliteStore } from './sqlite.ts';
import { type Subject, storeSuite } from './suite.ts';

async function open(t: Test): Promise<Subject> {
  const clock = new VirtualClock();
  const path = join(t.testdir(), 'folder', 'store.db');
  let store = openSqliteStore(path, { clock, log });
  t.teardown(() => store.close());
  return {
    store, other: store,
    pass: (ms) => clock.advance(ms),
    reopen: async () => {
      await store.close();
      store = openSqliteStore(path, { clock, log });
      return store;
    },
  };
}

void test('the store', async (t) => storeSuite(t.test.bind(t), open));

void test('it has one owner, and is for its eyes only', async (t) => {
  const path = join(t.testdir(), 'store.db');
  const store = openSqliteStore(path, { clock: systemClock, log });
  t.equal(statSync(path).mode & 0o77, 0);
  t.throws(() => openSqliteStore(path, { clock: systemClock, log }), { code: 'WEFT-STORE-LOCKED' });
  const second = spawn(process.execPath, ['-e', `import('./store/sqlite.ts').then((m) => m.openSqliteStore(${JSON.stringify(path)}, {})).catch((e) => console.log(e.code))`],
    { cwd: join(import.meta.dirname, '..'), stdio: ['ignore', 'pipe', 'inherit'] });
  let said = '';
  second.stdout.on('data', (text) => { said += String(text); });
  await once(second, 'close');
  t.equal(said.trim(), 'WEFT-STORE-LOCKED');
  await store.close();
  await openSqliteStore(path, { clock: systemClock, log }).close();
});

void test('what is no database is refused', async (t) => {
  const path = join(t.testdir(), 'store.db');
  writeFileSync(path, 'not a database, and long enough to be looked at as if it were one'.repeat(10));
  t.throws(() => openSqliteStore(path, { clock: systemClock, log }), { code: 'WEFT-STORE-UNREACHABLE' });
});

void test('what was acknowledged outlives kill -9', async (t) => {
  const path = join(t.testdir(), 'store.db');
  const writer = `
    const { openSqliteStore } = await import('./store/sqlite.ts');
    const { writeSync } = await import('node:fs');
    const store = openSqliteStore(${JSON.stringify(path)}, { clock: {}, log: console });
    const start = Number(process.argv[1]);
    for (let i = start; ; i++) {
      const { revision } = await store.txn([{ key: 'k/' + i, revision: 0 }], [{ put: 'k/' + i, value: String(i) }, { put: 'last', value: String(i) }]);
      writeSync(1, i + ' ' + revision + '\\n');
    }`;
  let acknowledged: string[] = [];
  for (let round = 0; round < 3; round++) {
    const child = spawn(process.execPath, ['--input-type=module', '-e', writer, String(acknowledged.length + 1000 * round)],
      { cwd: join(import.meta.dirname, '..'), stdio: ['ignore', 'pipe', 'inherit'] });
    t.teardown(() => child.kill('SIGKILL'));
    let text = '';
    child.stdout.on('data', (chunk) => {
      text += String(chunk);
      if (text.split('\n').length > 40 * (round + 1)) child.kill('SIGKILL');
    });
    await once(child, 'close');
    acknowledged = [...acknowledged, ...text.split('\n').slice(0, -1)];
    const store = openSqliteStore(path, { clock: systemClock, log });
    const present = new Set((await store.range('k/')).entries.map(({ value, revision }) => `${value} ${revision}`));
    t.ok(acknowledged.length > 40 * round);
    t.same(acknowledged.filter((line) => !present.has(line)), []);
    t.ok(Number((await store.get('last'))?.value) >= Number(acknowledged.at(-1)?.split(' ')[0]));
    await store.close();
  }
});
