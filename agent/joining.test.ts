import { X509Certificate } from 'node:crypto';
import { once } from 'node:events';
import net from 'node:net';
import { join } from 'node:path';
import tls from 'node:tls';
import { test, type Test } from 'tap';
import { systemClock, type Clock } from '../base/clock.ts';
import { WeftError } from '../base/errors.ts';
import { silentLogger as log } from '../base/log.ts';
import { systemRandom, type Random } from '../base/random.ts';
import { newKey, nodeOf, requestCertificate } from '../cluster/identity/authority.ts';
import { readIdentity } from '../cluster/identity/files.ts';
import { join as joinBy } from '../cluster/identity/join-client.ts';
import { parseToken } from '../cluster/identity/token.ts';
import { openEtcdStore } from '../store/etcd.ts';
import { etcdForTests } from '../store/etcd-for-tests.ts';
import type { Store } from '../store/store.ts';
import { startJoining } from './joining.ts';

const DAY_MS = 86_400_000;
const idOf = (number: number): string => number.toString(16).padStart(16, '0');

/** A node that admits others, on loopback. */
async function node(t: Test, store: Store, number: number, folder: string, { clock = systemClock, random = systemRandom }: { clock?: Clock; random?: Random } = {}) {
  const listener = net.createServer((socket) => joining.accept(socket)).listen(0, '127.0.0.1');
  await once(listener, 'listening');
  const { port } = listener.address() as net.AddressInfo;
  const removed: string[] = [];
  const joining = startJoining({
    store, directory: join(folder, `n${number}`), node: { id: idOf(number), address: '127.0.0.1' }, found: async () => {}, admissible: () => {}, onRevoked: () => {}, onRemoved: ({ code }) => void removed.push(code), memberCalls: {}, clock, random, log,
    settings: () => ({ store: { endpoints: ['https://127.0.0.1:7948'], own: true }, gossipPort: port, vxlanPort: 4789, nodePrefix: '10.255.0.0/16', defaultPools: [] }),
  });
  t.teardown(() => {
    joining.close();
    listener.close();
  });
  const token = async (rotate = false): Promise<string> => {
    for (;;) {
      try {
        return (await joining.token(rotate)).token;
      } catch (error) {
        if (!(error instanceof WeftError && error.code === 'WEFT-IDENTITY')) throw error;
        await new Promise((resolve) => { setTimeout(resolve, 50); });
      }
    }
  };
  return { token, removed, identity: () => joining.identity(), port, close: () => joining.close() };
}

/** The store of a cluster without nodes, and where their files go. */
async function cluster(t: Test) {
  // Timers of the code under test do not keep a process alive.
  const awake = setInterval(() => {}, 1000);
  t.teardown(() => clearInterval(awake));
  const etcd = await etcdForTests((end) => t.teardown(end));
  const store = openEtcdStore({ endpoints: [etcd.endpoint], clock: systemClock, log });
  t.teardown(() => store.close());
  return { store, folder: t.testdir() };
}

test('fifty join at once at two nodes, and the token is changed while they do', async (t) => {
  const { store, folder } = await cluster(t);
  const nodes = [await node(t, store, 1, folder), await node(t, store, 2, folder)];
  const earlier = [await nodes[0]!.token(), await nodes[1]!.token()];
  const joiners = await Promise.all(Array.from({ length: 55 }, async (_, i) => ({ id: idOf(100 + i), request: await requestCertificate(await newKey()), name: `h${i}`, address: `10.0.1.${i + 1}` })));

  const admitted: { id: string; certificate: X509Certificate }[] = [];
  const refused: { id: string; code: string }[] = [];
  const enter = async (joiner: typeof joiners[number], token: string): Promise<void> => {
    try {
      admitted.push({ id: joiner.id, certificate: new X509Certificate((await joinBy(parseToken(token), joiner)).certificate) });
    } catch (error) {
      refused.push({ id: joiner.id, code: (error as WeftError).code });
    }
  };
  const before = joiners.slice(0, 30);
  const after = joiners.slice(30, 50);
  const late = joiners.slice(50);
  const first = before.map((joiner, i) => enter(joiner, earlier[i % 2]!));
  await Promise.race([Promise.all(first), (async () => { while (admitted.length < 8) await new Promise((resolve) => { setTimeout(resolve, 5); }); })()]);
  const changed = await nodes[0]!.token(true);
  const { revision } = (await store.get('identity/token'))!;
  const afterwards = [await nodes[0]!.token(), await nodes[1]!.token()];
  t.equal(afterwards[0], changed);
  await Promise.all([...first, ...after.map((joiner, i) => enter(joiner, afterwards[i % 2]!)), ...late.map((joiner, i) => enter(joiner, earlier[i % 2]!))]);

  const isIn = (joiner: { id: string }): boolean => admitted.some(({ id }) => id === joiner.id);
  t.comment(`of ${before.length} with the earlier token ${before.filter(isIn).length} were in time`);
  t.ok(before.filter(isIn).length >= 8);
  t.ok(after.every(isIn), 'everybody with the new token is in');
  t.notOk(late.some(isIn), 'nobody who came with the earlier one after the change');
  t.same([...new Set(refused.map(({ code }) => code))], ['WEFT-TOKEN-REFUSED']);
  t.equal(new Set(admitted.map(({ certificate }) => certificate.serialNumber)).size, admitted.length, 'no serial number twice');
  t.ok(admitted.every(({ id, certificate }) => nodeOf(certificate) === id));

  const { entries } = await store.range('identity/certificates/');
  const entered = new Map(entries.map((entry) => [entry.key.slice(-16), entry]));
  for (const { id, certificate } of admitted) {
    const entry = entered.get(id)!;
    t.match(JSON.parse(entry.value), [{ serial: certificate.serialNumber }]);
    t.equal(entry.revision < revision, before.some((joiner) => joiner.id === id), 'let in before the change by the earlier token, else by the new one');
  }
  t.same([...entered.keys()].filter((id) => refused.some((each) => each.id === id)), [], 'of who was refused nothing is left');
});

test('a node of the cluster that a restored store was of is told to join again', async (t) => {
  const { store, folder } = await cluster(t);
  const before = await node(t, store, 1, folder);
  await before.token();
  before.close();
  await store.txn([], (await store.range('identity/')).entries.map(({ key }) => ({ delete: key })));
  const restoring = await node(t, store, 2, folder);
  await restoring.token();
  const after = await node(t, store, 1, folder);
  while (after.removed.length === 0) await new Promise((resolve) => { setTimeout(resolve, 20); });
  t.same(after.removed, ['WEFT-NODE-REMOVED']);
  t.same((await store.range('identity/certificates/')).entries.map(({ key }) => key), [`identity/certificates/${idOf(2)}`], 'and is not entered');
});

test('a store that was emptied gets no other authority from a node of before', async (t) => {
  const { store, folder } = await cluster(t);
  const before = await node(t, store, 1, folder);
  await before.token();
  before.close();
  const { entries } = await store.range('identity/');
  await store.txn([], entries.map(({ key }) => ({ delete: key })));
  // The look that is in vain is followed by another one soon.
  const clock: Clock = { ...systemClock, setTimeout: (callback, delayMs) => systemClock.setTimeout(callback, Math.min(delayMs, 20)) };
  let looks = 0;
  const after = await node(t, { ...store, get: (key) => { looks++; return store.get(key); } }, 1, folder, { clock });
  while (looks < 3) await new Promise((resolve) => { setTimeout(resolve, 20); });
  t.same((await store.range('')).entries, []);
  await store.txn([], entries.map(({ key, value }) => ({ put: key, value })));
  const later = looks + 4;
  while (looks < later) await new Promise((resolve) => { setTimeout(resolve, 20); });
  t.same(after.removed, [], 'it goes on when the store has its contents again');
});

test('a certificate is renewed in time, by each node at another moment', async (t) => {
  const { store, folder } = await cluster(t);
  let later = 0;
  // Each hour's look comes at once.
  const clock: Clock = { ...systemClock, wallNow: () => Date.now() + later, setTimeout: (callback) => systemClock.setTimeout(callback, 20) };
  const drawing = (float: number): Random => ({ ...systemRandom, float: () => float });
  const nodes = [await node(t, store, 1, folder, { clock, random: drawing(0) }), await node(t, store, 2, folder, { clock, random: drawing(0.999) })];
  for (const { token } of nodes) await token();
  const serials = (): (string | undefined)[] => nodes.map(({ identity }) => new X509Certificate(identity()!.certificate).serialNumber);
  const first = serials();
  const looksAgain = (): Promise<unknown> => new Promise((resolve) => { setTimeout(resolve, 300); });
  const until = async (isSo: () => boolean): Promise<void> => { while (!isSo()) await new Promise((resolve) => { setTimeout(resolve, 20); }); };

  later = 14 * DAY_MS;
  await looksAgain();
  t.same(serials(), first, 'not in the first half of its life');
  later = 17 * DAY_MS;
  await until(() => serials()[0] !== first[0]);
  await looksAgain();
  t.equal(serials()[1], first[1], 'one of them then');
  later = 21 * DAY_MS;
  await until(() => serials()[1] !== first[1]);
  t.ok(nodes.every(({ identity }) => Date.parse(new X509Certificate(identity()!.certificate).validTo) > Date.now() + 45 * DAY_MS), 'and the other long before its end');
  for (const [i, { port }] of nodes.entries()) {
    // Valid from a time that this process has not come to.
    const socket = tls.connect({ host: '127.0.0.1', port, rejectUnauthorized: false });
    await once(socket, 'secureConnect');
    t.equal(socket.getPeerX509Certificate()?.serialNumber, serials()[i], 'it shows the new one');
    socket.destroy();
    t.equal(readIdentity(join(folder, `n${i + 1}`))?.certificate, nodes[i]!.identity()!.certificate, 'which is on its disk');
    const issued = JSON.parse((await store.get(`identity/certificates/${idOf(i + 1)}`))!.value) as { serial: string }[];
    t.same(issued.map(({ serial }) => serial), [first[i], serials()[i]], 'both can be refused if the node is taken out');
  }
});
