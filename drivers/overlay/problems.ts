/** What is amiss with the ways to other nodes, in words. */
import { weftError } from '../../base/errors.ts';
import { nameOf, type Network } from '../../cnm/model.ts';
import type { NodeInfo, SoftState } from '../../cluster/state.ts';
import { isEncrypted } from '../options.ts';
import type { Encryption } from './encryption.ts';
import type { Mtus } from './mtu.ts';
import type { Peers } from './peers.ts';

/** Of a node whose underlay is of the other family. */
export const apartProblem = ({ name, vtep }: NodeInfo, self: NodeInfo): string => weftError('WEFT-UNDERLAY-FAMILY', { node: name, address: vtep, own: self.vtep }).message;

/** Of nodes, by number, at which only smaller packets arrive than is said. */
export const pathProblems = (found: ReadonlyMap<number, number>, self: NodeInfo, peers: readonly NodeInfo[], mtus: Pick<Mtus, 'tunnel' | 'overhead'>): string[] =>
  [...found].map(([number, size]) => weftError('WEFT-PATH-MTU', {
    from: self.name, to: peers.find((node) => node.number === number)?.name ?? String(number), passes: size + mtus.overhead(), said: mtus.tunnel() + mtus.overhead(), mtu: size,
  }).message);

export function encryptionProblems(networks: readonly Network[], encryption: Pick<Encryption, 'problem' | 'silent'>, peers: Peers, state: SoftState): string[] {
  const encrypted = networks.filter(isEncrypted);
  if (encrypted.length === 0) return [];
  const problem = encryption.problem();
  if (problem) return encrypted.map((network) => weftError('WEFT-ENCRYPTION', { network: nameOf(network), ...problem }).message);
  const dead = new Set(state.members().flatMap(({ id, state: condition }) => (condition === 'dead' ? [id] : [])));
  return encryption.silent().filter((id) => !dead.has(id)).map((id) => {
    const node = peers.get(id);
    return `node ${node?.name ?? id} does not answer by WireGuard: encrypted networks do not reach it; see that its UDP port ${node?.wireguard?.port} is open`;
  });
}
