import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'tap';
import { storesForTests } from './stores-for-tests.ts';
import { openLocalStore } from './local.ts';

void test('this node\'s own state', async (t) => {
  const path = join(t.testdir(), 'local.db');
  const store = openLocalStore(path);
  for (const key of ['a/2', 'a/1', 'a', 'a0', 'b']) store.put(key, `of ${key}`);
  store.put('a/1', 'changed');
  store.delete('b');
  store.delete('never was');
  t.same(store.list('a/'), [{ key: 'a/1', value: 'changed' }, { key: 'a/2', value: 'of a/2' }]);
  t.equal(store.get('b'), undefined);
  t.throws(() => openLocalStore(path), { code: 'WEFT-STORE-LOCKED' });
  store.close();
  store.close();
  const again = openLocalStore(path);
  t.equal(again.get('a'), 'of a');
  t.equal(again.list('').length, 4);
  again.close();
});

void test('what is not flushed outlives the process that wrote it, and is flushed with what is', async (t) => {
  const path = join(t.testdir(), 'local.db');
  const write = `const { openLocalStore } = await import(${JSON.stringify(new URL('./local.ts', import.meta.url).href)});
    const store = openLocalStore(${JSON.stringify(path)});
    for (const key of ['a', 'b']) store.put(key, '1', { flush: false });
    store.delete('b', { flush: false });
    process.kill(process.pid, 'SIGKILL');`;
  t.equal(spawnSync(process.execPath, ['--input-type=module', '-e', write]).signal, 'SIGKILL');
  const store = openLocalStore(path);
  t.teardown(() => store.close());
  t.same(store.list(''), [{ key: 'a', value: '1' }]);
  store.transaction(() => store.put('c', '1', { flush: false }));
  store.put('d', '1');
  t.equal(store.list('').length, 3);
});

void test('a transaction is done whole or not at all', async (t) => {
  const store = storesForTests(t).local();
  store.put('kept', '1');
  t.throws(() => store.transaction(() => {
    store.put('kept', '2');
    store.transaction(() => store.put('new', '1'));
    t.equal(store.get('new'), '1', 'it sees its own writes');
    throw new Error('no');
  }), { message: 'no' });
  t.same(store.list(''), [{ key: 'kept', value: '1' }]);
  t.equal(store.transaction(() => {
    store.put('new', '1');
    return 'result';
  }), 'result');
  t.equal(store.get('new'), '1');
});

void test('a disk that is full: refused in words, without effect, and over when there is room', (t) => {
  const folder = mkdtempSync('/tmp/weft-disk-');
  execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'weft-test', folder]);
  t.teardown(() => {
    execFileSync('umount', ['-l', folder]);
    rmSync(folder, { recursive: true });
  });
  const store = openLocalStore(join(folder, 'local.db'));
  t.teardown(() => store.close());
  const fill = (key: string): void => store.put(key, 'x'.repeat(2_000_000));
  store.put('kept', '1');
  t.equal(store.problem, undefined);
  for (const act of [() => fill('a'), () => fill('kept'), () => store.transaction(() => fill('b'))]) {
    t.throws(act, { code: 'WEFT-DISK', message: /local\.db: database or disk is full; make room/ });
    t.match(store.problem, 'full');
    t.same(store.list(''), [{ key: 'kept', value: '1' }]);
  }
  store.put('kept', '2');
  t.equal(store.problem, undefined);
  t.end();
});
