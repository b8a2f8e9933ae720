import { rmSync } from 'node:fs';
import tap, { test } from 'tap';
import { systemClock as clock } from '../base/clock.ts';
import { silentLogger as log } from '../base/log.ts';
import { openLocalStore } from '../store/local.ts';
import { succeeds, until } from '../store/member-for-tests.ts';
import { hostsForTests } from './host-for-tests.ts';
import { nodeId } from './identity.ts';
import { clientUrlOf, memberFolder, peerUrlOf, rememberCluster } from './node-store.ts';
import { keepStoreMembers } from './store-members.ts';

tap.setTimeout(180_000);

void test('a member whose copy never began, or is lost, begins one', async (t) => {
  const { host } = await hostsForTests(t);
  const [one, two, three] = [await host(), await host(), await host()];
  const first = one.open();
  await first.startCluster();
  await first.store.txn([], [{ put: 'a', value: '1' }]);
  const [, ...others] = [one, two, three].map(({ config }) => {
    if (config === one.config) return '';
    const local = openLocalStore(`${config.dataDir}/local.db`);
    rememberCluster(local, [clientUrlOf(one.config)]);
    const id = nodeId(local);
    local.close();
    return id;
  });
  const [member] = await first.cluster!.members.list();
  const peers = (): { id: string; name: string; number: number; isAlive: boolean }[] =>
    [member!.name, ...others].map((id, i) => ({ id, name: `h${i + 1}`, number: i + 1, isAlive: true }));
  const second = two.open();
  // Killed between being entered and its first start.
  await second.cluster!.members.enter({ name: others[0]!, peerUrl: peerUrlOf(two.config) });
  const keepers = [one, two].map((each, i) => keepStoreMembers({
    nodeStore: [first, second][i]!, self: { id: peers()[i]!.id, peerUrl: peerUrlOf(each.config) }, peers, clock, log,
  }));
  t.teardown(() => keepers.forEach((keeper) => keeper.close()));
  await until('it votes', async () => (await first.cluster!.members.list()).filter(({ name, isLearner }) => name !== '' && !isLearner).length === 2, 40_000);
  t.match(keepers[0]!.quorum(), /h1/);

  // Its folder goes, as on a new disk; the third does not come in between.
  await until('they have settled', () => succeeds(() => first.cluster!.members.remove(others[0]!)));
  await second.stopMember();
  rmSync(memberFolder(two.config), { recursive: true, force: true });
  await until('it votes again', async () => (await first.cluster!.members.list()).filter(({ name, isLearner }) => name === others[0] && !isLearner).length === 1, 60_000);
  t.equal((await second.store.get('a'))?.value, '1');
});
