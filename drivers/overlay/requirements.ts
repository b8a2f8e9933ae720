/** What a network needs of this host. */
import { weftError } from '../../base/errors.ts';
import { overlaps, parsePrefix } from '../../base/prefix.ts';
import { nameOf, type Network } from '../../cnm/model.ts';
import { isEncrypted } from '../options.ts';
import { SEALED_PREFIX } from './addressing.ts';
import type { Encryption } from './encryption.ts';

/** Throws WEFT-ENCRYPTION. */
export function requireEncryption(network: Network, encryption: Pick<Encryption, 'problem'>): void {
  const problem = isEncrypted(network) ? encryption.problem() : undefined;
  if (problem) throw weftError('WEFT-ENCRYPTION', { network: nameOf(network), ...problem });
}

/** Throws WEFT-SUBNET-OVERLAP. */
export function refuseSealedPrefix(network: Network): void {
  const bad = network.subnets.find(({ subnet }) => overlaps(parsePrefix(subnet)!, parsePrefix(SEALED_PREFIX)!));
  if (bad) throw weftError('WEFT-SUBNET-OVERLAP', { subnet: bad.subnet, other: `${SEALED_PREFIX}, which is inside of WireGuard links`, suggestion: '10.192.4.0/24' });
}
