/**
 * Five nodes give and take addresses through every trouble there is, on the virtual clock and on real SQLite files: cut
 * links in both directions, transactions that arrive long after they were given up, nodes that stand still or are killed
 * in the middle, wall clocks that jump, a store that is made anew from an old backup, nodes whose disk was copied. No
 * address is ever two holders'. And the check is checked: without the guard in the store it finds some.
 *
 *   OPERATIONS=1000000 SEED=7 node ipam/churn.test.ts
 */
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import tap, { test } from 'tap';
import { WeftError } from '../base/errors.ts';
import { silentLogger as log } from '../base/log.ts';
import { type Random, seededRandom } from '../base/random.ts';
import { VirtualClock } from '../base/virtual-clock.ts';
import { copyInto, finishCopy } from '../store/copy.ts';
import { openSqliteStore } from '../store/sqlite.ts';
import type { Entry, Store } from '../store/store.ts';
import { restoredClaims } from './restore.ts';
import { type Tenure, violations } from './tenures-for-tests.ts';
import { type Link, letRun, scene, type SceneNode } from './scene-for-tests.ts';

tap.setTimeout(3_600_000);

const OPERATIONS = Number(process.env['OPERATIONS'] ?? 100_000);
const SEED = Number(process.env['SEED'] ?? Date.now() % 1_000_000);
const NODES = 5;
const REST_MS = 10_000;
/** Small enough for nodes to run out, borrow, and meet; of both families. */
const SUBNETS = ['10.9.0.0/24', '10.9.1.0/27', '10.9.2.0/29', 'fd00:9::/122'];
const ROOM = 253 + 30 + 6 + 63;
const TROUBLES: readonly Link[] = ['down', 'answers-lost', 'late', 'frozen'];
const STEPS_BETWEEN = 8;
const PHASE = 1_000;
/** One trouble of so many. */
const RARE = 12;

interface Outcome { operations: number; given: number; released: number; refused: Record<string, number>; kills: number; restores: number; copies: number; history: Tenure[]; left: number; used: number }

const pick = <T>(items: readonly T[], random: Random): T => items[random.int(items.length)]!;

/** A node whose disk was copied while it was down: the copy runs in its place until it returns, which fences the copy. */
interface Copied { index: number; disk: readonly { key: string; value: string }[]; /** What runs on the node's own host. */ inherited: ReadonlySet<string>; waiting: readonly Asked[] }
interface Asked { node: number; subnet: string; holder: string }

async function churn(first: Store, clock: VirtualClock, folder: string, operations: number, random: Random, seen = (store: Store): Store => store): Promise<Outcome> {
  let store = seen(first);
  const replaced: Store[] = [];
  const { nodes, close } = await scene(folder, store, { count: NODES, clock, restMs: REST_MS, current: () => store });
  const history: Tenure[] = [];
  const held = new Map<string, Tenure & { subnet: string }>();
  /** Requests whose answer never came: asked again by the same holder, as Docker's caller would. */
  let unanswered: Asked[] = [];
  const under = new Map<string, Asked>();
  let backup: readonly Entry[] = [];
  let copied: Copied | undefined;
  const outcome: Outcome = { operations: 0, given: 0, released: 0, refused: {}, kills: 0, restores: 0, copies: 0, history, left: 0, used: 0 };
  let events = 0;
  /** Subnet → an address that somebody had. */
  const lately = new Map<string, string>();

  function acquire(node: number, subnet: string, holder: string, more: { address?: string; chooser?: 'docker' } = {}): void {
    outcome.operations++;
    const request = { node, subnet, holder };
    under.set(holder, request);
    nodes[node]!.ipam.requestAddress({ subnet, holder, chooser: 'weft', ...more }).then((answer) => {
      // The answer of one that was killed is heard by nobody.
      if (under.get(holder) !== request) return;
      const tenure = { address: answer.split('/')[0]!, holder, node, from: ++events, fromMs: clock.now(), subnet };
      history.push(tenure);
      if (random.int(20) === 0) lately.set(subnet, tenure.address);
      held.set(holder, tenure);
      outcome.given++;
    }, (error: unknown) => {
      if (under.get(holder) !== request) return;
      if (!(error instanceof WeftError)) throw error;
      outcome.refused[error.code] = (outcome.refused[error.code] ?? 0) + 1;
    }).finally(() => {
      if (under.get(holder) === request) under.delete(holder);
    });
  }

  function release(holder: string): void {
    const tenure = held.get(holder)!;
    outcome.operations++;
    held.delete(holder);
    tenure.to = ++events;
    // Synchronous on the node's disk: nothing can come in between.
    void nodes[tenure.node]!.ipam.releaseAddress(tenure.subnet, tenure.address);
    tenure.endedMs = clock.now();
    outcome.released++;
  }

  function operate(): void {
    // By turns much and little is in use, and most of it on one node, so that blocks become idle and go to others.
    const phase = Math.floor(outcome.operations / PHASE);
    const load = phase % 2 === 0 ? 0.9 : 0.2;
    const on = random.int(2) === 0 ? phase % NODES : random.int(NODES);
    if (nodes[on]!.link === 'frozen') return;
    const again = unanswered.findIndex((each) => each.node === on);
    if (again >= 0 && random.int(4) === 0) {
      const [{ subnet, holder }] = unanswered.splice(again, 1) as [typeof unanswered[0]];
      acquire(on, subnet, holder);
    } else if (held.size > 0 && held.size > 2 * load * random.int(ROOM)) {
      const holder = pick([...held.keys()], random);
      if (nodes[held.get(holder)!.node]!.link !== 'frozen' && !copied?.inherited.has(holder)) release(holder);
    } else {
      const subnet = pick(SUBNETS, random);
      const wanted = random.int(5) === 0 ? lately.get(subnet) : undefined;
      acquire(on, subnet, `h${events++}`, wanted === undefined ? {} : { address: wanted, ...(random.int(4) === 0 && { chooser: 'docker' as const }) });
    }
  }

  async function kill(node: SceneNode, index: number, meanwhile = (): void => {}): Promise<void> {
    outcome.kills++;
    for (const request of [...under.values()].filter((each) => each.node === index)) {
      under.delete(request.holder);
      unanswered.push(request);
    }
    if (node.link === 'frozen') node.link = 'down';
    node.stop();
    meanwhile();
    await letRun(clock, node.restart());
  }

  /** Those of a host end at once: it is no member any more, so nobody has to forget where they were. */
  function lose(index: number, kept: ReadonlySet<string> = new Set()): void {
    for (const [holder, tenure] of held) {
      if (tenure.node !== index || kept.has(holder)) continue;
      held.delete(holder);
      tenure.to = ++events;
      tenure.endedMs = clock.now();
    }
    for (const [holder, { node }] of under) if (node === index) under.delete(holder);
    unanswered = unanswered.filter(({ node }) => node !== index);
  }
  const isRested = (tenures: readonly Tenure[]): void => tenures.forEach((tenure) => { if (tenure.endedMs !== undefined) tenure.endedMs = Math.min(tenure.endedMs, clock.now() - REST_MS); });

  /** As the how-to page has it: one host goes on with the backup and with its own disk, all others are purged and join again. */
  async function restore(): Promise<void> {
    await endCopy();
    outcome.restores++;
    const chosen = random.int(NODES);
    const survivor = nodes[chosen]!;
    for (const [index, node] of nodes.entries()) {
      for (const request of under.values()) if (request.node === index && index === chosen) unanswered.push(request);
      for (const [holder, request] of under) if (request.node === index) under.delete(holder);
      node.link = 'up';
      node.stop();
      if (index !== chosen) lose(index);
    }
    isRested(history);
    replaced.push(store);
    store = seen(openSqliteStore(join(folder, `store-${outcome.restores}.db`), { clock, log }));
    await copyInto(store, restoredClaims(backup, survivor.local, { id: survivor.id, name: survivor.id }), 'restore');
    await finishCopy(store);
    await letRun(clock, survivor.restart());
    const gone = nodes.filter((node) => node !== survivor).map((node) => {
      const { id } = node;
      node.purge();
      return id;
    });
    for (const node of nodes) if (node !== survivor) await letRun(clock, node.restart());
    for (const id of gone) await letRun(clock, survivor.ipam.upkeep.reclaim(id));
    backup = (await store.range('')).entries;
  }

  async function beginCopy(): Promise<void> {
    const index = random.int(NODES);
    const node = nodes[index]!;
    if (copied || node.link === 'frozen') return;
    outcome.copies++;
    await kill(node, index, () => {
      copied = { index, disk: node.local.list(''), inherited: new Set([...held].flatMap(([holder, tenure]) => (tenure.node === index ? [holder] : []))), waiting: unanswered.filter((each) => each.node === index) };
      unanswered = unanswered.filter((each) => each.node !== index);
      node.link = 'up';
    });
  }

  /** The node returns, and reaches the store: that is what fences the copy. */
  async function endCopy(): Promise<void> {
    if (!copied) return;
    const { index, disk, inherited, waiting } = copied;
    const node = nodes[index]!;
    node.stop();
    lose(index, inherited);
    isRested(history.filter((tenure) => tenure.node === index));
    node.local.transaction(() => {
      for (const { key } of node.local.list('')) node.local.delete(key);
      for (const { key, value } of disk) node.local.put(key, value);
    });
    unanswered.push(...waiting);
    copied = undefined;
    node.link = 'up';
    await letRun(clock, node.restart());
  }

  async function rareTrouble(): Promise<void> {
    const kind = random.int(4);
    if (kind === 0) backup = (await store.range('')).entries;
    else if (kind === 1) await restore();
    else if (copied) await endCopy();
    else await beginCopy();
  }

  async function trouble(): Promise<void> {
    if (random.int(RARE) === 0) return rareTrouble();
    const index = random.int(NODES);
    const node = nodes[index]!;
    const kind = random.int(10);
    if (kind < 4) node.link = 'up';
    else if (kind < 7) node.link = pick(TROUBLES.filter((link) => link !== 'late' || copied?.index !== index), random);
    else if (kind < 8) node.wallOffset = (random.int(3) - 1) * 3_600_000;
    else if (kind < 9) await clock.advance(random.int(2 * REST_MS));
    else await kill(node, index);
  }

  try {
    for (const subnet of SUBNETS) await nodes[0]!.ipam.requestPool({ subnet });
    backup = (await store.range('')).entries;
    while (outcome.operations < operations) {
      for (let i = 0; i < STEPS_BETWEEN; i++) operate();
      if (random.int(12) === 0) await trouble();
      await clock.advance(random.int(200));
    }
    await endCopy();
    for (const node of nodes) node.link = 'up';
    await clock.advance(60_000);
    for (const [index, node] of nodes.entries()) await kill(node, index);
    // Whoever was not answered asks again, and is answered now.
    for (const { node, subnet, holder } of unanswered.splice(0)) acquire(node, subnet, holder);
    await clock.advance(60_000);
    outcome.left = held.size + under.size;
    outcome.used = nodes.reduce((sum, { ipam }) => sum + ipam.usage().reduce((all, { used }) => all + used, 0), 0);
    return outcome;
  } finally {
    close();
    for (const each of [...replaced, store]) await each.close();
  }
}

/** In memory where that is possible: the disk's share of the time is not what is tested. */
async function withStore<T>(run: (store: Store, clock: VirtualClock, folder: string) => Promise<T>): Promise<T> {
  const folder = mkdtempSync(join(existsSync('/dev/shm') ? '/dev/shm' : tmpdir(), 'weft-churn-'));
  const clock = new VirtualClock();
  const store = openSqliteStore(join(folder, 'store.db'), { clock, log });
  try {
    return await run(store, clock, folder);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

void test(`${OPERATIONS} operations by ${NODES} nodes, seed ${SEED}`, async (t) => {
  const outcome = await withStore((store, clock, folder) => churn(store, clock, folder, OPERATIONS, seededRandom(SEED)));
  const { history, ...figures } = outcome;
  t.comment(JSON.stringify(figures));
  t.same(violations(history, REST_MS).slice(0, 3), []);
  t.equal(outcome.used, outcome.left, 'and none is lost');
  t.ok(outcome.given > OPERATIONS / 4, 'most were given');
  const moves = [...Map.groupBy(history, ({ address }) => address).values()].flatMap((tenures) => tenures.filter(({ node }, i) => i > 0 && tenures[i - 1]!.node !== node));
  t.ok(moves.length > OPERATIONS / 200, `addresses went from node to node ${moves.length} times`);
});

void test('the check finds what it is there for: without the guard on blocks', async (t) => {
  const outcome = await withStore((store, clock, folder) => {
    const unguarded = (one: Store): Store => ({ ...one, txn: (compares, writes) => one.txn(compares.filter(({ key }) => !key.startsWith('blocks/')), writes) });
    return churn(store, clock, folder, 5_000, seededRandom(SEED), unguarded);
  });
  const found = violations(outcome.history, REST_MS);
  t.ok(found.some(({ what }) => what === 'held twice'), `${found.length} violations in ${outcome.given} acquisitions`);
});

void test('the check itself', async (t) => {
  const tenure = (from: number, to: number | undefined, holder = 'x', node = 0): Tenure =>
    ({ address: '10.0.0.1', holder, node, from, fromMs: from * 1_000, ...(to !== undefined && { to, endedMs: to * 1_000 }) });
  const what = (...history: Tenure[]): string[] => violations(history, 5_000).map((each) => each.what);
  t.same(what(tenure(1, 4), tenure(5, 6, 'y')), []);
  t.same(what(tenure(1, 4), tenure(3, 6, 'y')), ['held twice']);
  t.same(what(tenure(1, undefined), tenure(300, 301, 'y')), ['held twice']);
  t.same(what(tenure(1, 9), tenure(2, 3, 'x'), tenure(8, 10, 'y')), ['held twice'], 'a repeat by its holder ends nothing');
  t.same(what(tenure(1, 4), tenure(8, 9, 'y', 1)), ['did not rest']);
  t.same(what(tenure(1, 4), tenure(9, 10, 'y', 1)), []);
});
