/**
 * How large packets of overlays may be: what the underlay carries between all nodes, less the encapsulation. Each node tells the others what it
 * knows of its own ways, so that all have the same: of a pair whose ends differ, the smaller one drops what the larger one sends.
 */
import { familyOf } from '../../base/prefix.ts';
import type { Network } from '../../cnm/model.ts';
import type { NodeInfo } from '../../cluster/state.ts';
import type { Rtnl } from '../../linux/types.ts';
import { hasIpv6 } from '../ipv6.ts';
import { MIN_MTU, isEncrypted, wantedMtu } from '../options.ts';
import { VXLAN_OVERHEAD, WIREGUARD_OVERHEAD, sealedOverhead } from './addressing.ts';

/** Of packets of the underlay. */
export interface Underlay {
  /** What every interface says, and every route of this node. */
  said: number;
  /** What gets through. */
  carried: number;
  /** What gets through on this node's own ways, where its interface says more. */
  told: number | undefined;
}

/** `found`: what gets through to single nodes, where it is less than is said. */
export function underlayOf(self: NodeInfo, peers: readonly NodeInfo[], routeMtu: (ip: string) => number | undefined, found: Iterable<number>): Underlay {
  const routes = peers.map(({ vtep }) => routeMtu(vtep) ?? Infinity);
  const own = Math.min(self.underlayMtu, ...routes, ...found);
  return {
    said: Math.min(...[self, ...peers].map(({ underlayMtu }) => underlayMtu), ...routes),
    carried: Math.min(own, ...peers.map(({ underlayMtu, pathMtu = Infinity }) => Math.min(underlayMtu, pathMtu))),
    told: own < self.underlayMtu ? own : undefined,
  };
}

export interface MtusOptions {
  self(): NodeInfo;
  peers(): readonly NodeInfo[];
  routeMtu(ip: string): number | undefined;
  /** What was found to get through by weft-in. */
  found(): Iterable<number>;
  /** To the other nodes. */
  tell(pathMtu: number | undefined): void;
}

/** As of the last look: to ask for the route to each peer takes too long for a container's start. */
export interface Mtus {
  /** Returns whether anything is another than at the last look. */
  look(): boolean;
  of(network: Network): number;
  /** Of the uplink. */
  uplink(): number;
  /** Of weft-in: it carries what is said, so that it can be tried whether that gets through. What is routed there has come, or goes, by smaller links. */
  tunnel(): number;
  /** Throws WEFT-OPTION-VALUE, WEFT-MTU-TOO-LARGE. */
  check(network: Network): void;
  /** What a packet of the tunnel takes of one of the underlay. */
  overhead(): number;
}

export function createMtus({ self, peers, routeMtu, found, tell }: MtusOptions): Mtus {
  let last: Underlay | undefined;
  const measure = (): Underlay => underlayOf(self(), peers(), routeMtu, [...found()].map((size) => size + vxlan()));
  const underlay = (): Underlay => (last ??= measure());
  const vxlan = (): number => VXLAN_OVERHEAD[familyOf(self().vtep)];
  const overheadOf = (network: Network): number => (isEncrypted(network) ? sealedOverhead(familyOf(self().vtep)) : vxlan());

  return {
    look: () => {
      const before = last;
      last = measure();
      if (last.told !== self().pathMtu) tell(last.told);
      return before !== undefined && (before.said !== last.said || before.carried !== last.carried);
    },
    // Below its least a link loses the addresses of that family.
    of: (network) => wantedMtu(network, Infinity, 0) ?? Math.max(underlay().carried - overheadOf(network), MIN_MTU[hasIpv6(network) ? 6 : 4]),
    uplink: () => Math.max(underlay().carried - vxlan(), MIN_MTU[6]),
    tunnel: () => underlay().said - vxlan(),
    overhead: vxlan,
    check: (network) => void wantedMtu(network, measure().carried, overheadOf(network)),
  };
}

/** Of the WireGuard link, and of weft-in-wg; `mtu` is the uplink's. */
export function sealedMtus({ vtep }: NodeInfo, mtu: number): { link: number; tunnel: number } {
  const family = familyOf(vtep);
  const underlay = mtu + VXLAN_OVERHEAD[family];
  return { link: underlay - WIREGUARD_OVERHEAD[family], tunnel: underlay - sealedOverhead(family) };
}

/** Without a word: another MTU is no damage. */
export function setMtu(rtnl: Rtnl, name: string, mtu: number): void {
  const link = rtnl.link(name);
  if (link && link.mtu !== mtu) rtnl.setLink(link.index, { mtu });
}
