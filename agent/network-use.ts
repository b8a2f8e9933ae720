/** Who is on a network, on any node. */
import type { Endpoints } from '../cnm/controller.ts';
import type { Network } from '../cnm/model.ts';
import type { SoftState } from '../cluster/state.ts';

export interface NetworkUse {
  /** As 'NAME on NODE', with the beginning of its id where nobody knows its name. */
  endpointsOn(networkId: string): string[];
  /** Why a network cannot be removed from the whole cluster now; undefined: it can. */
  inUse(network: Network): string | undefined;
}

export interface NetworkUseOptions {
  node: { id: string; name: string };
  state: Pick<SoftState, 'list' | 'members'>;
  endpoints: Pick<Endpoints, 'list'>;
  nodeName(id: string): string;
  /** Of this node's endpoints: who is behind it. */
  nameOf(endpointId: string): string | undefined;
}

export function createNetworkUse({ node, state, endpoints, nodeName, nameOf }: NetworkUseOptions): NetworkUse {
  function endpointsOn(networkId: string): string[] {
    const elsewhere = state.list('endpoint').filter(({ owner, value }) => owner !== node.id && value.networkId === networkId);
    const names = new Map(elsewhere.length === 0 ? [] : state.list('name').map(({ key, value }) => [key, value.name]));
    return [
      ...elsewhere.map(({ key: endpoint, owner }) => `${names.get(endpoint) ?? endpoint.slice(0, 12)} on ${nodeName(owner)}`),
      ...endpoints.list().filter((endpoint) => endpoint.networkId === networkId).map(({ id }) => `${nameOf(id) ?? id.slice(0, 12)} on ${node.name}`),
    ];
  }
  return {
    endpointsOn,
    inUse: (network) => {
      const used = endpointsOn(network.id);
      if (used.length > 0) return `it has endpoints: ${used.join(', ')}`;
      const away = network.scope === 'cluster' ? state.members().find((member) => member.state === 'dead') : undefined;
      return away && `node ${away.name} does not answer and may have endpoints on it`;
    },
  };
}
