/** `weft node`: the hosts of the cluster, and taking one out that is gone. */
import { sleep, type Clock } from '../base/clock.ts';
import { weftError } from '../base/errors.ts';
import { revocationOf } from '../cluster/identity/certificates.ts';
import { forgetJoinSecret } from '../cluster/identity/credentials.ts';
import type { SoftState } from '../cluster/state.ts';
import { releaseAllPorts } from '../ingress/claims.ts';
import type { Store } from '../store/store.ts';
import type { NodeAnswer } from './api.ts';
import type { GossipKeys } from './gossip-keys.ts';
import { findNode, type NodeDirectory, type NodeEntry } from './nodes.ts';

/** Each attempt that fails means that another certificate was entered or revoked. */
const ATTEMPTS = 64;
/** Connections to the store of a node that was taken out end so much later: by one of them it hears why. */
export const CUT_AFTER_MS = 500;
/** And those of every host's copy have ended by then. */
const CUT_EVERYWHERE_MS = 1_500;

export interface NodeCommands {
  list(): NodeAnswer[];
  /**
   * By id or name. Its certificates are refused from then on, and neither the gossip key nor the join token that it knew is
   * of use; ports that only it published are free for others. Throws WEFT-NODE-UNKNOWN; WEFT-NODE-ALIVE where it answers and `force` is not given; WEFT-STORE-QUORUM where it
   * holds the store alone.
   */
  remove(reference: string, force: boolean): Promise<void>;
}

export interface NodeCommandsOptions {
  self: string;
  store: Store;
  /** Whether the cluster's own store has its only vote on that node. */
  holdsStoreAlone(id: string): Promise<boolean>;
  state: SoftState;
  directory: NodeDirectory;
  keys: GossipKeys;
  clock: Clock;
}

export function createNodeCommands({ self, store, holdsStoreAlone, state, directory, keys, clock }: NodeCommandsOptions): NodeCommands {
  async function takeOut(node: NodeEntry): Promise<void> {
    for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
      const { compares, writes } = await revocationOf(store, node, clock.wallNow());
      if ((await store.txn(compares, [...writes, forgetJoinSecret, { delete: `nodes/${node.id}` }, { delete: `node-numbers/${node.number}` }])).succeeded) return;
    }
    throw weftError('WEFT-STORE-CONFLICT', { what: 'the list of certificates' });
  }

  return {
    list: () => {
      const states = new Map(state.members().map((member) => [member.id, member.state]));
      return directory.list().map(({ id, name, number, address }) => ({ id, name, number, address, state: states.get(id) ?? 'dead', self: id === self })).sort((a, b) => a.number - b.number);
    },
    remove: async (reference, force) => {
      const node = findNode(directory.list(), reference);
      const seen = state.members().find((member) => member.id === node.id)?.state;
      if (node.id === self || ((seen === 'alive' || seen === 'suspect') && !force)) throw weftError('WEFT-NODE-ALIVE', { node: node.name });
      if (await holdsStoreAlone(node.id)) throw weftError('WEFT-STORE-QUORUM', { detail: `${node.name} holds the only copy of the store` });
      await takeOut(node);
      await releaseAllPorts(store, node.id);
      // By a connection that it still has it would read the new one.
      await sleep(clock, CUT_EVERYWHERE_MS);
      await keys.rotate(true);
    },
  };
}
