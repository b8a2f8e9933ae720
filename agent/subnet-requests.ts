/** The subnets of a network as a user asks for them: gateways, ranges and reserved addresses find their subnet by what contains them. */
import { weftError } from '../base/errors.ts';
import { canonicalIp, contains, covers, parsePrefix } from '../base/prefix.ts';
import type { Subnet } from '../cnm/model.ts';

export interface SubnetRequest { subnets?: string[]; gateways?: string[]; ranges?: string[]; aux?: Record<string, string> }

/**
 * As Docker reads `--subnet`, `--gateway`, `--ip-range` and `--aux-address`, each of which may be repeated; `chosen` are the
 * subnets, in the order of the request, once those that were left open are chosen. Throws WEFT-GATEWAY-OUTSIDE,
 * WEFT-RANGE-OUTSIDE, WEFT-ADDRESS-MALFORMED, WEFT-ADDRESS-OUTSIDE.
 */
export function requestedSubnets({ gateways = [], ranges = [], aux = {} }: SubnetRequest, chosen: readonly string[]): Subnet[] {
  const result = chosen.map((subnet): Subnet => ({ subnet }));
  const all = chosen.join(', ');
  const holding = (address: string): Subnet | undefined => result.find(({ subnet }) => contains(parsePrefix(subnet)!, address));
  for (const gateway of gateways) {
    const subnet = holding(gateway);
    if (!subnet || subnet.gateway !== undefined) throw weftError('WEFT-GATEWAY-OUTSIDE', { gateway, subnet: all });
    subnet.gateway = canonicalIp(gateway)!;
  }
  for (const range of ranges) {
    const prefix = parsePrefix(range);
    const subnet = prefix && result.find((each) => covers(parsePrefix(each.subnet)!, prefix));
    if (!subnet || subnet.range !== undefined) throw weftError('WEFT-RANGE-OUTSIDE', { range, subnet: all });
    subnet.range = range;
  }
  for (const [name, address] of Object.entries(aux)) {
    const canonical = canonicalIp(address);
    if (canonical === undefined) throw weftError('WEFT-ADDRESS-MALFORMED', { address });
    const subnet = holding(address);
    if (!subnet) throw weftError('WEFT-ADDRESS-OUTSIDE', { address, pool: all });
    subnet.aux = { ...subnet.aux, [name]: canonical };
  }
  return result;
}
