/** Who is on a network, on any node. */
import type { Endpoints } from '../cnm/controller.ts';
import type { Network } from '../cnm/model.ts';
import type { SoftState } from '../cluster/state.ts';

export interface NetworkUse {
  /** As '0123456789ab on NODE'. */
  endpointsOn(networkId: string): string[];
  /** Why a network cannot be removed from the whole cluster now; undefined: it can. */
  inUse(network: Network): string | undefined;
}

export interface NetworkUseOptions {
  node: { id: string; name: string };
  state: Pick<SoftState, 'list' | 'members'>;
  endpoints: Pick<Endpoints, 'list'>;
  nodeName(id: string): string;
}

export function createNetworkUse({ node, state, endpoints, nodeName }: NetworkUseOptions): NetworkUse {
  const endpointsOn = (networkId: string): string[] => [
    ...state.list('endpoint').filter(({ owner, value }) => owner !== node.id && value.networkId === networkId).map(({ key: endpoint, owner }) => `${endpoint.slice(0, 12)} on ${nodeName(owner)}`),
    ...endpoints.list().filter((endpoint) => endpoint.networkId === networkId).map((endpoint) => `${endpoint.id.slice(0, 12)} on ${node.name}`),
  ];
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
