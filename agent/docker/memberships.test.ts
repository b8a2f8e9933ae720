import { test } from 'tap';
import type { ContainerInspect } from './client.ts';
import { createMemberships } from './memberships.ts';

function container(path: string, ...networks: string[]): ContainerInspect {
  const attached = networks.map((id) => [id, { NetworkID: id, EndpointID: `e-${id}`, IPAddress: '', MacAddress: '' }] as const);
  return {
    Id: 'c', Name: '/c', Config: { Hostname: 'c' }, State: { Running: true, Status: 'running', ExitCode: 0, Error: '' }, HostConfig: { RestartPolicy: { Name: 'no' } },
    NetworkSettings: { SandboxKey: path, Networks: Object.fromEntries([...attached, ['planned', { NetworkID: 'planned', EndpointID: '', IPAddress: '', MacAddress: '' }]]) },
  };
}

function scene() {
  const told: [string, boolean | undefined][] = [];
  const memberships = createMemberships({ isOurs: (id) => id.startsWith('weft'), onElsewhere: (path, elsewhere) => void told.push([path, elsewhere]) });
  return { memberships, told: () => told.splice(0) };
}

test('networks of others as well, as Docker says it', async (t) => {
  const { memberships, told } = scene();
  memberships.inspected('c', container('/ns/1', 'weft-a', 'weft-b'));
  t.same(told(), [['/ns/1', false]], 'one that it is to be on at its next start does not count');
  memberships.inspected('c', container('/ns/1', 'weft-a', 'bridge'));
  t.same(told(), [['/ns/1', true]]);
  memberships.inspected('c', container('/ns/1', 'weft-a'));
  t.same(told(), [['/ns/1', false]]);
});

test('what cannot be known, or not any more', async (t) => {
  const { memberships, told } = scene();
  memberships.inspected('c', undefined);
  memberships.inspected('shares', container(''));
  t.same(told(), [], 'nothing was known of these');
  memberships.inspected('c', container('/ns/1', 'weft-a'));
  memberships.inspected('c', undefined);
  t.same(told(), [['/ns/1', false], ['/ns/1', undefined]]);
  memberships.inspected('c', container('/ns/1', 'weft-a'));
  memberships.inspected('c', container('/ns/2', 'weft-a'));
  t.same(told(), [['/ns/1', false], ['/ns/1', undefined], ['/ns/2', false]], 'started anew');
});

test('while Docker is away, nobody is believed to be on its networks still', async (t) => {
  const { memberships, told } = scene();
  memberships.inspected('both', container('/ns/1', 'weft-a', 'bridge'));
  memberships.inspected('ours', container('/ns/2', 'weft-a'));
  told();
  memberships.dockerAway();
  t.same(told(), [['/ns/1', undefined]]);
  memberships.dockerAway();
  t.same(told(), []);
  memberships.inspected('both', container('/ns/1', 'weft-a', 'bridge'));
  t.same(told(), [['/ns/1', true]]);
});
