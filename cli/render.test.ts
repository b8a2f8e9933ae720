import { test } from 'tap';
import type { StatusAnswer } from '../agent/api.ts';
import { statusText } from './render.ts';

const status: StatusAnswer = {
  node: { id: 'a', name: 'h1', number: 1, vtep: '10.0.0.1', version: '0' }, store: { description: 'etcd at https://10.0.0.1:7948', healthy: true },
  docker: { up: false }, members: [], counts: { networks: 0, endpoints: 0, sandboxesWithNames: 0 }, pools: [], dns: {}, repairs: [], problems: [],
};

void test('a store that is away: what goes on, what is left, what waits', (t) => {
  const away: StatusAnswer = { ...status, store: { ...status.store, healthy: false } };
  const pools = [{ subnet: '10.1.0.0/24', blocks: 1, used: 3, resting: 2, free: 11 }, { subnet: '10.2.0.0/29', blocks: 1, used: 1, resting: 0, free: 0 }];
  t.match(statusText({ ...away, pools }), /does not answer\n +containers go on, and new ones get .* holds: 13 of 10\.1\.0\.0\/24, 0 of 10\.2\.0\.0\/29 are left; networks, published ports and nodes cannot change/);
  t.match(statusText(away), /this node holds no addresses for new ones/);
  t.notMatch(statusText({ ...status, pools }), /are left/);
  t.end();
});
