/**
 * Which record a name means in a sandbox, in Docker's order: the whole name on each network that the sandbox is on,
 * then split into name and network from the right ('a.b.c': 'a.b' on 'c', then 'a' on 'b.c'). Names of other networks
 * are never looked at.
 */
import { parseIp4 } from '../base/ip.ts';
import type { NameSource } from './dns.ts';

/** `name` as the user wrote it, `suffix` the same in lower case. */
export interface JoinedNetwork { id: string; name: string; suffix: string }

const REVERSE_ZONE = '.in-addr.arpa';

/** Addresses behind a lower-case name; empty where nothing is known of it. */
export function findAddresses(names: NameSource, networks: readonly JoinedNetwork[], name: string): readonly string[] {
  for (const network of networks) {
    const ips = names.addresses(network.id, name);
    if (ips.length > 0) return ips;
  }
  for (let dot = name.lastIndexOf('.'); dot > 0; dot = name.lastIndexOf('.', dot - 1)) {
    const suffix = name.slice(dot + 1);
    for (const network of networks) {
      if (network.suffix !== suffix) continue;
      const ips = names.addresses(network.id, name.slice(0, dot));
      if (ips.length > 0) return ips;
    }
  }
  return [];
}

/** '5.4.192.10.in-addr.arpa' → 'c1.web', where 10.192.4.5 is on one of the networks. */
export function findName(names: NameSource, networks: readonly JoinedNetwork[], reverseName: string): string | undefined {
  if (!reverseName.endsWith(REVERSE_ZONE)) return undefined;
  const ip = reverseName.slice(0, -REVERSE_ZONE.length).split('.').reverse().join('.');
  if (parseIp4(ip) === undefined) return undefined;
  for (const network of networks) {
    const name = names.nameOf(network.id, ip);
    if (name !== undefined) return `${name}.${network.name}`;
  }
  return undefined;
}
