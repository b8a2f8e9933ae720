/** The nodes that this one's containers and published ports have to do with: the ways to all others carry nothing but ours. */
import type { NodeInfo, SoftState } from '../../cluster/state.ts';

/** By number. */
export function nodesInTouch(state: Pick<SoftState, 'self' | 'list'>, peers: readonly NodeInfo[]): Set<number> {
  const backends = state.list('backend');
  // Any node may hand on what is for a published port, and is answered.
  if (backends.some(({ owner }) => owner === state.self)) return new Set(peers.map(({ number }) => number));
  const endpoints = state.list('endpoint');
  const networks = new Set(endpoints.filter(({ owner }) => owner === state.self).map(({ value }) => value.networkId));
  const owners = new Set([...backends, ...endpoints.filter(({ value }) => networks.has(value.networkId))].map(({ owner }) => owner));
  return new Set(peers.filter(({ id }) => owners.has(id)).map(({ number }) => number));
}
