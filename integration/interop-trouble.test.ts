/**
 * A pool of five Serf agents, five Go peers and five nodes of ours, which are killed, restarted, sent away and cut apart
 * at random. `TROUBLE_S` is how long, `SEED` which random run (other programs' timing is not repeated with it).
 */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import tap, { test } from 'tap';
import { seededRandom, shuffle } from '../base/random.ts';
import { goMissing } from './memberlist-peer/build.ts';
import { enterOwnNamespace } from './memberlist-peer/namespace.ts';
import { PORT, startGo, startOwn, serfRemembers, startSerf, type OwnPeer, type Peer } from './memberlist-peer/peers.ts';
import { must, until, wait } from './lab/run.ts';

const TROUBLE_MS = Number(process.env['TROUBLE_S'] ?? 120) * 1_000;
tap.setTimeout(TROUBLE_MS + 300_000);
await enterOwnNamespace();

const missing = goMissing() ?? ['/usr/bin/serf', '/usr/sbin/nft'].find((path) => !existsSync(path));
const seed = Number(process.env['SEED'] ?? 1);
const random = seededRandom(seed);
/** After a cut or a return, what was said before may still be on its way for so long: suspicions last up to 28 s here. */
const AFTERMATH_MS = 35_000;

const HOSTS = Array.from({ length: 15 }, (_, i) => `127.3.1.${i + 1}`);
const KINDS = ['serf', 'go', 'own'] as const;
const nameOf = (i: number): string => `${KINDS[i % 3]!}${i}`;

void test(`fifteen members of three kinds under random trouble, seed ${seed}`, { skip: missing === undefined ? false : `${missing} is not there` }, async (t) => {
  const snapshots = t.testdir({});
  const running = new Map<number, Peer>();
  /** Until when a member's death, or anybody's, is no wonder. */
  const excusedUntil = new Map<string, number>();
  let allExcusedUntil = 0;
  const falseDeaths: string[] = [];
  t.teardown(async () => void (await Promise.all([...running.values()].map((peer) => peer.kill()))));

  function watch(peer: OwnPeer): void {
    peer.gossip.watch(({ type, member }) => {
      const now = Date.now();
      if (type === 'leave' && member.state === 'dead' && now > allExcusedUntil && now > (excusedUntil.get(member.name) ?? 0)) falseDeaths.push(`${peer.name} takes ${member.name} for dead`);
    });
  }

  async function start(i: number): Promise<void> {
    const [name, host] = [nameOf(i), HOSTS[i]!];
    const kind = KINDS[i % 3];
    const peer = kind === 'serf' ? await startSerf(name, host, serfRemembers(join(snapshots, name))) : kind === 'go' ? await startGo(name, host, ['-serf']) : await startOwn(name, host);
    if (kind === 'own') {
      watch(peer as OwnPeer);
      (peer as OwnPeer).gossip.seekSeeds(async () => HOSTS.slice(0, 3).map((each) => ({ host: each, port: PORT })));
    }
    running.set(i, peer);
    excusedUntil.set(name, Date.now() + AFTERMATH_MS);
    const others = shuffle([...running.values()].filter((each) => each !== peer).map((each) => each.host), random).slice(0, 3);
    if (others.length > 0) await peer.join(others).catch((error: unknown) => t.comment(`${name} joins nobody at first: ${String(error)}`));
  }

  /** How a member went, so that its end is no wonder until it is back and known again. */
  async function remove(i: number, how: 'kill' | 'leave'): Promise<void> {
    const peer = running.get(i)!;
    running.delete(i);
    excusedUntil.set(peer.name, Infinity);
    await peer[how]().catch(() => peer.kill());
  }

  async function cut(): Promise<void> {
    const side = shuffle([...HOSTS], random).slice(0, 1 + random.int(7));
    const other = HOSTS.filter((host) => !side.includes(host));
    allExcusedUntil = Infinity;
    await must(['nft', '-f', '-'], { input: `table inet trouble {
      set a { type ipv4_addr; elements = { ${side.join()} } }
      set b { type ipv4_addr; elements = { ${other.join()} } }
      chain out { type filter hook output priority 0; ip saddr @a ip daddr @b drop; ip saddr @b ip daddr @a drop; }
    }` });
    await wait(2_000 + random.int(10_000));
    await must(['nft', 'delete', 'table', 'inet', 'trouble']);
    allExcusedUntil = Date.now() + AFTERMATH_MS;
  }

  async function trouble(): Promise<void> {
    const i = random.int(HOSTS.length);
    const dice = random.float();
    if (!running.has(i)) return start(i);
    if (dice < 0.35) return remove(i, 'kill');
    if (dice < 0.55) return remove(i, 'leave');
    if (dice < 0.65) return cut();
    return wait(random.int(3_000));
  }

  const differing = async (): Promise<string | undefined> => {
    const expected = [...running.values()].map(({ name }) => name).sort().join();
    const differences = await Promise.all([...running.values()].map(async (peer) => {
      const living = (await peer.living()).join();
      return living === expected ? undefined : `${peer.name} sees ${living} of ${expected}: ${await peer.describe()}`;
    }));
    return differences.find((difference) => difference !== undefined);
  };
  const agree = (what: string, timeoutMs: number): Promise<unknown> => until(what, async () => {
    const difference = await differing();
    if (difference !== undefined) throw new Error(difference);
    return true;
  }, timeoutMs, 500);

  // The first alone, for the others to join.
  const [first, ...rest] = HOSTS.keys();
  await start(first!);
  await Promise.all(rest.map(start));
  await agree('all have found each other', 60_000);
  t.pass('all have found each other');

  let steps = 0;
  for (const end = Date.now() + TROUBLE_MS; Date.now() < end; steps++) {
    await trouble();
    await wait(random.int(2_000));
  }
  await Promise.all([...HOSTS.keys()].filter((i) => !running.has(i)).map(start));
  const healed = Date.now();
  await agree('equal views after the trouble', 120_000);
  t.pass(`equal views ${((Date.now() - healed) / 1000).toFixed(1)} s after ${steps} steps`);
  // Long enough for every suspicion that was still open to come true.
  allExcusedUntil = 0;
  excusedUntil.clear();
  await wait(AFTERMATH_MS);
  t.equal(await differing(), undefined, 'and they stay');
  t.same(falseDeaths, [], 'nobody was taken for dead who was not');
});
