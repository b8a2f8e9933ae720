/** Certificates and etcd's own users, against a real etcd. */
import { copyFileSync, renameSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { type Test, test } from 'tap';
import { systemClock as clock } from '../base/clock.ts';
import { type Logger, silentLogger } from '../base/log.ts';
import { authorityForTests } from './certificates-for-tests.ts';
import { type EtcdOptions, type EtcdStore, openEtcdStore } from './etcd.ts';
import { type EtcdForTests, etcdForTests } from './etcd-for-tests.ts';
import type { TlsFiles } from './etcd-tls.ts';
import { collect, replay } from './suite.ts';

const unusable = (message: RegExp): { code: string; message: RegExp } => ({ code: 'WEFT-STORE-UNREACHABLE', message });

function open(t: Test, options: Partial<EtcdOptions> & { endpoints: readonly string[] }): EtcdStore {
  const store = openEtcdStore({ clock, log: silentLogger, ...options });
  t.teardown(() => store.close());
  return store;
}

async function untilWorks(action: () => Promise<unknown>): Promise<void> {
  while (!await action().then(() => true, () => false)) await delay(50);
}

void test('mutual TLS', async (t) => {
  const ours = authorityForTests(t.testdir());
  const foreign = authorityForTests(t.testdirName);
  const server = await etcdForTests((end) => t.teardown(end), { tls: ours.issue() });
  const endpoints = [server.endpoint];
  const { ca, cert, key } = ours.issue();

  const store = open(t, { endpoints, tls: { ca, cert, key } });
  t.equal((await store.txn([{ key: 'a', revision: 0 }], [{ put: 'a', value: '1' }])).succeeded, true);
  const watch = collect(store, '');
  await watch.until((events) => replay(events)['a'] === '1');

  await t.rejects(open(t, { endpoints, tls: { ca } }).get('a'), unusable(/certificate/), 'no certificate is shown');
  await t.rejects(open(t, { endpoints, tls: { ...foreign.issue(), ca } }).get('a'), unusable(/./), 'one of another authority');
  await t.rejects(open(t, { endpoints, tls: { cert, key } }).get('a'), unusable(/certificate/), 'etcd\'s is of an unknown authority');
  await t.rejects(open(t, { endpoints, tls: { ca, cert, key: join(ca, 'none') } }).get('a'), unusable(/ENOTDIR/));
  const elsewhere = await etcdForTests((end) => t.teardown(end), { tls: ours.issue({ addresses: ['192.0.2.1'] }) });
  await t.rejects(open(t, { endpoints: [elsewhere.endpoint], tls: { ca, cert, key } }).get('a'), unusable(/192\.0\.2\.1/), 'it is for another address');
  t.equal((await open(t, { endpoints: [elsewhere.endpoint, server.endpoint], tls: { ca, cert, key } }).get('a'))?.value, '1', 'the next endpoint is asked');
});

void test('renewed certificates are taken up, half renewed ones are not', async (t) => {
  const folder = t.testdir();
  const ours = authorityForTests(folder);
  const server = await etcdForTests((end) => t.teardown(end), { tls: ours.issue() });
  const { ca, ...good } = ours.issue();
  const files = { ca, cert: join(folder, 'cert.pem'), key: join(folder, 'key.pem') };
  const put = ({ cert, key }: TlsFiles): void => {
    for (const [from, to] of [[cert, files.cert], [key, files.key]] as [string, string][]) {
      copyFileSync(from, `${to}.new`);
      renameSync(`${to}.new`, to);
    }
  };
  const warnings: object[] = [];
  const log: Logger = { ...silentLogger, warn: (fields) => warnings.push(fields) };

  put(authorityForTests(folder).issue());
  const store = open(t, { endpoints: [server.endpoint], tls: files, log });
  await t.rejects(store.get('a'), unusable(/./));
  put(good);
  await untilWorks(() => store.txn([], [{ put: 'a', value: '1' }]));

  put({ cert: good.cert, key: ours.issue().key });
  await delay(1100);
  await server.kill();
  await server.start();
  await untilWorks(() => store.get('a'));
  t.equal((await store.get('a'))?.value, '1', 'a new connection with the pair from before');
  t.equal(warnings.length, 1, 'said once');
  put(good);
  await delay(1100);
  t.equal((await store.get('a'))?.value, '1');
});

/** Switches users on: `weft` may do as it likes under /weft/, and nothing elsewhere. */
async function switchOnUsers({ post }: EtcdForTests): Promise<void> {
  const base64 = (text: string): string => Buffer.from(text).toString('base64');
  for (const name of ['root', 'weft']) {
    await post('/v3/auth/user/add', { name, password: `of ${name}` });
    await post('/v3/auth/role/add', { name });
    await post('/v3/auth/user/grant', { user: name, role: name });
  }
  await post('/v3/auth/role/grant', { name: 'weft', perm: { permType: 'READWRITE', key: base64('/weft/'), range_end: base64('/weft0') } });
  await post('/v3/auth/enable', {});
}

void test('a user of etcd\'s own', async (t) => {
  const server = await etcdForTests((end) => t.teardown(end));
  await switchOnUsers(server);
  const endpoints = [server.endpoint];
  const credentials = { user: 'weft', password: 'of weft' };

  const store = open(t, { endpoints, credentials });
  const watch = collect(store, '');
  await Promise.all(['a', 'b', 'c'].map((put) => store.txn([], [{ put, value: '1' }])));
  await watch.until((events) => replay(events)['c'] === '1');
  const lease = await store.lease(60);
  await store.txn([], [{ put: 'leased', value: '', lease }]);

  await t.rejects(open(t, { endpoints }).get('a'), unusable(/user name is empty/));
  const mistaken = open(t, { endpoints, credentials: { ...credentials, password: 'forgotten' } });
  await t.rejects(mistaken.txn([], [{ put: 'a', value: '' }]), unusable(/authentication failed, invalid user ID or password/));
  t.equal(mistaken.healthy, false);
  await t.rejects(open(t, { endpoints, credentials, prefix: '/other/' }).get('a'), unusable(/permission denied/));

  // Its tokens are in memory only.
  await server.kill();
  await server.start();
  await untilWorks(() => store.get('a'));
  t.equal((await store.txn([{ key: 'a', revision: 0 }], [])).succeeded, false);
  await store.txn([], [{ put: 'after', value: '' }]);
  await watch.until((events) => replay(events)['after'] !== undefined);
  t.equal(watch.events.filter(({ type }) => type === 'snapshot').length, 1, 'the watch went on with a new token');
  await lease.revoke();
  t.equal(await store.get('leased'), undefined);

  // A change of users makes every token stale in the middle of its life.
  const { token } = await server.post('/v3/auth/authenticate', { name: 'root', password: 'of root' }) as { token: string };
  await server.post('/v3/auth/user/add', { name: 'another', password: 'x' }, token);
  t.equal((await store.txn([], [{ put: 'a', value: '2' }])).succeeded, true);
});

void test('users and certificates together', async (t) => {
  const ours = authorityForTests(t.testdir());
  const server = await etcdForTests((end) => t.teardown(end), { tls: ours.issue() });
  await switchOnUsers(server);
  const credentials = { user: 'weft', password: 'of weft' };
  const named = open(t, { endpoints: [server.endpoint], tls: ours.issue({ commonName: 'host 1' }), credentials });
  await t.rejects(named.get('a'), unusable(/common name/));
  t.equal(named.healthy, false);
  t.equal(await open(t, { endpoints: [server.endpoint], tls: ours.issue(), credentials }).get('a'), undefined);
});
