/**
 * Ways that were in the kernel when weftd started, and that soft state does not know, or knows otherwise. The kernel is told at once and the
 * disk a second later, so after a crash the kernel may well know better: they stay until the node that they lead to has been heard, and has
 * had the time to say all.
 */
import type { Clock } from '../../base/clock.ts';
import type { SoftState } from '../../cluster/state.ts';

/** Two comparisons of digests. */
const HEARD_MS = 5_000;

export class Inheritance {
  readonly #state: Pick<SoftState, 'members'>;
  readonly #clock: Clock;
  /** Network → address → the node that it leads to. */
  readonly #ways = new Map<string, Map<string, string>>();
  /** Node → when it was seen alive for the first time. */
  readonly #heardAt = new Map<string, number>();

  constructor(state: Pick<SoftState, 'members'>, clock: Clock) {
    this.#state = state;
    this.#clock = clock;
  }

  /** Looks who is there. */
  listen(): void {
    for (const { id, state } of this.#state.members()) if (state === 'alive' && !this.#heardAt.has(id)) this.#heardAt.set(id, this.#clock.now());
  }

  isHeard(node: string): boolean {
    return this.#clock.now() - (this.#heardAt.get(node) ?? Infinity) >= HEARD_MS;
  }

  add(networkId: string, ip: string, node: string): void {
    const ways = this.#ways.get(networkId) ?? new Map<string, string>();
    this.#ways.set(networkId, ways.set(ip, node));
  }

  has(networkId: string, ip: string): boolean {
    return this.#ways.get(networkId)?.has(ip) ?? false;
  }

  delete(networkId: string, ip: string): void {
    this.#ways.get(networkId)?.delete(ip);
  }

  forget(networkId: string): void {
    this.#ways.delete(networkId);
  }

  /** Addresses that soft state alone decides about by now: the node was heard, or is none of the cluster's any more. */
  settled(networkId: string, isPeer: (node: string) => boolean): string[] {
    return [...this.#ways.get(networkId) ?? []].flatMap(([ip, node]) => (this.isHeard(node) || !isPeer(node) ? [ip] : []));
  }
}
