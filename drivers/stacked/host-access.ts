/**
 * The host's own way to its containers on an interface of its own, which the kernel does not give it: a link of their kind
 * beside theirs, with an address of the network and a route for each of this host's containers. All others it reaches by
 * its interface as before.
 */
import { contains, parsePrefix } from '../../base/prefix.ts';
import type { Repair } from '../../cnm/driver.ts';
import type { Endpoint, Network } from '../../cnm/model.ts';
import { writeSysctl } from '../../linux/sysctl.ts';
import type { Link, Rtnl, SharingLink } from '../../linux/types.ts';
import { ensureAddress, ensureLink, ensureRoutes } from '../ensure.ts';
import { addressesOf } from './sandbox-links.ts';

/** `own`: the host's address of each of the network's IPv4 subnets, plain. */
export interface HostAccess { name: string; link: SharingLink; parent: Link; own: readonly string[]; endpoints: readonly Endpoint[]; mtu: number }

export function ensureHostAccess(host: Rtnl, network: Network, { name, link, parent, own, endpoints, mtu }: HostAccess, found: Repair[]): void {
  const settings = (): void => {
    // It hears everybody's broadcasts, and would answer the whole LAN for the host's other addresses and draw its traffic
    // here. So it answers only whom the host reaches through it: its own containers.
    writeSysctl(host.netns, `net/ipv4/conf/${name}/arp_filter`, '1');
    writeSysctl(host.netns, `net/ipv6/conf/${name}/disable_ipv6`, '1');
  };
  const dev = ensureLink(host, name, { mtu, up: true }, () => {
    host.addLink({ ...link, name, parent: parent.index, mtu });
    settings();
  }, found);
  settings();
  // Alone, so that the LAN as a whole stays where the host has its route to it.
  for (const address of own) ensureAddress(host, dev, `${address}/32`, found);
  const subnets = network.subnets.map(({ subnet }) => parsePrefix(subnet)!);
  // An address of another family has no source here, and no route.
  const routes = endpoints.flatMap(addressesOf).flatMap((ip) => {
    const subnet = subnets.find((each) => contains(each, ip));
    const src = subnet && own.find((each) => contains(subnet, each));
    return src === undefined ? [] : [{ dst: `${ip}/32`, dev, src }];
  });
  ensureRoutes(host, routes, host.routes({ table: 254, dev }), found);
}
