/**
 * The prefixes this node already uses: its routes, Docker's own subnets, and those of its own networks that no pool in
 * the store stands for. Published to all nodes, because a network that overlaps them anywhere would cut that node off
 * from what it reaches now.
 */
import { overlaps, parsePrefix } from '../base/prefix.ts';
import type { Network } from '../cnm/model.ts';
import { NETWORK_LINKS } from '../drivers/names.ts';
import type { Occupied } from '../ipam/subnets.ts';
import type { Rtnl } from '../linux/types.ts';
import type { DockerNetwork } from './docker/client.ts';
import { NODES } from './node-prefix.ts';

/** Of each link, and so of no network (RFC 4291 §2.5.6). */
const LINK_LOCAL = parsePrefix('fe80::/10')!;

/** Whose a prefix is that a link of this host's leads to. */
export const byRoute = (link: string): string => `the route by ${link}`;

/** `docker`: its networks of other drivers than ours; `own`: ours. */
export function occupiedPrefixes(host: Rtnl, { nodePrefix, docker: dockerNetworks, own }: { nodePrefix: string; docker: readonly DockerNetwork[]; own: readonly Network[] }): Occupied[] {
  const names = new Map(host.links().map((link) => [link.index, link.name]));
  const ofDocker = dockerNetworks.flatMap((network) =>
    (network.IPAM.Config ?? []).flatMap(({ Subnet }) => (Subnet ? [{ prefix: Subnet, by: `Docker network ${network.Name}`, pooled: network.IPAM.Driver === 'weft' }] : [])));
  const docker = ofDocker.filter(({ pooled }) => !pooled).map(({ prefix, by }) => ({ prefix, by }));
  const unpooled = own.filter(({ scope, ipam }) => scope === 'node' && ipam !== 'weft')
    .flatMap((network) => network.subnets.map(({ subnet }) => ({ prefix: subnet, by: `network ${network.name || network.id.slice(0, 12)}` })));
  const known = new Set(ofDocker.map(({ prefix }) => prefix));
  const routed = host.routes({ table: 254 }).flatMap((route) => {
    const dev = route.dev === undefined ? undefined : names.get(route.dev);
    const prefix = parsePrefix(route.dst);
    if (!prefix || dev === undefined || NETWORK_LINKS.test(dev) || overlaps(prefix, LINK_LOCAL)) return [];
    return known.has(route.dst) ? [] : [{ prefix: route.dst, by: byRoute(dev) }];
  });
  return [{ prefix: nodePrefix, by: NODES }, ...docker, ...unpooled, ...routed].filter(({ prefix }) => parsePrefix(prefix));
}
