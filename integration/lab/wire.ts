/**
 *   machine                router
 *   ADDRESS/24  -------->  GATEWAY/32   and a route to ADDRESS/32
 *
 * One wire from a machine of the lab to its router. Machines of one subnet have a wire each, so none sees another's
 * frames; the router answers ARP for all of them and forwards.
 */
import { must, run } from './run.ts';

export interface Wire {
  /** Carrier is lost at both ends, as with a cable pulled out: the machine keeps its addresses and routes. */
  cut(): Promise<void>;
  heal(): Promise<void>;
  /** With both ends. */
  remove(): Promise<void>;
}

/** A machine's network card, and the name of the router's end of its cable. */
export interface Card { device: string; routerEnd: string; address: string }

export const gatewayOf = (address: string): string => address.replace(/\d+$/, '254');

export async function connect(router: string, namespace: string, { device, routerEnd, address }: Card): Promise<Wire> {
  const batch = (at: string, lines: readonly string[]): Promise<string> => must(['ip', '-n', at, '-batch', '-'], { input: lines.join('\n') });
  // The kernel takes the route away with the carrier.
  const raise = [`link set ${routerEnd} up`, `route replace ${address}/32 dev ${routerEnd}`];
  await must(['ip', 'link', 'add', routerEnd, 'netns', router, 'type', 'veth', 'peer', 'name', device, 'netns', namespace]);
  await must(['ip', 'netns', 'exec', router, 'sysctl', '-qw', `net.ipv4.conf.${routerEnd}.proxy_arp=1`, `net.ipv4.neigh.${routerEnd}.proxy_delay=0`]);
  await batch(router, [`addr add ${gatewayOf(address)}/32 dev ${routerEnd}`, ...raise]);
  await batch(namespace, ['link set lo up', `addr add ${address}/24 dev ${device}`, `link set ${device} up`]);
  return {
    cut: async () => void (await batch(router, [`link set ${routerEnd} down`])),
    heal: async () => void (await batch(router, raise)),
    remove: async () => void (await run(['ip', '-n', router, 'link', 'delete', routerEnd])),
  };
}
