import { test } from 'tap';
import { silentLogger } from '../base/log.ts';
import type { Network } from '../cnm/model.ts';
import type { SandboxNames } from '../dns/dns.ts';
import { space } from '../linux/testing.ts';
import { createSandboxes } from './sandboxes.ts';

const network = (id: string, more: Partial<Network>): Network => ({
  id, name: id, driver: 'overlay', scope: 'cluster', node: 'n', subnets: [], ipam: 'weft', internal: false, options: {}, labels: {}, attachable: false, createdAt: '2026-01-01T00:00:00.000Z', ...more,
});

test('the resolver is told all subnets of a sandbox, and which of them are the LAN\'s', async (t) => {
  const { path } = space(t);
  const told: SandboxNames[] = [];
  const resolver = { attach: async (sandbox: SandboxNames) => void told.push(sandbox), detach: () => {}, attached: () => [] };
  const sandboxes = createSandboxes({ resolver, log: silentLogger });
  t.teardown(sandboxes.close);
  sandboxes.joined(path, network('lan', { driver: 'macvlan', subnets: [{ subnet: '192.168.50.0/24' }], options: { parent: 'eth1' } }));
  sandboxes.joined(path, network('web', { subnets: [{ subnet: '10.192.4.0/24' }, { subnet: 'fd20::/64' }], internal: true }));
  await sandboxes.repair();
  t.same(told.at(-1), {
    path, networks: [
      { id: 'lan', name: 'lan', subnets: ['192.168.50.0/24'], shared: true, internal: false },
      { id: 'web', name: 'web', subnets: ['10.192.4.0/24', 'fd20::/64'], shared: false, internal: true },
    ],
  });
});
