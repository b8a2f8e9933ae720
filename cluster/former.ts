/**
 * Takes leave in the name of an address at which this node was before. Gossip keeps a member where it is for as long as
 * somebody answers there, and this host may still have that address.
 */
import type { Clock } from '../base/clock.ts';
import type { Logger } from '../base/log.ts';
import type { Random } from '../base/random.ts';
import { createGossip } from '../gossip/gossip.ts';
import { Keyring } from '../gossip/keyring.ts';
import type { Address } from '../gossip/messages.ts';
import type { Transport } from '../gossip/transport.ts';

export interface FormerOptions {
  node: { id: string; name: string };
  /** Advertises the former address; closed afterwards. */
  transport: Transport;
  keys: readonly Uint8Array[];
  /** Where other nodes may be. */
  seeds: readonly Address[];
  clock: Clock;
  random: Random;
  log: Logger;
}

/** Each of them tells the others. */
const TOLD = 5;
const JOIN_TIMEOUT_MS = 3_000;
const LEAVE_TIMEOUT_MS = 1_000;

/** Resolves also when nobody could be told: then they find out by their probes, unless this host answers those. */
export async function leaveFormerAddress({ node, transport, keys: [key, ...others], seeds, clock, random, log }: FormerOptions): Promise<void> {
  const gossip = createGossip({ name: node.id, transport, clock, random, log, keyring: new Keyring(key!, ...others), meta: Buffer.from(node.name), profile: 'fast' });
  try {
    const { joined } = await gossip.join(seeds.slice(0, TOLD), { signal: AbortSignal.timeout(JOIN_TIMEOUT_MS) }).catch(() => ({ joined: 0 }));
    if (joined > 0) await gossip.leave({ timeoutMs: LEAVE_TIMEOUT_MS });
  } finally {
    await gossip.shutdown();
  }
}
