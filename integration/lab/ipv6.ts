/** IPv6 for machines of a lab. */
import type { Lab } from './lab.ts';
import { must } from './run.ts';

/** fd99:1::1, fd99:2::2, fd99:1::3 … as the IPv4 addresses are. */
export const ipv6Of = (number: number): string => `fd99:${number % 2 === 1 ? 1 : 2}::${number}`;

/** An address for the outside and for hosts, by their numbers, and the router between them. */
export async function addIpv6(lab: Lab, outside: string, hosts: readonly number[]): Promise<void> {
  const router = lab.namespace('router');
  await must(['ip', 'netns', 'exec', router, 'sysctl', '-qw', 'net.ipv6.conf.all.forwarding=1']);
  for (const [label, address] of [['outside', outside], ...hosts.map((number) => [`h${number}`, ipv6Of(number)])] as [string, string][]) {
    const port = `r-${label}`;
    await must(['ip', '-n', router, 'addr', 'add', 'fe80::99/64', 'dev', port, 'nodad']);
    await must(['ip', '-n', router, 'route', 'add', `${address}/128`, 'dev', port]);
    await must(['ip', '-n', lab.namespace(label), 'addr', 'add', `${address}/128`, 'dev', 'eth0', 'nodad']);
    await must(['ip', '-n', lab.namespace(label), '-6', 'route', 'add', 'default', 'via', 'fe80::99', 'dev', 'eth0']);
  }
}
