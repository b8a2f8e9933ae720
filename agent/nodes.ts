/** The nodes of the cluster as the store lists them: where to look for others, also while the store is away. */
import { weftError } from '../base/errors.ts';
import type { Address } from '../gossip/messages.ts';
import type { LocalStore, Store } from '../store/store.ts';

export interface NodeEntry { id: string; name: string; number: number; address: string; gossipPort: number }

export interface NodeDirectory {
  /** Of the other nodes. */
  seeds(): Promise<readonly Address[]>;
  list(): NodeEntry[];
  has(id: string): boolean;
  /** Enters or corrects this node. */
  announce(entry: NodeEntry): Promise<void>;
  /** `onRemoved` is called after a node was taken out. */
  follow(onRemoved: () => void): () => void;
}

/** By id, or by a name that one node has: hosts that join at the same moment may have the same. Throws WEFT-NODE-UNKNOWN. */
export function findNode<Node extends { id: string; name: string }>(nodes: readonly Node[], reference: string): Node {
  const named = nodes.filter(({ name }) => name === reference);
  const found = nodes.find(({ id }) => id === reference) ?? (named.length === 1 ? named[0] : undefined);
  if (!found) throw weftError('WEFT-NODE-UNKNOWN', { node: reference });
  return found;
}

export function createNodeDirectory(store: Store, local: LocalStore, self: string): NodeDirectory {
  const nodes = new Map(local.list('cache/nodes/').map(({ value }) => {
    const entry = JSON.parse(value) as NodeEntry;
    return [entry.id, entry];
  }));
  const put = (value: string): void => {
    const entry = JSON.parse(value) as NodeEntry;
    nodes.set(entry.id, entry);
    local.put(`cache/nodes/${entry.id}`, value);
  };
  const forgetAll = (ids: readonly string[]): boolean => {
    const gone = ids.filter((id) => nodes.delete(id));
    for (const id of gone) local.delete(`cache/nodes/${id}`);
    return gone.length > 0;
  };
  return {
    list: () => [...nodes.values()],
    has: (id) => nodes.has(id),
    seeds: async () => [...nodes.values()].filter(({ id }) => id !== self).map(({ address, gossipPort }) => ({ host: address, port: gossipPort })),
    announce: async (entry) => {
      const value = JSON.stringify(entry);
      if ((await store.get(`nodes/${entry.id}`))?.value !== value) await store.txn([], [{ put: `nodes/${entry.id}`, value }]);
    },
    follow: (onRemoved) => store.watch('nodes/', (event) => {
      if (event.type === 'put') return put(event.entry.value);
      let gone: string[];
      if (event.type === 'delete') {
        gone = [event.key.slice('nodes/'.length)];
      } else {
        const present = new Set(event.entries.map(({ key }) => key.slice('nodes/'.length)));
        gone = [...nodes.keys()].filter((id) => !present.has(id));
        for (const { value } of event.entries) put(value);
      }
      if (forgetAll(gone)) onRemoved();
    }),
  };
}
