/** What is in the kernel for the addresses of one network, as far as we know. */
import type { FdbEntry, Neighbour, Route } from '../../linux/types.ts';

/** Without a tunnel of the network here there is the route of the host's packets only. */
export interface Way { fdb?: FdbEntry; neighbour?: Neighbour; route?: Route }

/** By address. The two addresses of one endpoint share its forwarding entry. */
export class Ways {
  readonly #ways = new Map<string, Way>();
  /** MAC address → how many addresses are behind it. */
  readonly #users = new Map<string, number>();

  get(ip: string): Way | undefined {
    return this.#ways.get(ip);
  }

  values(): MapIterator<Way> {
    return this.#ways.values();
  }

  isUsed(mac: string): boolean {
    return this.#users.has(mac);
  }

  set(ip: string, way: Way): void {
    this.delete(ip);
    this.#ways.set(ip, way);
    if (way.fdb) this.#users.set(way.fdb.mac, (this.#users.get(way.fdb.mac) ?? 0) + 1);
  }

  delete(ip: string): void {
    const mac = this.#ways.get(ip)?.fdb?.mac;
    this.#ways.delete(ip);
    if (mac === undefined) return;
    const count = this.#users.get(mac)! - 1;
    if (count > 0) this.#users.set(mac, count);
    else this.#users.delete(mac);
  }
}
