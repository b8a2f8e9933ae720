import { errorText } from '../base/errors.ts';
import type { Endpoint, JoinAnswer, Network } from './model.ts';

/**
 * A network driver. All calls are idempotent. The controller serialises the calls of one network, persists around
 * them and never calls join for an endpoint it has not created; it may call delete for things half made or gone.
 */
export interface Driver {
  readonly name: string;
  readonly scope: Network['scope'];
  /** Checks options and the fit of the network to this host; throws WeftError. Touches nothing. */
  validate(network: Network): void;
  /** Makes, or repairs, what this node needs at once for the network. */
  createNetwork(network: Network): Promise<void>;
  deleteNetwork(network: Network): Promise<void>;
  /** Of drivers whose endpoints have no MAC of their own: the one that all of a network's have on this node. Makes what has it. */
  sharedMac?(network: Network): string;
  createEndpoint(network: Network, endpoint: Endpoint): Promise<void>;
  /** Also called for an endpoint whose creation or join failed half way. */
  deleteEndpoint(network: Network, endpoint: Endpoint): Promise<void>;
  join(network: Network, endpoint: Endpoint): Promise<JoinAnswer>;
  leave(network: Network, endpoint: Endpoint): Promise<void>;
  /** Compares everything this driver owns with the kernel and mends the differences; says what was found. */
  repair(networks: readonly Network[], endpoints: readonly Endpoint[]): Promise<Repair[]>;
}

/** One difference that was found and mended (or not, with the reason). */
export interface Repair { what: string; error?: string }

/** A part of a repair that keeps the others from nothing: what goes wrong with it is said in `found`. `what`: it, where it cannot be mended. */
export async function mend(what: string, found: Repair[], work: () => Promise<void>): Promise<void> {
  try {
    await work();
  } catch (error) {
    found.push({ what: `${what} could not be mended`, error: errorText(error) });
  }
}
