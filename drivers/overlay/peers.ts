/** The other nodes, by soft state. */
import type { NodeInfo, SoftState } from '../../cluster/state.ts';

export interface Peers {
  list(): NodeInfo[];
  get(id: string): NodeInfo | undefined;
  /** Forgets nodes that are gone, and failed ones that the cluster has given up. */
  prune(): void;
  close(): void;
}

const asSeen = ({ vtep, number, underlayMtu, pathMtu, wireguard }: NodeInfo): string => [vtep, number, underlayMtu, pathMtu, wireguard?.publicKey, wireguard?.port].join(' ');

/**
 * A failed node stays a peer until it leaves or is given up: its containers may well be running on. One that was taken out of the cluster looks failed
 * as well, for it hears nobody any more: `belongs` tells it. `onChange` is told what matters to the data path.
 */
export function createPeers(state: SoftState, belongs: (id: string) => boolean, onChange: (id: string) => void): Peers {
  const nodes = new Map<string, NodeInfo>();
  const hasFailed = (id: string): boolean => belongs(id) && state.members().some((member) => member.id === id && member.state === 'dead');

  const close = state.watch('node', ({ type, local, record: { owner, value } }) => {
    if (local) return;
    const before = nodes.get(owner);
    if (type === 'put') {
      nodes.set(owner, value);
      if (before && asSeen(before) === asSeen(value)) return;
    } else {
      if (hasFailed(owner)) return;
      nodes.delete(owner);
    }
    onChange(owner);
  });

  return {
    list: () => [...nodes.values()],
    get: (id) => nodes.get(id),
    prune: () => {
      const visible = new Set(state.list('node').map(({ owner }) => owner));
      for (const id of nodes.keys()) {
        if (visible.has(id) || hasFailed(id)) continue;
        nodes.delete(id);
        onChange(id);
      }
    },
    close,
  };
}
