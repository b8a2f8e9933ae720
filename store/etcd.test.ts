import { once } from 'node:events';
import { createServer, type RequestListener, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { type Test, test } from 'tap';
import { systemClock as clock } from '../base/clock.ts';
import { silentLogger as log } from '../base/log.ts';
import { openEtcdStore } from './etcd.ts';
import { type EtcdForTests, etcdForTests } from './etcd-for-tests.ts';
import type { Store } from './store.ts';
import { collect, replay, storeSuite } from './suite.ts';

const UNREACHABLE = { code: 'WEFT-STORE-UNREACHABLE' };
let folders = 0;

/** Stores on one part of the key space, so that tests can share a server. */
function storesOn(t: Test, endpoints: string[]): () => Store {
  const prefix = `/test/${folders++}/`;
  return () => {
    const store = openEtcdStore({ endpoints, prefix, clock, log });
    t.teardown(() => store.close());
    return store;
  };
}

async function listening(t: Test, handler: RequestListener): Promise<string> {
  const server: Server = createServer(handler).listen(0, '127.0.0.1');
  t.teardown(() => {
    server.closeAllConnections();
    server.close();
  });
  await once(server, 'listening');
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

async function etcd(t: Test): Promise<EtcdForTests> {
  return etcdForTests((end) => t.teardown(end));
}

async function untilWorks<T>(action: () => Promise<T>): Promise<T> {
  for (;;) {
    try {
      return await action();
    } catch {
      await delay(50);
    }
  }
}

void test('the store', async (t) => {
  const { endpoint } = await etcd(t);
  storeSuite(t.test.bind(t), async (each) => {
    const openOne = storesOn(each, [endpoint]);
    const store = openOne();
    return {
      store, other: openOne(),
      pass: (ms) => delay(ms),
      reopen: async () => {
        await store.close();
        return openOne();
      },
    };
  });
});

void test('a watch goes on after kill -9 and restart', async (t) => {
  const server = await etcd(t);
  const openOne = storesOn(t, [server.endpoint]);
  const store = openOne();
  const watch = collect(openOne(), '');
  await watch.until((events) => events.length === 1);
  for (let i = 0; i < 10; i++) await store.txn([], [{ put: `k/${i}`, value: '' }]);
  await server.kill();
  await t.rejects(store.get('k/0'), UNREACHABLE);
  t.equal(store.healthy, false);
  await server.start();
  await untilWorks(() => store.txn([], [{ put: 'k/10', value: '' }]));
  t.equal(store.healthy, true);
  await watch.until((events) => replay(events)['k/10'] !== undefined);
  t.same(watch.events.map(({ type }) => type), ['snapshot', ...Array<string>(11).fill('put')], 'resumed, not begun again; nothing twice');
});

void test('a watch survives an outage with compaction', async (t) => {
  const server = await etcd(t);
  const openOne = storesOn(t, [server.endpoint]);
  const store = openOne();
  // The watcher reaches etcd through a proxy of ours, so that it alone can be cut off.
  let cut = false;
  const proxy = await listening(t, (request, response) => {
    if (cut) return void request.socket.destroy();
    void pipe(server.endpoint, request, response);
  });
  const cutOff = openEtcdStore({ endpoints: [proxy], prefix: `/test/${folders - 1}/`, clock, log });
  t.teardown(() => cutOff.close());
  await store.txn([], [{ put: 'gone', value: '1' }, { put: 'kept', value: '1' }]);
  const watch = collect(cutOff, '');
  await watch.until((events) => events.length === 1);
  cut = true;
  sockets.forEach((end) => end());
  for (let i = 0; i < 12; i++) await store.txn([], [{ put: `k/${i}`, value: '' }]);
  await store.txn([], [{ delete: 'gone' }]);
  await server.compact();
  cut = false;
  await store.txn([], [{ put: 'after', value: '' }]);
  await watch.until((events) => replay(events)['after'] !== undefined);
  await store.txn([], [{ put: 'later', value: '' }]);
  await watch.until((events) => replay(events)['later'] !== undefined);
  t.ok(watch.events.filter(({ type }) => type === 'snapshot').length >= 2);
  const { entries } = await store.range('');
  t.same(replay(watch.events), Object.fromEntries(entries.map(({ key, value }) => [key, value])));
});

const sockets = new Set<() => void>();
async function pipe(endpoint: string, request: Parameters<RequestListener>[0], response: Parameters<RequestListener>[1]): Promise<void> {
  const abort = new AbortController();
  const end = (): void => {
    abort.abort();
    request.socket.destroy();
  };
  sockets.add(end);
  try {
    const body = await new Response(request).text();
    const answer = await fetch(`${endpoint}${request.url}`, { method: 'POST', body, signal: abort.signal });
    response.writeHead(answer.status);
    for await (const chunk of answer.body ?? []) response.write(chunk);
    response.end();
  } catch {
    request.socket.destroy();
  }
  sockets.delete(end);
}

void test('a watch notices that the store is another one', async (t) => {
  const server = await etcd(t);
  const openOne = storesOn(t, [server.endpoint]);
  const store = openOne();
  for (let i = 0; i < 5; i++) await store.txn([], [{ put: 'old', value: String(i) }]);
  const watch = collect(openOne(), '');
  await watch.until((events) => events.length === 1);
  await server.wipe();
  await server.start();
  await untilWorks(() => store.txn([], [{ put: 'new', value: '' }]));
  await watch.until((events) => replay(events)['new'] !== undefined);
  t.same(replay(watch.events), { new: '' });
});

void test('a lease that ended during an outage is granted anew', async (t) => {
  const server = await etcd(t);
  const openOne = storesOn(t, [server.endpoint]);
  const store = openOne();
  const watcher = openOne();
  const lease = await store.lease(1);
  await store.txn([], [{ put: 'l/a', value: '1', lease }]);
  const watch = collect(watcher, 'l/');
  await watch.until((events) => replay(events)['l/a'] === '1');
  // Revoked behind its back: what an outage longer than the lease comes to, without waiting for one.
  await fetch(`${server.endpoint}/v3/lease/revoke`, { method: 'POST', body: JSON.stringify({ ID: lease.id }) });
  await watch.until((events) => replay(events)['l/a'] === undefined);
  await untilWorks(() => store.txn([], [{ put: 'l/a', value: '2', lease }]));
  await delay(2500);
  t.equal((await store.get('l/a'))?.value, '2', 'and renewed again');
});

void test('a lease outlives a shorter outage of its holder, and is taken up again after a longer one', async (t) => {
  const server = await etcd(t);
  const others = storesOn(t, [server.endpoint])();
  let cut = false;
  const proxy = await listening(t, (request, response) => {
    if (cut) return void request.socket.destroy();
    void pipe(server.endpoint, request, response);
  });
  const holder = openEtcdStore({ endpoints: [proxy], prefix: `/test/${folders - 1}/`, clock, log });
  t.teardown(() => holder.close());
  const [short, long] = [await holder.lease(1), await holder.lease(60)];
  await holder.txn([], [{ put: 'short', value: '1', lease: short }, { put: 'long', value: '1', lease: long }]);
  const watch = collect(others, '');
  cut = true;
  sockets.forEach((end) => end());
  await watch.until((events) => events.length > 0 && replay(events)['short'] === undefined);
  t.equal(replay(watch.events)['long'], '1');
  cut = false;
  await untilWorks(() => holder.txn([], [{ put: 'short', value: '2', lease: short }]));
  await delay(2500);
  t.same((await others.range('')).entries.map(({ key, value }) => [key, value]), [['long', '1'], ['short', '2']]);
});

void test('an endpoint that refuses, and one that is silent, are passed over', async (t) => {
  const { endpoint } = await etcd(t);
  const silent = await listening(t, () => {});
  const store = storesOn(t, ['http://127.0.0.1:1', silent, endpoint])();
  t.equal(await store.get('a'), undefined);
  t.equal((await store.txn([{ key: 'a', revision: 0 }], [{ put: 'a', value: '1' }])).succeeded, true, 'the good one is kept to');
  const watch = collect(store, '');
  await watch.until((events) => replay(events)['a'] === '1');
});

void test('a transaction whose outcome is unknown is not repeated elsewhere', async (t) => {
  const { endpoint } = await etcd(t);
  // Carries it out and then breaks the connection.
  const breaking = await listening(t, (request, response) => void new Response(request).text()
    .then((body) => fetch(`${endpoint}${request.url}`, { method: 'POST', body }))
    .then(() => response.destroy()));
  const store = storesOn(t, [breaking, endpoint])();
  await t.rejects(store.txn([{ key: 'once', revision: 0 }], [{ put: 'once', value: '1' }]), UNREACHABLE);
  t.equal((await store.get('once'))?.value, '1');
});

void test('nobody there: a coded error in bounded time, and recovery', async (t) => {
  const server = await etcd(t);
  const store = storesOn(t, [server.endpoint])();
  await store.txn([], [{ put: 'a', value: '1' }]);
  const watch = collect(store, '');
  await watch.until((events) => events.length === 1);
  server.freeze();
  await t.rejects(store.get('a'), UNREACHABLE);
  server.thaw();
  await untilWorks(() => store.txn([], [{ put: 'a', value: '2' }]));
  await watch.until((events) => replay(events)['a'] === '2');
});

void test('answers that etcd would not give', async (t) => {
  let answer: [number, string] = [200, ''];
  const endpoint = await listening(t, (_, response) => void response.writeHead(answer[0]).end(answer[1]));
  const store = storesOn(t, [endpoint])();
  for (const [status, text, message] of [
    [200, '', /not JSON/], [200, '[', /not JSON/], [200, '"text"', /not JSON/],
    [500, 'plain text', /plain text/], [401, `CommonName ${'x'.repeat(5000)}`, /CommonName x{200}/], [404, '', /HTTP status 404/],
    [503, '{"message":"etcdserver: no leader","code":14}', /no leader/],
  ] as [number, string, RegExp][]) {
    answer = [status, text];
    await t.rejects(store.get('a'), { ...UNREACHABLE, message });
  }
  answer = [200, '{}\n{"result":7}\nrubbish\n'];
  const stop = store.watch('', () => {});
  await delay(300);
  stop();
});
