import { test } from 'tap';
import type { ContainerInspect } from './client.ts';
import { workloadsOf } from './workloads.ts';

function container({ health, exposed }: { health?: string; exposed?: Record<string, unknown> }): ContainerInspect {
  return {
    Id: 'a'.repeat(64), Name: '/api', Config: { Hostname: 'api', ...(exposed && { ExposedPorts: exposed }) },
    State: { Running: true, Status: 'running', ExitCode: 0, Error: '', ...(health !== undefined && { Health: { Status: health } }) },
    HostConfig: { RestartPolicy: { Name: 'no' } },
    NetworkSettings: { SandboxKey: '', Networks: { web: { NetworkID: 'n', EndpointID: 'e1', IPAddress: '', MacAddress: '', Aliases: ['alias'], DNSNames: ['api', 'dns-name'] }, idle: { NetworkID: 'm', EndpointID: '', IPAddress: '', MacAddress: '' } } },
  };
}

test('what a container\'s inspection says about its names', async (t) => {
  t.same(workloadsOf(container({})), [{ endpointId: 'e1', containerId: 'a'.repeat(64), name: 'api', names: ['api', 'alias', 'dns-name', 'aaaaaaaaaaaa'], service: 'api' }]);
  t.same(workloadsOf(container({ exposed: { '80/tcp': {}, '53/udp': {} } }))[0]!.ports, ['tcp/80', 'udp/53']);
});

test('a container is ready when its health check passes, or when it has none', async (t) => {
  const unready = (health?: string): boolean | undefined => workloadsOf(container(health === undefined ? {} : { health }))[0]!.unready;
  t.same([unready(), unready('none'), unready('healthy')], [undefined, undefined, undefined]);
  t.same([unready('starting'), unready('unhealthy')], [true, true]);
});
