import { test } from 'tap';
import { bridgeEnd } from '../drivers/names.ts';
import { endpoint, network } from '../drivers/testbed.ts';
import { storesForTests } from '../store/stores-for-tests.ts';
import { createEndpoints } from './endpoints.ts';

test('endpoints are found by their ids and by their links, also by the next weftd', (t) => {
  const local = storesForTests(t).local();
  const web = network('web', 'overlay', '10.20.0.0/24');
  const [first, second] = [endpoint('api', web, '10.20.0.11/24'), endpoint('job', web, '10.20.0.12/24')];
  let endpoints = createEndpoints(local);
  for (const each of [first, second]) endpoints.put(each);
  endpoints.put({ ...first, sandbox: '/run/netns/api' });
  endpoints.delete(second.id);
  for (const time of ['at once', 'after a restart']) {
    t.equal(endpoints.ofLink(bridgeEnd(first.id))?.sandbox, '/run/netns/api', time);
    t.same(endpoints.list(), [endpoints.get(first.id)]);
    t.equal(endpoints.ofLink(bridgeEnd(second.id)), undefined);
    endpoints = createEndpoints(local);
  }
  t.end();
});
