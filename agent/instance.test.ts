import { test, type Test } from 'tap';
import type { WeftError } from '../base/errors.ts';
import { silentLogger as log } from '../base/log.ts';
import { VirtualClock } from '../base/virtual-clock.ts';
import { storesForTests } from '../store/stores-for-tests.ts';
import { CLAIMS, claimInstance } from './instance.ts';

const id = '0123456789abcdef';
const [HERE, THERE] = ['10.0.0.1', '10.0.0.9'];

function scene(t: Test) {
  const clock = new VirtualClock();
  const store = storesForTests(t, clock).store();
  const fenced: string[] = [];
  return {
    clock, store, fenced,
    start: (host: string, address: string, movedFrom?: string) => {
      const claim = claimInstance({ store, node: { id, name: 'h1', address, movedFrom }, clock, log, host, onCloned: (error: WeftError) => void fenced.push(`${host} ${error.code} ${error.message.includes(address) ? 'itself' : 'the other'}`) });
      const state = { held: false };
      claim.settled.then(() => (state.held = true), () => {});
      t.teardown(() => claim.close());
      return { claim, state };
    },
    /** Where the node is, according to the store. */
    place: async (): Promise<string | undefined> => {
      const entry = await store.get(CLAIMS + id);
      return entry && (JSON.parse(entry.value) as { address: string }).address;
    },
  };
}

test('a copy that comes while the node is there is fenced, whether it says that it has moved or not', async (t) => {
  const { clock, fenced, start, place } = scene(t);
  const original = start('a', HERE);
  await clock.advance(0);
  t.ok(original.state.held);
  const moved = start('b', THERE, HERE);
  const silent = start('c', '10.0.0.8');
  await clock.advance(59_000);
  t.same(fenced, [], 'it might be a claim that nobody renews');
  await clock.advance(10_000);
  t.same(fenced.toSorted(), ['b WEFT-NODE-CLONED the other', 'c WEFT-NODE-CLONED the other']);
  t.notOk(moved.state.held || silent.state.held);
  await t.rejects(moved.claim.settled, { code: 'WEFT-NODE-CLONED' });
  await clock.advance(600_000);
  t.equal(await place(), HERE, 'the node keeps it');
});

test('where the store does not answer, nobody waits for it', async (t) => {
  const { clock, store, fenced } = scene(t);
  let away = true;
  const lease: typeof store.lease = async (ttl) => {
    if (away) throw new Error('away');
    return store.lease(ttl);
  };
  const claim = claimInstance({ store: { ...store, lease }, node: { id, name: 'h1', address: THERE, movedFrom: HERE }, clock, log, host: 'b', onCloned: (error) => void fenced.push(error.code) });
  t.teardown(() => claim.close());
  await claim.settled;
  t.equal(await store.get(CLAIMS + id), undefined);
  away = false;
  await clock.advance(10_000);
  t.ok(await store.get(CLAIMS + id), 'it is claimed when that is possible');
  t.same(fenced, []);
});

test('a copy that came first goes when the node returns', async (t) => {
  const { clock, fenced, start, place } = scene(t);
  const copy = start('b', THERE, HERE);
  await clock.advance(0);
  t.ok(copy.state.held, 'nobody else was there');
  const original = start('a', HERE);
  await clock.advance(10);
  t.ok(original.state.held);
  t.same(fenced, ['b WEFT-NODE-CLONED the other']);
  t.equal(await place(), HERE);
});

test('a restart takes over from the process before, a reboot at the same address too', async (t) => {
  const { clock, fenced, start } = scene(t);
  for (const host of ['a', 'a', 'a after its boot']) {
    const { state } = start(host, HERE);
    await clock.advance(0);
    t.ok(state.held, host);
  }
  t.same(fenced, []);
});

test('a node that has moved gets the claim when the one of its former host has ended', async (t) => {
  const { clock, fenced, start, place } = scene(t);
  const before = start('a', HERE);
  await clock.advance(0);
  const after = start('b', THERE, HERE);
  await before.claim.close();
  await clock.advance(10);
  t.ok(after.state.held);
  t.same(fenced, []);
  t.equal(await place(), THERE);
});
