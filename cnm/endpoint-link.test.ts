//   sandbox [eth0 10.20.0.2] [eth1 10.21.0.2]: two endpoints, one MAC, as ipvlan's have it
import { test } from 'tap';
import { space } from '../linux/testing.ts';
import { endpointLink } from './endpoint-link.ts';
import type { Endpoint } from './model.ts';

const mac = '02:42:0a:14:00:02';
const one: Endpoint = { id: 'e1', networkId: 'web', address: '10.20.0.2/24', mac, ports: [], options: {}, createdAt: '' };
const other: Endpoint = { ...one, id: 'e2', networkId: 'dbs', address: '10.21.0.2/24' };

test('of links with one MAC, each endpoint has its own', (t) => {
  const { rtnl, run } = space(t);
  const linkOf = (endpoint: Endpoint): string | undefined => endpointLink(rtnl, endpoint)?.name;
  for (const name of ['eth0', 'eth1']) rtnl.addLink({ kind: 'veth', name, mac, up: true, peer: { name: `${name}-end`, up: true } });
  run('ip', 'address', 'add', '10.20.0.2/24', 'dev', 'eth0');
  t.equal(linkOf(one), 'eth0');
  t.equal(linkOf(other), 'eth1', 'which has no address yet, of the kernel\'s own aside');
  run('ip', 'address', 'add', '10.21.0.2/24', 'dev', 'eth1');
  t.equal(linkOf(other), 'eth1');
  run('ip', 'link', 'del', 'eth0');
  t.equal(linkOf(one), undefined, 'one that is gone leaves the others their links');
  t.equal(linkOf(other), 'eth1');
  t.end();
});
