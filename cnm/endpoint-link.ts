/** An endpoint's interface, among those of its sandbox. */
import type { Link, Rtnl } from '../linux/types.ts';
import type { Endpoint } from './model.ts';

/**
 * By its address: several may have one MAC, their parent's (ipvlan), which may change with that. By its MAC until it has an
 * address; one that has another is another endpoint's.
 */
export function endpointLink(inside: Rtnl, { mac, address, addressIpv6 }: Endpoint): Link | undefined {
  const addresses = inside.addresses();
  const index = addresses.find((each) => each.address === address || each.address === addressIpv6)?.index;
  const taken = new Set(addresses.filter((each) => !each.address.startsWith('fe80:')).map((each) => each.index));
  const links = inside.links();
  return links.find((link) => link.index === index) ?? links.find((link) => link.mac === mac && !taken.has(link.index));
}
