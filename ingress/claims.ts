/**
 * Who may publish a port: (protocol, port) → service, claimed by compare-and-swap, so that two hosts cannot both win.
 * The claim lists the nodes that have backends for it and goes with the last of them.
 */
import { weftError } from '../base/errors.ts';
import type { LocalStore, Store } from '../store/store.ts';

interface Claim { service: string; nodes: string[] }

export interface PortClaims {
  /** Throws WEFT-PORT-HELD. While the store is away, a claim that this node has already is enough. */
  claim(protocol: string, port: number, service: string): Promise<void>;
  /** The service that this node has the port for. */
  held(protocol: string, port: number): string | undefined;
  /** Idempotent. */
  release(protocol: string, port: number): Promise<void>;
}

export function createPortClaims({ store, local, node }: { store: Store; local: LocalStore; node: string }): PortClaims {
  const keyOf = (protocol: string, port: number): string => `ports/${protocol}/${port}`;

  async function change(key: string, next: (claim: Claim | undefined) => Claim | undefined): Promise<void> {
    for (;;) {
      const entry = await store.get(key);
      const before = entry && (JSON.parse(entry.value) as Claim);
      const after = next(before);
      if (JSON.stringify(after) === JSON.stringify(before)) return;
      const write = after ? { put: key, value: JSON.stringify(after) } : { delete: key };
      if ((await store.txn([{ key, revision: entry?.revision ?? 0 }], [write])).succeeded) return;
    }
  }

  return {
    claim: async (protocol, port, service) => {
      const key = keyOf(protocol, port);
      if (local.get(`held/${key}`) === service) return;
      await change(key, (claim) => {
        if (claim && claim.service !== service) throw weftError('WEFT-PORT-HELD', { port, proto: protocol, service: claim.service });
        return { service, nodes: [...new Set([...(claim?.nodes ?? []), node])].sort() };
      });
      local.put(`held/${key}`, service);
    },
    held: (protocol, port) => local.get(`held/${keyOf(protocol, port)}`),
    release: async (protocol, port) => {
      const key = keyOf(protocol, port);
      if (local.get(`held/${key}`) === undefined) return;
      await change(key, (claim) => {
        const nodes = claim?.nodes.filter((each) => each !== node) ?? [];
        return claim && nodes.length > 0 ? { ...claim, nodes } : undefined;
      });
      local.delete(`held/${key}`);
    },
  };
}
