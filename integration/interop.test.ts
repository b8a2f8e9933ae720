/**
 * Pools of programs that are not ours and nodes of ours: Debian's Serf agents and memberlist in Go, in the clear,
 * compressed, encrypted, and while keys change. Everything runs on the loopback device of a namespace of its own, the
 * pools side by side on addresses of their own: most of the time they wait for one another's timers.
 */
import { existsSync } from 'node:fs';
import tap, { type Test, test } from 'tap';
import { Keyring } from '../gossip/keyring.ts';
import { goMissing } from './memberlist-peer/build.ts';
import { enterOwnNamespace } from './memberlist-peer/namespace.ts';
import { startGo, startOwn, startSerf, type GoPeer, type OwnPeer, type Peer, type SerfPeer } from './memberlist-peer/peers.ts';
import { run, until, wait } from './lab/run.ts';

tap.setTimeout(300_000);
tap.jobs = 5;
await enterOwnNamespace();

const missing = goMissing() ?? (existsSync('/usr/bin/serf') ? undefined : '/usr/bin/serf');
const skip = missing === undefined ? false : `${missing} is not there`;
const KEY_256 = Buffer.from('0123456789abcdef0123456789abcdef');
const KEY_128 = Buffer.from('fedcba9876543210');

interface Pool { hostOf: (i: number) => string; serf: SerfPeer; serf2: SerfPeer; go: GoPeer; own: OwnPeer; own2: OwnPeer; all: Peer[]; ring: Keyring | undefined; ring2: Keyring | undefined }

let pools = 0;

/** Two Serf agents, a Go peer and two of ours. Joins go in every direction: ours to Serf, Go to ours, Serf to ours, ours to Go. */
async function startPool(t: Test, { compress, key }: { compress: boolean; key?: Buffer }): Promise<Pool> {
  const encoded = key?.toString('base64');
  const serfFlags = [...(compress ? [] : ['-disable-compression']), ...(encoded ? [`-encrypt=${encoded}`] : [])];
  const [ring, ring2] = [1, 2].map(() => key && new Keyring(key));
  const net = ++pools;
  const hostOf = (i: number): string => `127.3.${net}.${i}`;
  const all: Peer[] = [];
  t.teardown(async () => void (await Promise.all(all.map((peer) => peer.kill()))));
  const track = async <T extends Peer>(peer: Promise<T>): Promise<T> => {
    all.push(await peer);
    return peer;
  };
  const [serf, serf2, go, own, own2] = await Promise.all([
    track(startSerf('serf', hostOf(1), serfFlags)),
    track(startSerf('serf2', hostOf(2), serfFlags)),
    track(startGo('go', hostOf(3), ['-serf', `-compress=${compress}`, ...(encoded ? [`-key=${encoded}`] : [])])),
    track(startOwn('own', hostOf(4), { compression: compress, keyring: ring })),
    track(startOwn('own2', hostOf(5), { compression: compress, keyring: ring2 })),
  ]);
  await own.join([serf.host]);
  await go.join([own.host]);
  await serf2.join([own.host]);
  await own2.join([go.host]);
  await allSee(t, all, 'after joins in every direction');
  return { hostOf, serf, serf2, go, own, own2, all, ring, ring2 };
}

/** Each sees all of them alive and nobody else. */
async function allSee(t: Test, peers: readonly Peer[], what: string, timeoutMs = 20_000): Promise<void> {
  const expected = peers.map(({ name }) => name).sort().join();
  await until(what, async () => {
    for (const peer of peers) {
      const living = (await peer.living()).join();
      if (living !== expected) throw new Error(`${peer.name} sees ${living}`);
    }
    return true;
  }, timeoutMs, 100);
  t.pass(`equal lists of members ${what}`);
}

const tagsMeta = (role: string): Buffer => Buffer.concat([Buffer.from('ff81a4', 'hex'), Buffer.from('role'), Buffer.of(0xa0 | role.length), Buffer.from(role)]);

async function talk(t: Test, { serf, go, own, own2 }: Pool, mark: string): Promise<void> {
  const { gossip } = own;
  gossip.broadcast(Buffer.from(`${mark}-news`));
  gossip.sendBestEffort('go', Buffer.from(`${mark}-packet`));
  await gossip.sendReliable('go', Buffer.from(`${mark}-stream${'.'.repeat(5_000)}`));
  for (const what of ['news', 'packet', 'stream']) t.ok(await until(`${what} from ours to Go`, () => go.heard(`${mark}-${what}`)), `${what} from ours to Go`);
  // memberlist sends news four times in a pool of this size, to members at random, which may miss one of them.
  const untilHeard = async (peers: readonly Peer[], text: string, send: (i: number) => Promise<unknown>): Promise<void> => {
    const isHeard = (): boolean => peers.every((peer) => peer.heard(text));
    for (let i = 0; i < 10 && !isHeard(); i++) {
      await send(i);
      await until(text, isHeard, 1_000).catch(() => {});
    }
  };
  await untilHeard([own], `${mark}-cast`, (i) => go.command(`cast ${mark}-cast${i}`));
  await go.command(`packet own ${mark}-back`);
  await go.command(`stream own ${mark}-return${'.'.repeat(5_000)}`);
  for (const what of ['cast', 'back', 'return']) t.ok(await until(`${what} from Go to ours`, () => own.heard(`${mark}-${what}`)), `${what} from Go to ours`);
  await untilHeard([own, own2, go], `${mark}-event`, (i) => serf.run('event', `${mark}-event${i}`, 'payload'));
  for (const peer of [own, own2, go]) t.ok(await until(`Serf's user event reaches ${peer.name}`, () => peer.heard(`${mark}-event`)), `Serf's user event reaches ${peer.name}`);
  // Ours answer no queries, and nothing of it disturbs them.
  await untilHeard([own], `${mark}-query`, async (i) => {
    const { stdout } = await run(['serf', 'query', `-rpc-addr=${serf.host}:7373`, '-timeout=1s', `${mark}-query${i}`, 'payload']);
    t.match(stdout, /Query '.*-query\d' dispatched/);
  });
  t.ok(await until('Serf\'s query reaches ours', () => own.heard(`${mark}-query`)), 'Serf\'s query reaches ours');
}

for (const [what, options] of [
  ['in the clear', { compress: false }], ['compressed', { compress: true }], ['AES-128', { compress: true, key: KEY_128 }], ['AES-256', { compress: false, key: KEY_256 }],
] as const) {
  void test(`a mixed pool, ${what}`, { skip, buffered: true }, async (t) => {
    const pool = await startPool(t, options);
    const { serf, serf2, go, own, own2, all } = pool;
    const failures: string[] = [];
    for (const peer of [own, own2]) peer.gossip.watch(({ type, member }) => void ((type === 'leave' || type === 'suspect') && failures.push(`${peer.name}: ${type} ${member.name}`)));
    await talk(t, pool, 'first');

    await own.gossip.updateNode(tagsMeta('web'));
    t.ok(await until('Serf sees our tags', async () => (await serf.statusOf('own'))?.tags['role'] === 'web'), 'Serf sees our meta data');
    t.ok(await until('Go sees our meta data', async () => (await go.metaOf('own'))?.includes('web')), 'Go sees our meta data');
    await serf.run('tags', '-set', 'role=db');
    await go.command('meta other');
    t.ok(await until('ours see theirs', () => own2.gossip.member('serf')?.meta.includes('db') && own2.gossip.member('go')?.meta.toString() === 'other'), 'ours see theirs');
    t.ok(await go.command('ping own') as number < 1, 'Go pings us');
    t.ok(await own.gossip.ping('go') < 1_000, 'we ping Go');
    t.ok(await own.gossip.ping('serf') < 1_000, 'we ping Serf');

    await wait(3_000);
    t.same(failures, [], 'nobody was suspected meanwhile');

    await own2.leave();
    for (const agent of [serf, serf2]) t.ok(await until('Serf sees us as left', async () => (await agent.statusOf('own2'))?.status === 'left'), `${agent.name} sees us as left`);
    await allSee(t, all.filter((peer) => peer !== own2), 'after a departure of ours');

    const killed = Date.now();
    await own.kill();
    // Four members: probed within one to three seconds, suspected for 4 s at least and, unconfirmed, for 24 s at most.
    t.ok(await until('Serf sees us as failed', async () => (await serf.statusOf('own'))?.status === 'failed', 30_000), `failed after ${((Date.now() - killed) / 1000).toFixed(1)} s`);
    const again = await startOwn('own', own.host, { compression: options.compress, ...('key' in options && { keyring: new Keyring(options.key) }) });
    all.push(again);
    await again.join([go.host]);
    await allSee(t, [serf, serf2, go, again], 'after our return under the same name');

    await serf2.leave();
    t.ok(await until('ours see Serf leave', () => again.stateOf('serf2') === 'left'), 'ours see Serf as left');
    await go.kill();
    t.ok(await until('ours see Go fail', () => again.stateOf('go') === 'dead', 30_000), 'ours see Go as failed');
  });
}

void test('keys change in a mixed pool, and nobody notices', { skip, buffered: true }, async (t) => {
  const pool = await startPool(t, { compress: false, key: KEY_256 });
  const { hostOf, serf, serf2, go, own, own2, all, ring, ring2 } = pool;
  const failures: string[] = [];
  for (const peer of [own, own2]) peer.gossip.watch(({ type, member }) => void ((type === 'leave' || type === 'suspect') && failures.push(`${peer.name}: ${type} ${member.name}`)));
  const next = Buffer.from('another key of thirty-two bytes!');
  for (const [step, key] of [['install', next], ['use', next], ['remove', KEY_256]] as const) {
    for (const each of [ring!, ring2!]) each[step](key);
    await go.command(`key ${step} ${key.toString('base64')}`);
    // By a query, which may miss an agent, so that each is asked itself. It complains that the others do not answer, and works.
    for (const agent of [serf, serf2]) await run(['serf', 'keys', `-rpc-addr=${agent.host}:7373`, `-${step}=${key.toString('base64')}`]);
    await wait(2_000);
  }
  await talk(t, pool, 'rotated');
  await allSee(t, all, 'after the change');
  t.same(failures, [], 'nobody was suspected meanwhile');
  const late = await startOwn('late', hostOf(6), { keyring: new Keyring(KEY_256) });
  t.teardown(() => late.kill());
  await t.rejects(late.join([own.host]), 'the old key opens nothing');
});
