import { test } from 'tap';
import { silentLogger } from '../base/log.ts';
import type { Network } from '../cnm/model.ts';
import type { SandboxNames } from '../dns/dns.ts';
import { space } from '../linux/testing.ts';
import { createSandboxes } from './sandboxes.ts';

const network = (id: string, more: Partial<Network>): Network => ({
  id, name: id, driver: 'overlay', scope: 'cluster', node: 'n', subnets: [], ipam: 'weft', internal: false, options: {}, labels: {}, attachable: false, createdAt: '2026-01-01T00:00:00.000Z', ...more,
});

test('the resolver is told all subnets of a sandbox, which of them are the LAN\'s, and the name servers of its networks\' own', async (t) => {
  const { path } = space(t);
  const told: SandboxNames[] = [];
  const resolver = { attach: async (sandbox: SandboxNames) => void told.push(sandbox), detach: () => {}, attached: () => [] };
  const sandboxes = createSandboxes({ resolver, log: silentLogger });
  t.teardown(sandboxes.close);
  sandboxes.joined(path, network('lan', { driver: 'macvlan', subnets: [{ subnet: '192.168.50.0/24' }], options: { parent: 'eth1', 'weft.dns.upstreams': 'tls://9.9.9.9#dns.quad9.net' } }), ['192.168.50.9'], false);
  sandboxes.joined(path, network('web', { subnets: [{ subnet: '10.192.4.0/24' }, { subnet: 'fd20::/64' }], internal: true }), ['10.192.4.9', 'fd20::9'], false);
  await sandboxes.repair();
  t.same(told.at(-1), {
    path, elsewhere: undefined, addresses: ['192.168.50.9', '10.192.4.9', 'fd20::9'], networks: [
      { id: 'lan', name: 'lan', subnets: ['192.168.50.0/24'], shared: true, internal: false, upstreams: { servers: [{ address: '9.9.9.9', port: 853, name: 'dns.quad9.net' }] } },
      { id: 'web', name: 'web', subnets: ['10.192.4.0/24', 'fd20::/64'], shared: false, internal: true },
    ],
  });
});

test('whether a sandbox is on networks of Docker\'s own as well is what Docker says, or unknown', async (t) => {
  const [{ path: contained }, { path: native }] = [space(t), space(t)];
  const told: [string, boolean | undefined][] = [];
  const resolver = { attach: async (sandbox: SandboxNames) => void told.push([sandbox.path, sandbox.elsewhere]), detach: () => {}, attached: () => [] };
  const sandboxes = createSandboxes({ resolver, log: silentLogger });
  t.teardown(sandboxes.close);
  sandboxes.joined(native, network('web', {}), [], true);
  sandboxes.joined(contained, network('web', {}), [], false);
  await sandboxes.repair();
  t.same(new Map(told), new Map([[native, false], [contained, undefined]]), 'of a sandbox without Docker it is known');
  told.length = 0;
  for (const elsewhere of [true, true, false, undefined]) sandboxes.elsewhere(contained, elsewhere);
  t.same(told.map(([, elsewhere]) => elsewhere), [true, false, undefined], 'told once for each change');
  sandboxes.joined(contained, network('back', {}), [], false);
  sandboxes.elsewhere(contained, true);
  sandboxes.left(contained, network('web', {}));
  t.same(told.at(-1), [contained, true], 'it is no less true when another network is left');
  sandboxes.elsewhere('/run/netns/unknown', true);
  t.notOk(told.some(([path]) => path === '/run/netns/unknown'));
});
