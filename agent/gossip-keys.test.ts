import { test, type Test } from 'tap';
import { silentLogger as log } from '../base/log.ts';
import { seededRandom } from '../base/random.ts';
import { VirtualClock } from '../base/virtual-clock.ts';
import type { SoftState } from '../cluster/state.ts';
import { Keyring } from '../gossip/keyring.ts';
import { storesForTests } from '../store/stores-for-tests.ts';
import { followGossipKeys, gossipKeys } from './gossip-keys.ts';

const HOUR = 3_600_000;

/** Nodes with one store, and what each has told the others. */
async function scene(t: Test, count: number) {
  const clock = new VirtualClock();
  const random = seededRandom(1);
  const stores = storesForTests(t, clock);
  const store = stores.store();
  const told = new Map<string, number>();
  /** Node → words with which it was asked for a new pair of WireGuard, each once. */
  const asked = new Map<string, Set<string>>();
  const deaf = new Set<string>();
  const removed = new Set<string>();
  const members = Array.from({ length: count }, (_, i) => ({ id: `n${i}`, name: `n${i}`, state: 'alive' as 'alive' | 'dead', address: '' }));
  const state = {
    list: () => [...told].map(([owner, version]) => ({ owner, value: { gossipKeys: version } })),
    members: () => members,
  } as unknown as SoftState;
  const nodes = await Promise.all(members.map(async ({ id }) => {
    const local = stores.local(id);
    const [first, ...others] = await gossipKeys(store, local, clock.wallNow());
    const keyring = new Keyring(first!, ...others);
    const keys = followGossipKeys({ store, local, keyring, state, belongs: (member) => !removed.has(member), clock, random, log, onInstalled: (version) => void (deaf.has(id) || told.set(id, version)), onPairsAsked: (word) => void asked.set(id, (asked.get(id) ?? new Set()).add(word)) });
    t.teardown(() => keys.close());
    return { id, local, keyring, keys };
  }));
  const nothing = Buffer.alloc(0);
  /** Whether each opens what each other seals. */
  const allUnderstand = (): boolean => nodes.every((from) => nodes.every((to) => to.keyring.open(from.keyring.seal(Buffer.from('x'), nothing, random), nothing) !== undefined));
  /** A second at a time, with a look after each. */
  const pass = async (seconds: number): Promise<boolean> => {
    let always = true;
    for (let i = 0; i < seconds; i++) {
      await clock.advance(1_000);
      always &&= allUnderstand();
    }
    return always;
  };
  const primary = (): string => {
    const all = new Set(nodes.map(({ keyring }) => Buffer.from(keyring.keys[0]!).toString('hex')));
    return [...all].join();
  };
  return { clock, store, nodes, members, deaf, removed, told, asked, pass, primary };
}

test('a key is changed without anybody going deaf', async (t) => {
  const { nodes, pass, primary } = await scene(t, 3);
  await pass(2);
  const before = primary();
  t.equal(before.length, 64, 'all have one key');
  await nodes[1]!.keys.rotate(false);
  t.ok(await pass(10), 'at every moment all understand all');
  const after = primary();
  t.equal(after.length, 64);
  t.not(after, before);
  t.same(nodes.map(({ keyring }) => keyring.keys.map((key) => Buffer.from(key).toString('hex'))), nodes.map(() => [after, before]), 'the one before still opens');
});

test('new pairs of WireGuard are asked for when people ask, and at no other time', async (t) => {
  const { clock, nodes, asked, pass } = await scene(t, 2);
  const words = (): string[][] => nodes.map(({ id }) => [...asked.get(id) ?? []]);
  await pass(2);
  t.same(words(), [[], []]);
  await nodes[0]!.keys.rotate(false);
  await pass(10);
  const [first] = words();
  t.equal(first!.length, 1);
  t.same(words(), [first, first], 'of all with one word, however many steps the change has');
  await nodes[1]!.keys.rotate(true);
  await pass(5);
  await clock.advance(13 * HOUR);
  await pass(5);
  t.same(words(), [first, first]);
  await nodes[1]!.keys.rotate(true);
  await nodes[0]!.keys.rotate(false);
  await pass(10);
  t.same(words().map((each) => each.length), [2, 2]);
  t.same(nodes.map(({ keyring }) => keyring.keys.length), [1, 1], 'what is to be forgotten is, also when somebody asks for another change meanwhile');
});

test('nobody uses a key that somebody alive has not got', async (t) => {
  const { nodes, members, deaf, told, pass, primary } = await scene(t, 3);
  await pass(2);
  const before = primary();
  deaf.add('n2');
  await nodes[0]!.keys.rotate(false);
  await pass(60);
  t.equal(primary(), before, 'n2 has not said that it has it');
  members[2]!.state = 'dead';
  await pass(5);
  t.not(primary(), before, 'who is dead is not waited for');
  t.ok(told.has('n2'));
});

test('who was taken out of the cluster is not waited for, alive as it is', async (t) => {
  const { nodes, deaf, removed, pass, primary } = await scene(t, 3);
  await pass(2);
  const before = primary();
  deaf.add('n2');
  removed.add('n2');
  await nodes[0]!.keys.rotate(true);
  await pass(5);
  t.not(primary(), before);
});

test('one that must not be used any more is forgotten everywhere, at once', async (t) => {
  const { nodes, pass, primary } = await scene(t, 3);
  await pass(2);
  const before = primary();
  await nodes[0]!.keys.rotate(true);
  t.ok(await pass(10));
  t.same(nodes.map(({ keyring }) => keyring.keys.length), [1, 1, 1]);
  t.not(primary(), before);
});

test('it changes by itself every twelve hours, and is kept on the disk', async (t) => {
  const { clock, store, nodes, pass, primary } = await scene(t, 2);
  await pass(2);
  const before = primary();
  await clock.advance(11 * HOUR);
  t.equal(primary(), before);
  await clock.advance(2 * HOUR);
  await pass(5);
  const after = primary();
  t.not(after, before);
  const [first] = await gossipKeys(store, nodes[0]!.local, 0);
  t.equal(Buffer.from(first!).toString('hex'), after, 'a restart without the store has it');
});
