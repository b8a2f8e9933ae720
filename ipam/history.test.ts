/** Random histories over three nodes: no address is ever given twice, none is lost, and each rests. */
import { join } from 'node:path';
import fc from 'fast-check';
import { type Test, test } from 'tap';
import { systemClock } from '../base/clock.ts';
import { WeftError } from '../base/errors.ts';
import { silentLogger as log } from '../base/log.ts';
import { openEtcdStore } from '../store/etcd.ts';
import { etcdForTests } from '../store/etcd-for-tests.ts';
import { openSqliteStore } from '../store/sqlite.ts';
import type { Store } from '../store/store.ts';
import { letRun, scene } from './scene-for-tests.ts';

const REST_MS = 10_000;
const NODES = 3;

type Step =
  | { do: 'request'; node: number; times: number }
  | { do: 'explicit'; node: number; offset: number }
  | { do: 'docker'; node: number; offset: number }
  | { do: 'release'; pick: number }
  | { do: 'repeat'; pick: number }
  | { do: 'reserve'; node: number; offset: number }
  | { do: 'restart'; node: number }
  | { do: 'link'; node: number; link: 'up' | 'down' | 'answers-lost' }
  | { do: 'wait'; ms: number };

const node = fc.nat(NODES - 1);
const offset = fc.nat(31);
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 5, arbitrary: fc.record({ do: fc.constant('request' as const), node, times: fc.integer({ min: 1, max: 4 }) }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constantFrom('explicit' as const, 'docker' as const), node, offset }) },
  { weight: 5, arbitrary: fc.record({ do: fc.constantFrom('release' as const, 'repeat' as const), pick: fc.nat(100) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('reserve' as const), node, offset }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('restart' as const), node }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('link' as const), node, link: fc.constantFrom('up' as const, 'down' as const, 'answers-lost' as const) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('wait' as const), ms: fc.integer({ min: 1, max: 15_000 }) }) },
);

interface Held { address: string; node: number }

async function run(folder: string, store: Store, subnet: string, rounds: readonly (readonly Step[])[], realMs?: number): Promise<void> {
  const made = await scene(folder, store, { count: NODES, restMs: REST_MS });
  const { clock, nodes } = made;
  const held = new Map<string, Held>();
  const released = new Map<string, { at: number; node: number }>();
  const reserved = new Set<string>();
  let serial = 0;
  const [base, length] = subnet.split('/') as [string, string];
  const at = (n: number): string => base.replace(/\d+$/, String(n % 2 ** (32 - Number(length))));
  const known = (error: unknown): void => {
    if (!(error instanceof WeftError)) throw error;
  };

  function given(holder: string, on: number, answer: string): void {
    const address = answer.split('/')[0]!;
    const before = held.get(holder);
    if (before && before.address !== address) throw new Error(`${holder} had ${before.address} and was given ${address}`);
    for (const [other, each] of held) if (other !== holder && each.address === address) throw new Error(`${address} was given to ${holder} and to ${other}`);
    if (reserved.has(address)) throw new Error(`${address} is reserved and was given to ${holder}`);
    if (answer !== `${address}/${length}` || address === at(0) || address === at(-1 + 2 ** (32 - Number(length)))) throw new Error(`${answer} is no host of ${subnet}`);
    const last = released.get(address);
    if (!before && last && last.node !== on && clock.now() - last.at < REST_MS) throw new Error(`${address} did not rest`);
    held.set(holder, { address, node: on });
  }

  async function request(on: number, more: { address?: string; chooser?: 'weft' | 'docker'; holder?: string }): Promise<void> {
    const holder = more.holder ?? `h${serial++}`;
    const answer = await nodes[on]!.ipam.requestAddress({ subnet, chooser: 'weft', ...more, holder });
    given(holder, on, answer);
  }

  async function take(one: Step): Promise<void> {
    if (one.do === 'request') {
      await Promise.all(Array.from({ length: one.times }, () => request(one.node, {}).catch(known)));
    } else if (one.do === 'explicit' || one.do === 'docker') {
      await request(one.node, { address: at(one.offset), chooser: one.do === 'docker' ? 'docker' : 'weft' });
    } else if (one.do === 'release' || one.do === 'repeat') {
      const chosen = [...held][one.pick % Math.max(1, held.size)];
      if (!chosen) return;
      const [holder, { address, node: on }] = chosen;
      if (one.do === 'repeat') return request(on, { holder });
      held.delete(holder);
      released.set(address, { at: clock.now(), node: on });
      await nodes[on]!.ipam.releaseAddress(subnet, address);
    } else if (one.do === 'reserve') {
      await nodes[one.node]!.ipam.reserve(subnet, { [`aux:${serial++}`]: at(one.offset) });
      const address = at(one.offset);
      for (const [holder, each] of held) if (each.address === address) throw new Error(`${address} was reserved and is held by ${holder}`);
      reserved.add(address);
    } else if (one.do === 'restart') {
      await nodes[one.node]!.restart();
    } else if (one.do === 'link') {
      nodes[one.node]!.link = one.link;
    } else {
      await clock.advance(one.ms);
    }
  }

  try {
    for (let tries = 0; ; tries++) {
      try {
        await nodes[0]!.ipam.requestPool({ subnet });
        break;
      } catch (error) {
        if (tries === 3) throw error;
      }
    }
    // The steps of a round go on at the same time; a restart in the middle of a request would be two processes.
    for (const round of rounds) {
      const [alone, together] = [round.filter((one) => one.do === 'restart' || one.do === 'wait'), round.filter((one) => one.do !== 'restart' && one.do !== 'wait')];
      await letRun(clock, Promise.all(together.map((one) => take(one).catch(known))), realMs);
      for (const one of alone) await take(one);
    }
    for (const each of nodes) {
      each.link = 'up';
      await each.restart();
    }
    for (const [holder, each] of held) await letRun(clock, request(each.node, { holder }), realMs);
    const used = nodes.reduce((sum, each) => sum + each.ipam.usage().reduce((all, usage) => all + usage.used, 0), 0);
    if (used !== held.size) throw new Error(`${used} addresses are in use, of which ${held.size} have a holder`);
  } finally {
    made.close();
  }
}

const histories = (subnets: string[]) => fc.tuple(fc.constantFrom(...subnets), fc.array(fc.array(step, { minLength: 1, maxLength: 6 }), { maxLength: 25 }));

const folderFor = (t: Test): (() => string) => {
  const root = t.testdir();
  let count = 0;
  return () => join(root, String(count++));
};

void test('on the embedded store', async (t) => {
  const next = folderFor(t);
  await t.resolves(fc.assert(fc.asyncProperty(histories(['10.9.0.0/24', '10.9.0.0/27', '10.9.0.0/28', '10.9.0.0/29']), async ([subnet, rounds]) => {
    const folder = next();
    const store = openSqliteStore(join(folder, 'store.db'), { clock: systemClock, log });
    try {
      await run(folder, store, subnet, rounds);
    } finally {
      await store.close();
    }
  }), { numRuns: 200 }));
});

void test('on etcd', async (t) => {
  const next = folderFor(t);
  const { endpoint } = await etcdForTests((end) => t.teardown(end));
  let count = 0;
  await t.resolves(fc.assert(fc.asyncProperty(histories(['10.9.0.0/26', '10.9.0.0/29']), async ([subnet, rounds]) => {
    const store = openEtcdStore({ endpoints: [endpoint], prefix: `/history/${count++}/`, clock: systemClock, log });
    try {
      await run(next(), store, subnet, rounds, 20);
    } finally {
      await store.close();
    }
  }), { numRuns: 20 }));
});
