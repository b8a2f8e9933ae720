//   sandbox [eth0 10.20.0.2, fd20::2] ─── [eth0] neighbour, which remembers other MAC addresses
import { setTimeout as delay } from 'node:timers/promises';
import { test } from 'tap';
import { space } from '../linux/testing.ts';
import { announce } from './announce.ts';
import type { Endpoint } from './model.ts';

const FORMER = '02:42:00:00:00:99';
const mac = '02:42:0a:14:00:02';

test('neighbours replace what they remember of an address', async (t) => {
  const [sandbox, neighbour] = [space(t), space(t)];
  sandbox.rtnl.addLink({ kind: 'veth', name: 'eth0', mac, up: true, peer: { name: 'eth0', netns: neighbour.netns, up: true } });
  const endpoint: Endpoint = { id: 'e1', networkId: 'web', address: '10.20.0.2/24', addressIpv6: 'fd20::2/64', mac, ports: [], options: {}, sandbox: sandbox.path, createdAt: '' };
  neighbour.run('ip', 'address', 'add', '10.20.0.3/24', 'dev', 'eth0');
  neighbour.run('ip', 'address', 'add', 'fd20::3/64', 'dev', 'eth0', 'nodad');
  const known = (ip: string): string => neighbour.run('ip', 'neighbour', 'show', ip);
  const forget = (): void => {
    for (const ip of ['10.20.0.2', 'fd20::2']) neighbour.run('ip', 'neighbour', 'replace', ip, 'lladdr', FORMER, 'dev', 'eth0', 'nud', 'stale');
  };
  const heard = async (ip: string): Promise<boolean> => {
    for (let i = 0; i < 100 && !known(ip).includes(mac); i++) await delay(10);
    return known(ip).includes(mac);
  };

  forget();
  announce(endpoint);
  t.ok(await heard('10.20.0.2'), 'ARP');
  t.ok(await heard('fd20::2'), 'neighbour discovery');

  forget();
  const { address: _, ...ipv6Only } = endpoint;
  announce(ipv6Only);
  t.ok(await heard('fd20::2'));
  t.match(known('10.20.0.2'), FORMER, 'what it does not have is not claimed');

  sandbox.rtnl.addLink({ kind: 'veth', name: 'eth1', mac, up: true, peer: { name: 'eth1-end', up: true } });
  forget();
  announce(endpoint);
  t.ok(await heard('10.20.0.2'), 'of two links with one MAC, by the one that has the address');

  const { sandbox: __, ...outside } = endpoint;
  t.doesNotThrow(() => announce(outside), 'before Join');
  t.doesNotThrow(() => announce({ ...endpoint, sandbox: '/run/netns/weft-gone' }));
  t.doesNotThrow(() => announce({ ...endpoint, address: '10.20.0.9/24', addressIpv6: 'fd20::9/64', mac: FORMER }), 'before its interface is there');
});
