/**
 * Who may publish a port: (protocol, port) → service, claimed by compare-and-swap, so that two hosts cannot both win.
 * The claim lists the nodes that have backends for it and goes with the last of them. Claims and releases of one port
 * take turns.
 */
import { WeftError, weftError } from '../base/errors.ts';
import { createSerializer } from '../cnm/serialize.ts';
import type { LocalStore, Store } from '../store/store.ts';

const PORTS = 'ports/';

interface Claim { service: string; nodes: string[] }

/** Of what the store was asked for and has not confirmed: its answer may have been lost. */
const UNCERTAIN = '';

export interface PortClaims {
  /**
   * Throws WEFT-PORT-HELD. While the store is away, a claim that this node has already is enough. `alone`: refused also where
   * another node has it for the same service.
   */
  claim(protocol: string, port: number, service: string, options?: { alone?: boolean }): Promise<void>;
  /** The service that this node has the port for. */
  held(protocol: string, port: number): string | undefined;
  /** The ports this node has, or may have, a claim on: 'tcp/8080'. */
  list(): string[];
  /** Idempotent. */
  release(protocol: string, port: number): Promise<void>;
}

/** Each attempt that fails means that another node succeeded. */
const ATTEMPTS = 64;

async function change(store: Store, key: string, next: (claim: Claim | undefined) => Claim | undefined): Promise<void> {
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    const entry = await store.get(key);
    const before = entry && (JSON.parse(entry.value) as Claim);
    const after = next(before);
    if (JSON.stringify(after) === JSON.stringify(before)) return;
    const write = after ? { put: key, value: JSON.stringify(after) } : { delete: key };
    if ((await store.txn([{ key, revision: entry?.revision ?? 0 }], [write])).succeeded) return;
  }
  throw weftError('WEFT-STORE-CONFLICT', { what: `port ${key.slice(PORTS.length)}` });
}

const without = (node: string) => (claim: Claim | undefined): Claim | undefined => {
  const nodes = claim?.nodes.filter((each) => each !== node) ?? [];
  return claim && nodes.length > 0 ? { ...claim, nodes } : undefined;
};

/** For a node that has gone: its ports are free for others, or stay with the other nodes that have them. Idempotent. */
export async function releaseAllPorts(store: Store, node: string): Promise<void> {
  for (const { key } of (await store.range(PORTS)).entries) await change(store, key, without(node));
}

/** What becomes of a backup's claims when it is made a node's store again: that node's are as its disk has them, and nobody else is there. */
export function restoredPorts(backup: readonly { key: string; value: string }[], local: LocalStore, node: string): { key: string; value: string }[] {
  const held = local.list(`held/${PORTS}`).filter(({ value }) => value !== UNCERTAIN);
  return [
    ...backup.filter(({ key }) => !key.startsWith(PORTS)),
    ...held.map(({ key, value }) => ({ key: key.slice('held/'.length), value: JSON.stringify({ service: value, nodes: [node] } satisfies Claim) })),
  ];
}

export function createPortClaims({ store, local, node }: { store: Store; local: LocalStore; node: string }): PortClaims {
  const serialize = createSerializer();
  const keyOf = (protocol: string, port: number): string => `${PORTS}${protocol}/${port}`;

  const claim = async (protocol: string, port: number, service: string, alone: boolean): Promise<void> => {
    const key = keyOf(protocol, port);
    const known = local.get(`held/${key}`);
    if (known === service && !alone) return;
    if (known === undefined) local.put(`held/${key}`, UNCERTAIN);
    try {
      await change(store, key, (present) => {
        if (present && (present.service !== service || (alone && present.nodes.some((each) => each !== node)))) throw weftError('WEFT-PORT-HELD', { port, proto: protocol, service: present.service });
        return { service, nodes: [...new Set([...(present?.nodes ?? []), node])].sort() };
      });
    } catch (error) {
      if (known === undefined && error instanceof WeftError && error.code === 'WEFT-PORT-HELD') local.delete(`held/${key}`);
      throw error;
    }
    local.put(`held/${key}`, service);
  };

  const release = async (protocol: string, port: number): Promise<void> => {
    const key = keyOf(protocol, port);
    if (local.get(`held/${key}`) === undefined) return;
    await change(store, key, without(node));
    local.delete(`held/${key}`);
  };

  return {
    claim: (protocol, port, service, { alone = false } = {}) => serialize(keyOf(protocol, port), () => claim(protocol, port, service, alone)),
    held: (protocol, port) => local.get(`held/${keyOf(protocol, port)}`) || undefined,
    list: () => local.list(`held/${PORTS}`).map(({ key }) => key.slice(`held/${PORTS}`.length)),
    release: (protocol, port) => serialize(keyOf(protocol, port), () => release(protocol, port)),
  };
}
