/** `weft node`: the hosts of the cluster, and taking one out that is gone. */
import { weftError } from '../base/errors.ts';
import type { SoftState } from '../cluster/state.ts';
import type { Store } from '../store/store.ts';
import type { NodeAnswer } from './api.ts';
import type { GossipKeys } from './gossip-keys.ts';
import type { NodeDirectory } from './nodes.ts';

export interface NodeCommands {
  list(): NodeAnswer[];
  /** By id or name. Throws WEFT-NODE-UNKNOWN; WEFT-NODE-ALIVE where it answers and `force` is not given. */
  remove(reference: string, force: boolean): Promise<void>;
}

export function createNodeCommands({ self, store, state, directory, keys }: { self: string; store: Store; state: SoftState; directory: NodeDirectory; keys: GossipKeys }): NodeCommands {
  return {
    list: () => {
      const states = new Map(state.members().map((member) => [member.id, member.state]));
      return directory.list().map(({ id, name, number, address }) => ({ id, name, number, address, state: states.get(id) ?? 'dead', self: id === self })).sort((a, b) => a.number - b.number);
    },
    remove: async (reference, force) => {
      const node = directory.list().find(({ id, name }) => id === reference || name === reference);
      if (!node) throw weftError('WEFT-NODE-UNKNOWN', { node: reference });
      const seen = state.members().find((member) => member.id === node.id)?.state;
      if (node.id === self || ((seen === 'alive' || seen === 'suspect') && !force)) throw weftError('WEFT-NODE-ALIVE', { node: node.name });
      await store.txn([], [{ delete: `nodes/${node.id}` }, { delete: `node-numbers/${node.number}` }]);
      await keys.rotate(true);
    },
  };
}
