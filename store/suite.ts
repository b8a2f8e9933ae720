/** What every Store must do, whatever is behind it. */
import type { Test } from 'tap';
import type { Store, WatchEvent } from './store.ts';

export interface Subject {
  store: Store;
  /** A second user of the same store; the same object where there can be only one. */
  other: Store;
  /** Lets this much time go by on the store's clock. */
  pass: (ms: number) => Promise<void>;
  /** Closes `store` and opens it again. */
  reopen: () => Promise<Store>;
}

/** Collects what a watch delivers, and waits for it. */
export function collect(store: Store, prefix: string): { events: WatchEvent[]; until(enough: (events: WatchEvent[]) => boolean): Promise<void>; stop(): void } {
  const events: WatchEvent[] = [];
  let wake = (): void => {};
  const stop = store.watch(prefix, (event) => {
    events.push(event);
    wake();
  });
  const until = async (enough: (events: WatchEvent[]) => boolean): Promise<void> => {
    while (!enough(events)) await new Promise<void>((resolve) => { wake = resolve; });
  };
  return { events, until, stop };
}

/** What a watcher believes after these events. */
export function replay(events: readonly WatchEvent[]): Record<string, string> {
  let state: Record<string, string> = {};
  for (const event of events) {
    if (event.type === 'snapshot') state = Object.fromEntries(event.entries.map(({ key, value }) => [key, value]));
    else if (event.type === 'put') state[event.entry.key] = event.entry.value;
    else delete state[event.key];
  }
  return state;
}

const revisionOf = (event: WatchEvent): number => (event.type === 'put' ? event.entry.revision : event.revision);

export function storeSuite(test: Test['test'], open: (t: Test) => Promise<Subject>): void {
  void test('a key is created once, however many try', async (t) => {
    const { store, other } = await open(t);
    const results = await Promise.all(Array.from({ length: 20 }, (_, i) =>
      (i % 2 ? store : other).txn([{ key: 'a/x', revision: 0 }], [{ put: 'a/x', value: String(i) }])));
    const winners = results.flatMap(({ succeeded }, i) => (succeeded ? [i] : []));
    t.equal(winners.length, 1);
    t.equal((await other.get('a/x'))?.value, String(winners[0]));
    for (const { succeeded, current } of results) if (!succeeded) t.equal(current[0]?.value, String(winners[0]));
  });

  void test('compare and swap by revision', async (t) => {
    const { store, other } = await open(t);
    const first = await store.txn([], [{ put: 'k', value: '1' }]);
    t.same(await other.get('k'), { key: 'k', value: '1', revision: first.revision });
    t.equal((await other.txn([{ key: 'k', revision: first.revision }], [{ put: 'k', value: '2' }])).succeeded, true);
    const late = await store.txn([{ key: 'k', revision: first.revision }, { key: 'absent', revision: 0 }], [{ put: 'k', value: '3' }, { put: 'more', value: '3' }]);
    t.equal(late.succeeded, false);
    t.same(late.current.map(({ key, value }) => [key, value]), [['k', '2']], 'the compared keys as they are, absent ones left out');
    t.equal(await store.get('more'), undefined, 'nothing of a failed transaction is done');
    t.equal((await store.txn([{ key: 'absent', revision: 7 }], [])).succeeded, false);
    t.same((await store.txn([{ key: 'k', revision: late.current[0]!.revision }], [{ delete: 'k' }])).succeeded, true);
    t.equal(await other.get('k'), undefined);
    t.equal((await store.txn([{ key: 'k', revision: 0 }], [{ put: 'k', value: 'again' }])).succeeded, true, 'a deleted key does not exist');
  });

  void test('one transaction has one revision; without effect it has none of its own', async (t) => {
    const { store } = await open(t);
    const { revision } = await store.txn([], [{ put: 'r/a', value: '1' }, { put: 'r/b', value: '1' }]);
    t.same((await store.range('r/')).entries.map((entry) => entry.revision), [revision, revision]);
    t.equal((await store.txn([], [{ delete: 'r/none' }])).revision, revision);
    await t.rejects(store.txn([], [{ put: 'r/a', value: '1' }, { delete: 'r/a' }]), RangeError);
    await t.rejects(store.txn([], Array.from({ length: 129 }, (_, i) => ({ put: `r/${i}`, value: '' }))), RangeError);
  });

  void test('a range is what begins with the prefix, in order, at one revision', async (t) => {
    const { store } = await open(t);
    const keys = ['a', 'a/', 'a/1', 'a/10', 'a/2', 'a/é', 'a/\u{1f419}', 'a/\uffee', 'a0', 'b/1'];
    for (const key of keys.toReversed()) await store.txn([], [{ put: key, value: `value of ${key}` }]);
    const { entries, revision } = await store.range('a/');
    t.same(entries.map(({ key }) => key), ['a/', 'a/1', 'a/10', 'a/2', 'a/é', 'a/\uffee', 'a/\u{1f419}']);
    t.equal(entries[4]?.value, 'value of a/é');
    t.equal(revision, Math.max(...(await store.range('')).entries.map((entry) => entry.revision)));
    t.same((await store.range('none/')).entries, []);
    t.equal((await store.range('')).entries.length, keys.length);
  });

  void test('a range of many', async (t) => {
    const { store } = await open(t);
    for (let i = 0; i < 1100; i += 100) await store.txn([], Array.from({ length: 100 }, (_, j) => ({ put: `n/${String(i + j).padStart(5, '0')}`, value: '{}' })));
    const { entries } = await store.range('n/');
    t.equal(entries.length, 1100);
    t.equal(new Set(entries.map(({ key }) => key)).size, 1100);
  });

  void test('a watch gives a snapshot, then every change in order', async (t) => {
    const { store, other } = await open(t);
    await store.txn([], [{ put: 'w/a', value: '1' }, { put: 'wx', value: 'elsewhere' }]);
    const watch = collect(other, 'w/');
    t.same(watch.events, [], 'nothing is delivered before watch returns');
    await watch.until((events) => events.length === 1);
    await store.txn([], [{ put: 'w/b', value: '2' }, { delete: 'w/a' }, { put: 'w0', value: 'elsewhere' }]);
    await store.txn([], [{ put: 'w/b', value: '3' }]);
    await watch.until((events) => events.length === 4);
    const [snapshot, ...changes] = watch.events;
    t.match(snapshot, { type: 'snapshot', entries: [{ key: 'w/a', value: '1' }] });
    t.match(changes, [{ type: 'put', entry: { key: 'w/b', value: '2' } }, { type: 'delete', key: 'w/a' }, { type: 'put', entry: { key: 'w/b', value: '3' } }]);
    t.equal(revisionOf(changes[0]!), revisionOf(changes[1]!));
    t.ok(revisionOf(changes[2]!) > revisionOf(changes[1]!));
    watch.stop();
  });

  void test('many changes by several writers, none missed, none twice', async (t) => {
    const { store, other } = await open(t);
    const watch = collect(other, 'm/');
    await Promise.all(Array.from({ length: 4 }, async (_, writer) => {
      for (let i = 0; i < 50; i++) {
        await (writer % 2 ? store : other).txn([], [i % 7 === 6 ? { delete: `m/${writer}/${i - 1}` } : { put: `m/${writer}/${i}`, value: String(i) }]);
      }
    }));
    await store.txn([], [{ put: 'm/end', value: '' }]);
    await watch.until((events) => replay(events)['m/end'] !== undefined);
    const { entries } = await store.range('m/');
    t.same(replay(watch.events), Object.fromEntries(entries.map(({ key, value }) => [key, value])));
    const revisions = watch.events.slice(1).map(revisionOf);
    t.same(revisions, revisions.toSorted((a, b) => a - b));
    t.equal(new Set(revisions).size, revisions.length, 'each was one transaction');
    watch.stop();
  });

  void test('a stopped watch is silent, also when it stops itself; a failing one goes on', async (t) => {
    const { store } = await open(t);
    const seen: string[] = [];
    const stop = store.watch('s/', (event) => {
      seen.push(event.type);
      if (event.type === 'put') stop();
    });
    const unheard: string[] = [];
    store.watch('s/', ({ type }) => unheard.push(type))();
    const failing: string[] = [];
    const stopFailing = store.watch('s/', ({ type }) => {
      failing.push(type);
      throw new Error('of the watcher');
    });
    const last = collect(store, 's/');
    await last.until((events) => events.length === 1);
    for (const value of ['1', '2', '3']) await store.txn([], [{ put: 's/a', value }]);
    await last.until((events) => replay(events)['s/a'] === '3');
    while (failing.length < 4) await new Promise((resolve) => { setImmediate(resolve); });
    t.ok(seen.filter((type) => type === 'put').length <= 1);
    t.same(unheard, []);
    stopFailing();
    last.stop();
  });

  void test('counting by compare and swap loses nothing', async (t) => {
    const { store, other } = await open(t);
    await Promise.all([store, other, store, other].map(async (mine) => {
      for (let done = 0; done < 25;) {
        const entry = await mine.get('count');
        const next = String(Number(entry?.value ?? 0) + 1);
        if ((await mine.txn([{ key: 'count', revision: entry?.revision ?? 0 }], [{ put: 'count', value: next }])).succeeded) done++;
      }
    }));
    t.equal((await store.get('count'))?.value, '100');
  });

  void test('a lease lives as long as its holder, and a time to live longer', async (t) => {
    const { store, pass, reopen } = await open(t);
    const lease = await store.lease(1);
    await store.txn([], [{ put: 'l/a', value: '1', lease }, { put: 'l/kept', value: '1' }]);
    await pass(2500);
    t.ok(await store.get('l/a'), 'it is renewed');
    const again = await reopen();
    t.ok(await again.get('l/a'), 'the holder may be back in time');
    const watch = collect(again, 'l/');
    await pass(2500);
    await watch.until((events) => replay(events)['l/a'] === undefined);
    t.match(watch.events.at(-1), { type: 'delete', key: 'l/a' });
    t.ok(await again.get('l/kept'));
    watch.stop();
  });

  void test('a revoked lease takes its keys with it, and no new ones', async (t) => {
    const { store, other } = await open(t);
    const lease = await store.lease(60);
    await store.txn([], [{ put: 'l/a', value: '1', lease }, { put: 'l/b', value: '1', lease }]);
    await store.txn([], [{ put: 'l/b', value: 'without' }]);
    await lease.revoke();
    await lease.revoke();
    t.same((await other.range('l/')).entries.map(({ value }) => value), ['without']);
    await t.rejects(store.txn([], [{ put: 'l/c', value: '1', lease }]), { message: /has ended/ });
  });

  void test('a closed store says so', async (t) => {
    const { store } = await open(t);
    const watch = collect(store, '');
    await watch.until((events) => events.length === 1);
    await store.close();
    await store.close();
    await t.rejects(store.txn([], [{ put: 'a', value: '1' }]), { code: 'WEFT-STORE-UNREACHABLE' });
  });
}
