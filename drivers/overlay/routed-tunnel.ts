/**
 * A tunnel without a bridge, by which all nodes are next hops of each other: for packets between the host of one node and the containers of
 * another. The node that one comes from is told by its MAC address, and answered through a routing table of its own.
 */
import type { Repair } from '../../cnm/driver.ts';
import type { Rtnl } from '../../linux/types.ts';
import { writeSysctl } from '../../linux/sysctl.ts';
import { ensureForwarding, ensureLink, ensureRoutes, linkMaker, removeUnless } from '../ensure.ts';
import { IPV6_METRIC, enableIpv6 } from '../ipv6.ts';
import { INGRESS_VNI, nodeLinkLocal, nodeMac } from './addressing.ts';

/** Where packets from the host look up remote endpoints, so that they cross by such a tunnel and are answered through this node. */
export const REMOTE_TABLE = 1000;

export interface TunnelPeer {
  number: number;
  vtep: string;
  address: string;
  address6: string;
}

export interface RoutedTunnel {
  name: string;
  number: number;
  local: string;
  port: number;
  mtu: number;
  /** In whose namespace its UDP socket is. */
  socket: Rtnl;
  /** Routing table whose default route leads to a node. */
  table(number: number): number;
  /** Whether the nodes' own addresses are reached by it. */
  toNodes: boolean;
}

/** Returns its index. */
export async function ensureRoutedTunnel(rtnl: Rtnl, { name, number, local, port, mtu, socket, table, toNodes }: RoutedTunnel, peers: readonly TunnelPeer[], withIpv6: boolean, found: Repair[]): Promise<number> {
  await removeUnless(rtnl, name, ({ vxlan }) => vxlan?.vni === INGRESS_VNI && vxlan.local === local && vxlan.port === port);
  const mac = nodeMac(number);
  const dev = ensureLink(rtnl, name, { mtu, mac, up: true }, linkMaker(socket, { kind: 'vxlan', name, vni: INGRESS_VNI, local, port, mtu, mac, netns: rtnl.netns }), found);
  if (withIpv6) enableIpv6(rtnl.netns, name, { quiet: true });
  // Only ever from addresses that are routed elsewhere, and without an address of its own a loose check drops everything.
  writeSysctl(rtnl.netns, `net/ipv4/conf/${name}/rp_filter`, '0');
  ensureForwarding(
    rtnl, dev,
    peers.map((peer) => ({ dev, mac: nodeMac(peer.number), vtep: peer.vtep, master: false })),
    peers.flatMap((peer) => [peer.address, ...(withIpv6 ? [nodeLinkLocal(peer.number)] : [])].map((ip) => ({ dev, ip, mac: nodeMac(peer.number) }))),
    found,
  );
  const wanted = peers.flatMap((peer) => {
    const ofIpv4 = { via: peer.address, dev, onlink: true };
    const ofIpv6 = { via: nodeLinkLocal(peer.number), dev, metric: IPV6_METRIC };
    return [
      { dst: 'default', ...ofIpv4, table: table(peer.number) }, ...(withIpv6 ? [{ dst: 'default', ...ofIpv6, table: table(peer.number) }] : []),
      ...(toNodes ? [{ dst: `${peer.address}/32`, ...ofIpv4 }, ...(withIpv6 ? [{ dst: `${peer.address6}/128`, ...ofIpv6 }] : [])] : []),
    ];
  });
  ensureRoutes(rtnl, wanted, (await rtnl.large.routes({ dev })).filter((route) => route.table !== REMOTE_TABLE), found);
  return dev;
}
