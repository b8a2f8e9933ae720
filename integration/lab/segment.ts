/**
 *    h1 eth1 ──┐
 *    h2 eth1 ──┤ switch (a bridge on the router's machine)
 *  outside eth1┘
 *
 * One Ethernet segment for machines of a lab, beside the routed subnets that their first cards are on. It goes with them.
 */
import type { Lab } from './lab.ts';
import { must } from './run.ts';

/** `addresses` are 'ip/length' by a machine's label; undefined: its card has none. */
export async function addSegment(lab: Lab, device: string, addresses: Readonly<Record<string, string | undefined>>): Promise<void> {
  const router = lab.namespace('router');
  const on = (namespace: string, ...command: string[]): Promise<string> => must(['ip', '-n', namespace, ...command]);
  await on(router, 'link', 'add', 'switch', 'type', 'bridge');
  await on(router, 'link', 'set', 'switch', 'up');
  for (const [label, address] of Object.entries(addresses)) {
    const namespace = lab.namespace(label);
    await must(['ip', 'link', 'add', `s-${label}`, 'netns', router, 'type', 'veth', 'peer', 'name', device, 'netns', namespace]);
    await on(router, 'link', 'set', `s-${label}`, 'master', 'switch', 'up');
    if (address !== undefined) await on(namespace, 'address', 'add', address, 'dev', device);
    await on(namespace, 'link', 'set', device, 'up');
  }
}
