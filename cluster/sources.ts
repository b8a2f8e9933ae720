/** The ways of finding other nodes that need no list of them: opened in the background, and asked as seldom as will do. */
import { isIPv4 } from 'node:net';
import type { Clock } from '../base/clock.ts';
import type { Logger } from '../base/log.ts';
import type { Random } from '../base/random.ts';
import type { Keyring } from '../gossip/keyring.ts';
import type { Address } from '../gossip/messages.ts';
import { allAddresses, type Discovery } from './discovery.ts';

export interface DiscoveryOptions {
  /** Ask the local network; where gossip goes by IPv6, nobody is asked. */
  multicast: boolean;
  /** Take part in a hash table on this UDP port, which begins with those of other nodes. */
  dht?: { port: number; bootstrap: readonly Address[] } | undefined;
}

export interface SourcesOptions {
  discovery: DiscoveryOptions;
  /** Where this node's gossip listens. */
  self: Address;
  keyring: Keyring;
  clock: Clock;
  random: Random;
  log: Logger;
}

export interface Sources {
  /** Where other nodes may be; mostly nothing, since it asks at intervals of its own. `others`: live members, this node not counted. */
  addresses(others: number): Promise<readonly Address[]>;
  close(): Promise<void>;
}

/** A node that is alone asks after that long, then after twice as long, and so on up to SELDOM_MS. */
const FIRST_MS = 1_000;
/** Two islands find each other after that long, and up to twice as long. */
const SELDOM_MS = 60_000;
/** In a large cluster each node asks less often, so that all of them together are not asked more than about once a second. */
const PER_MEMBER_MS = 1_000;

export function openSources({ discovery, log, ...options }: SourcesOptions): Sources {
  const { dht } = discovery;
  const sources: Record<string, Discovery> = {
    ...(discovery.multicast && isIPv4(options.self.host) && { multicast: inBackground(async () => (await import('./multicast.ts')).openMulticast(options)) }),
    ...(dht && { dht: inBackground(async () => (await import('./dht.ts')).openDht({ ...options, ...dht })) }),
  };
  return {
    addresses: askSeldom(allAddresses(sources, log), options),
    close: async () => void (await Promise.all(Object.values(sources).map((source) => source.close()))),
  };
}

/** Asks when it is time to, and else knows of nothing. */
export function askSeldom(ask: () => Promise<readonly Address[]>, { clock, random }: Pick<SourcesOptions, 'clock' | 'random'>): Sources['addresses'] {
  let wasAlone = false;
  let pause = FIRST_MS;
  let due = -Infinity;
  return async (others) => {
    const alone = others === 0;
    if (alone && !wasAlone) {
      pause = FIRST_MS;
      due = -Infinity;
    }
    wasAlone = alone;
    if (clock.now() < due) return [];
    due = clock.now() + (alone ? pause : Math.max(SELDOM_MS, others * PER_MEMBER_MS)) * (1 + random.float());
    pause = Math.min(SELDOM_MS, pause * 2);
    return ask();
  };
}

/** Begins to open at once, and nobody waits for it. Where it cannot be opened, that is said to who asks, and tried again then. */
function inBackground(open: () => Promise<Discovery>): Discovery {
  let closed = false;
  let opening: Promise<Discovery> | undefined;
  const opened = (): Promise<Discovery> => (opening ??= open().then((source) => {
    if (closed) void source.close();
    return source;
  }).catch((error: unknown) => {
    opening = undefined;
    throw error;
  }));
  opened().catch(() => {});
  return {
    addresses: async () => (closed ? [] : (await opened()).addresses()),
    close: async () => {
      closed = true;
      await opening?.then((source) => source.close(), () => {});
    },
  };
}
