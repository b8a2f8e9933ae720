import { test } from 'tap';
import { weftError } from '../../base/errors.ts';
import { silentLogger as log } from '../../base/log.ts';
import { VirtualClock } from '../../base/virtual-clock.ts';
import type { Network } from '../../cnm/model.ts';
import { storesForTests } from '../../store/stores-for-tests.ts';
import { createNetworkRegistry } from '../networks.ts';
import type { DockerClient, DockerNetwork } from './client.ts';
import { createCopies } from './copies.ts';
import { createNetworkMap } from './network-map.ts';
import { createReplicator } from './replicator.ts';

const network: Network = {
  id: 'weft-1', name: 'web', driver: 'overlay', scope: 'cluster', node: 'n', subnets: [{ subnet: '10.70.0.0/24' }], ipam: 'weft', internal: false, options: {}, labels: {}, attachable: false, createdAt: '',
};

test('what Docker refuses is asked of it again, less and less often, until it is done', async (t) => {
  const clock = new VirtualClock();
  const stores = storesForTests(t, clock);
  const local = stores.local();
  const registry = createNetworkRegistry({ store: stores.store(), local, log });
  await registry.create(network);
  const attempts: number[] = [];
  const made: DockerNetwork[] = [];
  let isRefused = true;
  const docker: Pick<DockerClient, 'networks' | 'createNetwork'> = {
    networks: async () => made,
    createNetwork: async () => {
      attempts.push(clock.now());
      if (isRefused) throw weftError('WEFT-DOCKER', { what: 'to create network web', detail: 'not now' });
      made.push({ Id: 'docker-1', Name: 'web', Driver: 'weft-overlay', Scope: 'local', IPAM: { Driver: 'weft' } });
      return 'docker-1';
    },
  };
  const map = createNetworkMap(local);
  const replicator = createReplicator({ docker: docker as DockerClient, registry, lifecycle: { remove: () => Promise.reject(new Error('not here')) }, clock, map, copies: createCopies(registry), undecided: () => false, log });
  await replicator.reconcile('the cluster has it');
  await clock.advance(300_000);
  const [first = NaN] = attempts;
  t.same(attempts.map((at) => (at - first) / 1_000), [0, 1, 3, 7, 15, 31, 63, 123, 183, 243]);
  isRefused = false;
  await clock.advance(60_000);
  t.equal(map.dockerId('weft-1'), 'docker-1');
  const { length } = attempts;
  await clock.advance(300_000);
  t.equal(attempts.length, length, 'once it is there, no more');
});
