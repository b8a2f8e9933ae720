import { test } from 'tap';
import { VirtualClock } from '../base/virtual-clock.ts';
import { copyInto, finishCopy } from '../store/copy.ts';
import { storesForTests } from '../store/stores-for-tests.ts';
import { ask } from './requests-for-tests.ts';
import { restoredClaims } from './restore.ts';
import { letRun, type SceneNode, scene } from './scene-for-tests.ts';

const REST_MS = 10_000;

test('a host that a backup is restored on keeps what it hands out since then, whoever had it', async (t) => {
  const clock = new VirtualClock();
  const stores = storesForTests(t, clock);
  let store = stores.store('before');
  const made = await scene(stores.folder, store, { clock, restMs: REST_MS, current: () => store });
  const [a, b, c] = made.nodes as [SceneNode, SceneNode, SceneNode];
  t.teardown(() => made.close());
  // Blocks of one address each.
  const { subnet } = await a.ipam.requestPool({ subnet: '10.9.0.0/29' });
  const mine = await ask(a, subnet);
  const lent = await ask(b, subnet);
  const theirs = await ask(c, subnet);
  const wish = { put: 'wants/x', value: '{}' };
  await store.txn([], [wish]);
  const backup = (await store.range('')).entries;
  await b.ipam.releaseAddress(subnet, lent);
  await clock.advance(REST_MS);
  const borrowed = ask(a, subnet, { address: lent.split('/')[0]! });
  await letRun(clock, borrowed);
  t.equal(await borrowed, lent, 'b had it when the backup was made, now a');
  const late = await ask(a, subnet);
  const younger = await a.ipam.requestPool({ subnet: '10.9.1.0/29' });
  await ask(a, younger.subnet);

  for (const node of made.nodes) node.stop();
  store = stores.store('after');
  await copyInto(store, restoredClaims(backup, a.local, { id: a.id, name: 'host-0' }), 'restore');
  await finishCopy(store);
  t.equal(await store.get(wish.put), undefined, 'wishes of then are nobody\'s');
  await a.restart();
  t.same(a.ipam.usage().map(({ used }) => used), [3], 'a knows its addresses, and no pool that was made later');
  t.same(a.warnings.filter((text) => /another node/.test(text)), []);
  for (const node of [b, c]) {
    node.purge();
    await node.restart();
  }
  /** Its owner may have to be asked first, and be waited for. */
  const codeOf = async (address: string): Promise<unknown> => {
    const answer = ask(b, subnet, { address: address.split('/')[0]! }).then(() => 'given', ({ code }: { code: string }) => code);
    await letRun(clock, answer);
    return answer;
  };
  for (const address of [mine, lent, late]) t.equal(await codeOf(address), 'WEFT-ADDRESS-FOREIGN', `${address} is a's`);
  t.equal(await codeOf(theirs), 'WEFT-ADDRESS-FOREIGN', 'and what another had stays its own');
  await a.ipam.upkeep.reclaim('node2');
  t.equal(await codeOf(theirs), 'given', 'until it is reclaimed');
});
