/**
 * Who is asked about the outside world: the node's name servers, or those over TLS that a network names for its sandboxes. Sandboxes with the
 * same ones share connections and answers, and these go with the last of them.
 */
import type { Clock } from '../base/clock.ts';
import type { AnswerCache } from './answer-cache.ts';
import { createCachingForwarder } from './caching.ts';
import type { TlsUpstreams } from './dns.ts';
import type { Forwarder } from './forwarder.ts';
import type { Upstreams } from './forwarding.ts';

/** Where answers of the node's name servers are kept; sandboxes have their paths. */
const NODE_SCOPE = 'host';

export interface OutsideOptions {
  /** Of the node itself. */
  usual: { forwarder: Forwarder; encrypted: boolean };
  /** Nobody is connected to before something is asked. */
  open(servers: TlsUpstreams): Forwarder;
  cache: AnswerCache;
  clock: Clock;
}

/** Whom a sandbox asks, until it lets go. `servers`: undefined where they are the node's. */
export interface Lease { servers: TlsUpstreams | undefined; upstreams: Upstreams; release(): void }

export interface Outside {
  /** undefined: the node's. */
  take(servers: TlsUpstreams | undefined): Lease;
  close(): void;
}

export function createOutside({ usual, open, cache, clock }: OutsideOptions): Outside {
  const upstreamsOf = (scope: string, forwarder: Forwarder, encrypted: boolean): Upstreams =>
    ({ direct: forwarder, cached: createCachingForwarder({ cache, scope, forwarder, clock }), encrypted });
  const node: Lease = { servers: undefined, upstreams: upstreamsOf(NODE_SCOPE, usual.forwarder, usual.encrypted), release: () => {} };
  /** By what they are called. */
  const shared = new Map<string, { upstreams: Upstreams; users: number }>();

  return {
    take: (servers) => {
      if (!servers) return node;
      const scope = JSON.stringify(servers);
      const taken = shared.get(scope) ?? { upstreams: upstreamsOf(scope, open(servers), true), users: 0 };
      const { upstreams } = taken;
      shared.set(scope, taken);
      taken.users++;
      return {
        servers, upstreams,
        release: () => {
          if (--taken.users > 0) return;
          shared.delete(scope);
          upstreams.direct.close();
          cache.clear(scope);
        },
      };
    },
    close: () => {
      usual.forwarder.close();
      for (const { upstreams } of shared.values()) upstreams.direct.close();
    },
  };
}
