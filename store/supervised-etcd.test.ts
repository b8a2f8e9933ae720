import { existsSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'tap';
import { systemClock as clock } from '../base/clock.ts';
import { openEtcdStore } from './etcd.ts';
import { findEtcd } from './etcd-process.ts';
import { type MemberForTests, sceneForTests, succeeds, until } from './member-for-tests.ts';
import { hasMember, prepareMember, removeMember, superviseEtcd } from './supervised-etcd.ts';
import { silentLogger as log } from '../base/log.ts';

const READY_MS = 20_000;

void test('one member: only for who belongs to the cluster, and always there', async (t) => {
  const scene = sceneForTests(t);
  const member = await scene.member('a');
  const { folder } = member.options;
  t.equal(hasMember(folder), false);
  let etcd = member.start({ type: 'first' });
  t.throws(() => prepareMember(folder, { type: 'first' }), RangeError);
  await etcd.ready(READY_MS);
  t.equal(statSync(folder).mode & 0o77, 0, 'nobody else comes near its socket');
  const store = scene.store([member]);
  await store.txn([], [{ put: 'a', value: '1' }]);
  t.match(await etcd.health(), { running: true, hasLeader: true, isLearner: false });
  t.same((await store.members.list()).map(({ name, isLearner }) => [name, isLearner]), [['a', false]]);

  const endpoints = [member.options.clientUrl];
  for (const tls of [{ ca: member.tls.ca }, { ...sceneForTests(t).authority.issue(), ca: member.tls.ca }]) {
    const outsider = openEtcdStore({ endpoints, tls, clock, log });
    t.teardown(() => outsider.close());
    await t.rejects(outsider.get('a'), { code: 'WEFT-STORE-UNREACHABLE' });
  }

  const first = member.pid();
  member.signal('SIGKILL');
  await until('it is started again', () => succeeds(() => store.get('a')));
  t.not(member.pid(), first);
  t.equal((await store.get('a'))?.value, '1');

  const second = member.pid();
  etcd.release();
  etcd = superviseEtcd(member.options);
  await etcd.ready(READY_MS);
  t.equal(member.pid(), second, 'the next weftd takes it over');
  member.signal('SIGKILL');
  await until('it is started again though it was no child', () => succeeds(() => store.get('a')));
  const third = member.pid();
  etcd.release();
  etcd = superviseEtcd({ ...member.options, tls: scene.authority.issue() });
  await etcd.ready(READY_MS);
  t.not(member.pid(), third, 'other files: another process');

  await etcd.stop();
  t.equal(findEtcd(folder), undefined);
  t.match(await etcd.health(), { running: false });
  await removeMember(folder, clock);
  t.notOk(existsSync(folder));
});

void test('what keeps it from running is said in words', async (t) => {
  const scene = sceneForTests(t);
  const member = await scene.member('a');
  const missing = superviseEtcd({ ...member.options, binary: join(scene.folder, 'none') });
  await until('it has tried', async () => (await missing.health()).problem !== undefined);
  t.match((await missing.health()).problem, /cannot be started.*member.json/, 'nothing was prepared');
  await missing.stop();
  prepareMember(member.options.folder, { type: 'first' });
  const noBinary = superviseEtcd({ ...member.options, binary: join(scene.folder, 'none') });
  await until('it has tried', async () => /ENOENT/.test((await noBinary.health()).problem ?? ''));
  await t.rejects(noBinary.ready(0), { code: 'WEFT-STORE-UNREACHABLE', message: /ENOENT/ });
  await noBinary.stop();

  const taken = await scene.member('b');
  const etcd = taken.start({ type: 'first' });
  await etcd.ready(READY_MS);
  const { clientUrl, peerUrl } = taken.options;
  const late = superviseEtcd({ ...member.options, clientUrl, peerUrl });
  await until('it has ended', async () => (await late.health()).problem?.startsWith('etcd ended') ?? false);
  t.match((await late.health()).problem, /exit code 1.*address already in use/);
  await late.stop();
});

void test('three members: learners, votes, a loss, a replacement', async (t) => {
  const scene = sceneForTests(t);
  const [a, b, c, d] = [await scene.member('a'), await scene.member('b'), await scene.member('c'), await scene.member('d')];
  await a.start({ type: 'first' }).ready(READY_MS);
  const store = scene.store([a]);
  const { members } = store;
  await store.txn([], [{ put: 'a', value: '1' }]);
  const place = ({ options: { name, peerUrl } }: MemberForTests): { name: string; peerUrl: string } => ({ name, peerUrl });

  await t.rejects(members.remove('a'), { code: 'WEFT-STORE-QUORUM' }, 'the only vote stays');
  const peers = await members.enter(place(b));
  t.same(await members.enter(place(b)), peers, 'entered once');
  t.same(peers.map(({ name }) => name).toSorted(), ['a', 'b']);
  await t.rejects(members.enter(place(c)), { code: 'WEFT-STORE-MEMBER-BUSY' });
  await t.rejects(members.promote('b'), { code: 'WEFT-STORE-MEMBER-BEHIND' }, 'it never started');
  const startedB = b.start({ type: 'learner', peers });
  await until('b has caught up', () => succeeds(() => members.promote('b')));
  await members.promote('b');
  await startedB.ready(READY_MS);
  await t.rejects(members.enter(place(c)), { code: 'WEFT-STORE-QUORUM' }, 'b has only just come');
  await until('b has settled', () => succeeds(() => members.enter(place(c))));
  c.start({ type: 'learner', peers: await members.enter(place(c)) });
  await until('c has caught up', () => succeeds(() => members.promote('c')));
  t.same((await members.list()).map(({ isLearner }) => isLearner), [false, false, false]);

  const everywhere = scene.store([c, b, a]);
  t.equal((await everywhere.get('a'))?.value, '1', 'c has it, too');
  c.signal('SIGSTOP');
  await until('the others go on', () => succeeds(() => everywhere.txn([], [{ put: 'a', value: '2' }])));
  b.signal('SIGSTOP');
  await t.rejects(store.txn([], [{ put: 'a', value: '3' }]), { code: 'WEFT-STORE-UNREACHABLE' }, 'one of three is no majority');
  b.signal('SIGCONT');
  await until('two are one', () => succeeds(() => everywhere.txn([], [{ put: 'a', value: '4' }])));

  // c is lost for good; d takes its place.
  await until('a majority removes it', () => succeeds(() => members.remove('c')));
  await members.remove('c');
  await until('the rest has settled', () => succeeds(() => members.enter(place(d))));
  const startedD = d.start({ type: 'learner', peers: await members.enter(place(d)) });
  await until('d has caught up', () => succeeds(() => members.promote('d')));
  await startedD.ready(READY_MS);
  t.equal((await scene.store([d]).get('a'))?.value, '4');

  // d comes back without its data: its old vote must not come back with it.
  const before = (await members.list()).find(({ name }) => name === 'd')?.id;
  await startedD.stop();
  await removeMember(d.options.folder, clock);
  await until('it is entered again', () => succeeds(() => members.enter(place(d))));
  d.start({ type: 'learner', peers: await members.enter(place(d)) });
  await until('d has caught up', () => succeeds(() => members.promote('d')));
  t.not((await members.list()).find(({ name }) => name === 'd')?.id, before);
});

void test('a member whose address has changed', async (t) => {
  const scene = sceneForTests(t);
  const [before, after] = [await scene.member('a'), await scene.member('a')];
  const first = before.start({ type: 'first' });
  await first.ready(READY_MS);
  await scene.store([before]).txn([], [{ put: 'a', value: '1' }]);
  first.release();
  await after.start().ready(READY_MS);
  const store = scene.store([after]);
  t.equal((await store.get('a'))?.value, '1');
  await store.members.move('a', after.options.peerUrl);
  t.same((await store.members.list()).map(({ peerUrl, clientUrl }) => [peerUrl, clientUrl]), [[after.options.peerUrl, after.options.clientUrl]]);
});
