import { setImmediate as nextTurn } from 'node:timers/promises';
import { join } from 'node:path';
import { test } from 'tap';
import { weftError } from '../../base/errors.ts';
import { silentLogger as log } from '../../base/log.ts';
import { VirtualClock } from '../../base/virtual-clock.ts';
import type { Network } from '../../cnm/model.ts';
import { createDockerClient } from './client.ts';
import { startDockerLink } from './link.ts';

const network = (name: string): Network => ({
  id: name, name, driver: 'overlay', scope: 'cluster', node: 'n', subnets: [], ipam: 'weft', internal: false, options: {}, labels: {}, attachable: false, createdAt: '',
});

test('what becomes of a network whose copy Docker deleted is waited for', async (t) => {
  const clock = new VirtualClock();
  // It is away: of a deletion its plugin call tells.
  const docker = createDockerClient({ socketPath: join(t.testdir(), 'docker.sock'), log });
  const seen: string[] = [];
  const removal = Promise.withResolvers<void>();
  const nothing = (): Promise<void> => Promise.resolve();
  const link = startDockerLink({
    docker, clock, log, onUp: () => {}, onForeignNetworks: () => {}, removeForgotten: nothing, memberships: { inspected: () => {}, dockerAway: () => {} }, workloads: { inspect: nothing, resync: nothing, early: () => Promise.resolve(undefined) },
    replicator: { reconcile: async (reason) => void seen.push(`compared: ${reason}`), conflicts: () => [] },
    inUse: ({ name }) => (name === 'used' ? 'it is used' : undefined),
    remove: async ({ name }) => {
      if (name === 'stuck') throw weftError('WEFT-STORE-UNREACHABLE', { store: 'test', detail: 'away' });
      await removal.promise;
      seen.push(`${name} removed`);
    },
  });
  t.teardown(() => {
    link.close();
    docker.close();
  });
  await link.decided();
  for (const name of ['web', 'used', 'stuck', 'web']) link.deleted(network(name));
  let decided = false;
  const waiting = link.decided().then(() => (decided = true));
  t.ok(['web', 'used', 'stuck'].every(link.undecided));
  await clock.advance(1_400);
  t.same([seen, decided], [[], false], 'a prune may still tell of itself');
  await clock.advance(100);
  t.same(seen.toSorted(), ['compared: it could not be removed', 'compared: it is used']);
  t.same(['web', 'used', 'stuck'].map(link.undecided), [true, false, false], 'until it is gone, nobody puts it back');
  await nextTurn();
  t.notOk(decided);
  removal.resolve();
  await waiting;
  t.equal(seen.at(-1), 'web removed');
  t.equal(seen.length, 3, 'once, though it was told twice');
  t.notOk(link.undecided('web'));
});

test('nothing is removed any more once it is closed', async (t) => {
  const clock = new VirtualClock();
  const docker = createDockerClient({ socketPath: join(t.testdir(), 'docker.sock'), log });
  t.teardown(() => docker.close());
  const removed: string[] = [];
  const nothing = (): Promise<void> => Promise.resolve();
  const link = startDockerLink({
    docker, clock, log, onUp: () => {}, onForeignNetworks: () => {}, removeForgotten: nothing, memberships: { inspected: () => {}, dockerAway: () => {} }, workloads: { inspect: nothing, resync: nothing, early: () => Promise.resolve(undefined) },
    replicator: { reconcile: nothing, conflicts: () => [] }, inUse: () => undefined, remove: async ({ name }) => void removed.push(name),
  });
  link.deleted(network('web'));
  link.close();
  await clock.advance(5_000);
  await link.decided();
  t.same(removed, []);
});
