/** Brings another MTU to the links of a network that are there, in its containers, too. */
import type { Logger } from '../../base/log.ts';
import { nameOf, type Endpoint, type Network } from '../../cnm/model.ts';
import type { Rtnl } from '../../linux/types.ts';
import { overlayBridge, overlayTunnel } from '../names.ts';
import { ensurePorts, type Pairs } from '../veth.ts';
import { setMtu, type Mtus } from './mtu.ts';

export class MtuFollower {
  /** Network → the MTU that its links were given. */
  readonly #given = new Map<string, number>();
  readonly #rtnl: Rtnl;
  readonly #pairs: Pick<Pairs, 'setMtu'>;
  readonly #mtus: Pick<Mtus, 'of'>;
  readonly #log: Logger;

  constructor(rtnl: Rtnl, pairs: Pick<Pairs, 'setMtu'>, mtus: Pick<Mtus, 'of'>, log: Logger) {
    [this.#rtnl, this.#pairs, this.#mtus, this.#log] = [rtnl, pairs, mtus, log];
  }

  /** Before they are compared: nothing of it was broken. What is not reached now is left to the comparison. `here`: endpoints of the network. */
  async follow(network: Network, here: readonly Endpoint[]): Promise<void> {
    const mtu = this.#mtus.of(network);
    const before = this.#given.get(network.id) ?? mtu;
    this.#given.set(network.id, mtu);
    if (before === mtu) return;
    this.#log.info({ network: nameOf(network), mtu, before }, 'the MTU of a network follows the underlay');
    for (const link of [overlayTunnel, overlayBridge]) setMtu(this.#rtnl, link(network.id), mtu);
    await ensurePorts(this.#rtnl, here, (endpoint) => this.#pairs.setMtu(this.#rtnl, endpoint, mtu));
  }

  forget(networkId: string): void {
    this.#given.delete(networkId);
  }
}
