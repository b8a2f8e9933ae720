/** Address management: what the controller and Docker's IPAM front end ask of it. */
import type { Family } from '../base/prefix.ts';

export interface PoolRequest {
  /** 'a.b.c.0/24' or 'fd00::/64', or absent: choose a free one. '0.0.0.0/0' and '::/0' stand for no addresses at all. */
  subnet?: string;
  /** Of the subnet to choose; 4 by default. */
  family?: Family;
  /** Sub-prefix to hand out from. */
  range?: string;
  /** A further request for a pool that exists (the copy of a network on another node, or Docker's replay): no claim is made. */
  existing?: boolean;
  /** The subnet is one that hosts have as well (the LAN's, for a macvlan network): only other pools must not overlap it. */
  shared?: boolean;
}

/** Holder of an address that the node itself has on a network, which belongs to no endpoint. */
export const HOST_HOLDER = 'this host';

/** A pool is known by its subnet, which is unique in the cluster. `id`: of this making of it; one of no addresses has none. */
export interface Pool { subnet: string; range?: string; id?: string }

export interface AddressRequest {
  /** Pool subnet. */
  subnet: string;
  /** Plain address that must be this one. */
  address?: string;
  /** Hand out only from this sub-prefix. */
  range?: string;
  /** Who holds it, for messages and for idempotent repeats: 'gateway', 'aux:name' or an endpoint's or request's id. */
  holder: string;
  /**
   * weft: Weft chooses (from the top downwards), or the user did. docker: Docker's own IPAM chose `address` already; it is claimed, and
   * WEFT-ADDRESS-ELSEWHERE is thrown when its block belongs to another node.
   */
  chooser: 'weft' | 'docker';
  /** Name of the network, for messages. */
  network?: string;
}

/**
 * The allocator. A node claims blocks of a pool in the store by compare-and-swap and hands out addresses of its blocks
 * locally and durably; the store is asked only when a new block is needed, and other nodes when no block is free. Cluster-wide holders (gateway, aux) do not
 * take a block: they are part of the pool's record.
 */
export interface AddressManager {
  /** Claims a subnet cluster-wide. Throws WEFT-SUBNET-OVERLAP, WEFT-SUBNET-MALFORMED, WEFT-RANGE-OUTSIDE, WEFT-POOLS-EXHAUSTED. */
  requestPool(request: PoolRequest): Promise<Pool>;
  /**
   * Idempotent. The pool's blocks and addresses go with it. `id`: that making of it and no later one, which another node may have
   * asked for as soon as the earlier was gone.
   */
  releasePool(subnet: string, id?: string): Promise<void>;
  /** Of the making of the pool that this node knows. */
  poolId(subnet: string): string | undefined;
  /** Reserves addresses that no endpoint may get, in every node's eyes (gateway, aux). Idempotent. */
  reserve(subnet: string, reserved: Record<string, string>): Promise<void>;
  /** Returns 'ip/length'. Throws WEFT-ADDRESS-*, WEFT-POOL-*. A repeat by the same holder for the same address succeeds. */
  requestAddress(request: AddressRequest): Promise<string>;
  /** Plain address; idempotent. It rests before another node can have it, and on this one as long as there are others. */
  releaseAddress(subnet: string, address: string): Promise<void>;
  /** To whom this node gave the address; undefined when to nobody. */
  holderOf(subnet: string, address: string): string | undefined;
  /** For status: per pool, blocks held here, and addresses in them that are used, rest after use, and are free. */
  usage(): { subnet: string; blocks: number; used: number; resting: number; free: number }[];
}
