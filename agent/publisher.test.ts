import { test } from 'tap';
import { createNameTable } from '../dns/zone.ts';
import { SharedState, endpoint, network } from '../drivers/testbed.ts';
import { storesForTests } from '../store/stores-for-tests.ts';
import { createEndpoints } from './endpoints.ts';
import { createPublisher } from './publisher.ts';

void test('of Docker\'s containers only those on networks of ours are remembered, and only while they are there', (t) => {
  const local = storesForTests(t).local();
  const state = new SharedState().of('a');
  const remembered = (): string[] => local.list('workloads/').map(({ value }) => (JSON.parse(value) as { name: string }).name);
  const start = () => {
    const endpoints = createEndpoints(local);
    return { endpoints, publisher: createPublisher({ state, names: createNameTable(), endpoints, local }) };
  };
  const { endpoints, publisher } = start();
  const web = network('web', 'overlay', '10.20.0.0/24');
  const [api, job] = [endpoint('api', web, '10.20.0.11/24', { sandbox: '/run/netns/api' }), endpoint('job', web, '10.20.0.12/24', { sandbox: '/run/netns/job' })];
  const names = (): string[] => state.list('name').map(({ value }) => value.name);
  const inspected = (name: string, endpointId: string): void => publisher.workload({ endpointId, name, names: [name], service: name });
  for (const each of [api, job]) {
    endpoints.put(each);
    publisher.joined(web, each);
    publisher.carrier(each.id, true);
  }
  inspected('api', api.id);
  inspected('job', job.id);
  inspected('on Docker\'s own bridge', 'ab'.repeat(32));
  t.same([remembered(), names()], [['api', 'job'], ['api', 'job']]);

  publisher.left(job);
  inspected('job', job.id);
  endpoints.delete(job.id);
  t.same([remembered(), names()], [['api'], ['api']], 'an answer that comes late leaves nothing');

  local.put(`workloads/${job.id}`, JSON.stringify({ endpointId: job.id, name: 'job', names: ['job'], service: 'job' }));
  t.equal(start().publisher.workloadOf(api.id)?.name, 'api');
  t.same(remembered(), ['api'], 'nor does what was killed in between');
  t.end();
});
