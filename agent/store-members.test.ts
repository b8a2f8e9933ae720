import { rmSync } from 'node:fs';
import tap, { test } from 'tap';
import { systemClock as clock } from '../base/clock.ts';
import { silentLogger as log } from '../base/log.ts';
import { findEtcd } from '../store/etcd-process.ts';
import { openLocalStore } from '../store/local.ts';
import { succeeds, until } from '../store/member-for-tests.ts';
import { hostsForTests } from './host-for-tests.ts';
import { nodeId } from './identity.ts';
import { clientUrlOf, memberFolder, peerUrlOf, rememberCluster } from './node-store.ts';
import { keepStoreMembers, type Peer } from './store-members.ts';

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
  const peers = (): Peer[] => [member!.name, ...others].map((id, i) => ({ id, name: `h${i + 1}`, number: i + 1, isAlive: true, clientUrl: clientUrlOf([one, two, three][i]!.config) }));
  await first.store.txn([], peers().map(({ id }) => ({ put: `nodes/${id}`, value: '{}' })));
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

void test('a node takes the place of a member that is away', async (t) => {
  const { host } = await hostsForTests(t);
  const hosts = [await host(), await host(), await host(), await host(), await host()];
  const nodes = hosts.map((each) => {
    const local = openLocalStore(`${each.config.dataDir}/local.db`);
    if (each !== hosts[0]) rememberCluster(local, [clientUrlOf(hosts[0]!.config)]);
    const id = nodeId(local);
    local.close();
    return { id, host: each, store: each.open() };
  });
  const [a, b, c, d, e] = nodes;
  const away = new Set<string>();
  const newcomers: Peer[] = [];
  const peers = (): Peer[] => [...nodes.map(({ id, host: { config } }, i) => ({ id, name: `h${i + 1}`, number: i + 1, isAlive: !away.has(id), clientUrl: clientUrlOf(config) })), ...newcomers];
  await a!.store.startCluster();
  await a!.store.store.txn([], nodes.map(({ id }) => ({ put: `nodes/${id}`, value: '{}' })));
  const keep = (node: typeof nodes[number]) => keepStoreMembers({ nodeStore: node.store, self: { id: node.id, peerUrl: peerUrlOf(node.host.config) }, peers, clock, log });
  const keepers = new Map(nodes.map((node) => [node.id, keep(node)]));
  t.teardown(() => keepers.forEach((keeper) => keeper.close()));
  const { promote } = keepers.get(a!.id)!;
  const voters = async (): Promise<string> => (await a!.store.cluster!.members.list()).filter(({ isLearner }) => !isLearner).map(({ name }) => peers().find(({ id }) => id === name)?.name ?? name).toSorted().join();
  await until('three by themselves', async () => await voters() === 'h1,h2,h3', 90_000);

  await t.rejects(promote('h9'), { code: 'WEFT-NODE-UNKNOWN' });
  away.add(c!.id);
  await t.rejects(promote('h3'), { code: 'WEFT-NODE-AWAY' });
  keepers.get(c!.id)!.close();
  await c!.store.stopMember();
  // Not the one with the lowest number, which would be next by itself.
  await until('a majority agrees', () => succeeds(() => promote('h5')));
  await until('h5 instead of h3', async () => await voters() === 'h1,h2,h5', 60_000);
  await promote('h5');
  await until('nobody is asked any more', async () => (await a!.store.store.range('store/')).entries.length === 0);
  t.equal(d!.store.etcd, undefined);

  t.equal(await keepers.get(e!.id)!.problem(), undefined);
  process.kill(findEtcd(memberFolder(e!.host.config))!.pid, 'SIGKILL');
  await until('its end is noticed', async () => /SIGKILL/.test(await keepers.get(e!.id)!.problem() ?? ''));
  await until('it is back', async () => (await keepers.get(e!.id)!.problem()) === undefined);

  await until('and has settled', () => succeeds(() => promote('h4')));
  await until('four', async () => await voters() === 'h1,h2,h4,h5', 60_000);
  await until('it is said', () => keepers.get(b!.id)!.quorum()?.startsWith('on h1, h2, h4, h5: 1 voter may be lost') ?? false);
  t.equal(e!.store.etcd !== undefined, true);

  // Five by choice, and no more.
  away.clear();
  keepers.set(c!.id, keep(c!));
  await until('they have settled', () => succeeds(() => promote('h3')));
  await until('five', async () => await voters() === 'h1,h2,h3,h4,h5', 60_000);
  await until('it is said', () => keepers.get(b!.id)!.quorum()?.startsWith('on h1, h2, h3, h4, h5: 2 voters may be lost') ?? false);
  newcomers.push({ id: 'f'.repeat(16), name: 'h6', number: 6, isAlive: true, clientUrl: 'https://127.0.0.1:1' });
  await t.rejects(promote('h6'), { code: 'WEFT-STORE-MEMBERS', message: /5/ });
});
