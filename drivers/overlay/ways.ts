/** What is in the kernel for the addresses of one network, as far as we know. */
import { setImmediate as nextTurn } from 'node:timers/promises';
import { familyOf } from '../../base/prefix.ts';
import type { FdbEntry, Neighbour, Route } from '../../linux/types.ts';
import { IPV6_METRIC } from '../ipv6.ts';
import { nodeAddress, nodeLinkLocal } from './addressing.ts';
import { REMOTE_TABLE } from './routed-tunnel.ts';

/** A microsecond or two each. */
const PER_TURN = 64;

/**
 * All that the entries of one address follow from: there are many, so they are made when they are asked for. `dev`: the network's
 * tunnel, undefined while this node has none; `tunnel`: weft-in, undefined where no route leads there.
 */
export interface Way { mac: string; vtep: string; number: number; dev: number | undefined; tunnel: number | undefined }

export const fdbOf = ({ dev, mac, vtep }: Way): FdbEntry[] => (dev === undefined ? [] : [{ dev, mac, vtep, master: true }]);
export const neighbourOf = (ip: string, { dev, mac }: Way): Neighbour[] => (dev === undefined ? [] : [{ dev, ip, mac }]);

/** `nodePrefix`: of the nodes' own addresses. */
export function routeOf(nodePrefix: string, ip: string, { number, tunnel }: Way): Route[] {
  if (tunnel === undefined) return [];
  return familyOf(ip) === 4
    ? [{ dst: `${ip}/32`, via: nodeAddress(nodePrefix, number), dev: tunnel, onlink: true, table: REMOTE_TABLE }]
    : [{ dst: `${ip}/128`, via: nodeLinkLocal(number), dev: tunnel, metric: IPV6_METRIC, table: REMOTE_TABLE }];
}

/** Where the fast path finds the MAC addresses of one network. */
export interface RemoteAddresses {
  set(mac: string, vtep: string): void;
  delete(mac: string): void;
}

/** By address. The two addresses of one endpoint share its forwarding entry. */
export class Ways {
  readonly #remotes: RemoteAddresses | undefined;
  readonly #ways = new Map<string, Way>();
  /** MAC address → how many addresses are behind it, by the tunnel. */
  readonly #users = new Map<string, number>();

  constructor(remotes: RemoteAddresses | undefined) {
    this.#remotes = remotes;
  }

  get(ip: string): Way | undefined {
    return this.#ways.get(ip);
  }

  entries(): MapIterator<[ip: string, Way]> {
    return this.#ways.entries();
  }

  /** The tunnel is gone with what was on it; the fast path's entries are taken out a few at a time. `isTaken`: another Ways has entered the address meanwhile. */
  async abandon(isTaken: (mac: string) => boolean): Promise<void> {
    let inThisTurn = 0;
    for (const mac of this.#users.keys()) {
      if (!isTaken(mac)) this.#remotes?.delete(mac);
      if (++inThisTurn % PER_TURN === 0) await nextTurn();
    }
  }

  isUsed(mac: string): boolean {
    return this.#users.has(mac);
  }

  set(ip: string, way: Way): void {
    const before = this.#ways.get(ip);
    this.#ways.set(ip, way);
    if (way.dev !== undefined) this.#users.set(way.mac, (this.#users.get(way.mac) ?? 0) + 1);
    if (way.dev !== undefined && (before?.dev === undefined || before.mac !== way.mac || before.vtep !== way.vtep)) this.#remotes?.set(way.mac, way.vtep);
    this.#forget(before);
  }

  delete(ip: string): void {
    this.#forget(this.#ways.get(ip));
    this.#ways.delete(ip);
  }

  #forget(way: Way | undefined): void {
    if (way?.dev === undefined) return;
    const count = this.#users.get(way.mac)! - 1;
    if (count > 0) this.#users.set(way.mac, count);
    else {
      this.#users.delete(way.mac);
      this.#remotes?.delete(way.mac);
    }
  }
}
