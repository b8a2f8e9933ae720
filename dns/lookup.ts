/**
 * Which record a name means in a sandbox, in Docker's order: the whole name on each network that the sandbox is on,
 * then split into name and network from the right ('a.b.c': 'a.b' on 'c', then 'a' on 'b.c'). Names of other networks
 * are never looked at.
 */
import { bytesToIp, parseIp4 } from '../base/ip.ts';
import type { Family } from '../base/prefix.ts';
import type { NamedAddresses, NamedService, NameSource } from './dns.ts';
import { TYPE } from './message.ts';

/** `name` as the user wrote it, `suffix` the same in lower case. */
export interface JoinedNetwork { id: string; name: string; suffix: string }

const REVERSE_ZONE = '.in-addr.arpa';
const REVERSE_ZONE_6 = '.ip6.arpa';

export const BOTH: readonly Family[] = [4, 6];
/** Types that are answered with addresses. */
export const FAMILIES_ASKED: Readonly<Record<number, readonly Family[]>> = { [TYPE.A]: [4], [TYPE.AAAA]: [6], [TYPE.ANY]: BOTH };

/** `groups`, where the nearest come first: how many in a row are equally near. */
export interface FoundAddresses { ips: readonly string[]; groups?: readonly number[] | undefined }

/**
 * Addresses of some families behind a lower-case name: those of the first network that has any. Empty where the name has
 * others only, undefined where nothing is known of it.
 */
export function findAddresses(names: NameSource, networks: readonly JoinedNetwork[], name: string, families: readonly Family[]): FoundAddresses | undefined {
  return findFirst(networks, name, (network, within): FoundAddresses | undefined => {
    const found = names.addresses(network.id, within);
    return found && ofFamilies(found, families);
  }, ({ ips }) => ips.length === 0);
}

export function ofFamilies(found: NamedAddresses, families: readonly Family[]): FoundAddresses {
  const [family] = families;
  if (families.length === 1) return { ips: found[family!], groups: found.groups?.[family!] };
  return { ips: families.flatMap((each) => found[each]), groups: found.groups && families.flatMap((each) => found.groups![each]) };
}

/** Where a port of those behind a name is reached: `target` is the name of one of them. Clients try those with the lowest priority first (RFC 2782). */
export interface ServiceTarget { target: string; port: number; priority: number; addresses: readonly string[] }

/** The highest priority that a record has room for. */
const FARTHEST = 0xffff;
const SERVICE = /^_(\d{1,5})\._(tcp|udp|sctp)\.(.+)$/;

/** '_80._tcp.api' (RFC 2782): who of 'api' listens on it, the nearest first. Empty where none does, undefined where nothing is known of the name. */
export function findServices(names: NameSource, networks: readonly JoinedNetwork[], serviceName: string): readonly ServiceTarget[] | undefined {
  const [, port, protocol, name] = SERVICE.exec(serviceName) ?? [];
  if (name === undefined) return undefined;
  const wanted = `${protocol}/${Number(port)}`;
  return findFirst(networks, name, (network, within) => names.services(network.id, within)?.filter(({ ports }) => ports.includes(wanted))
    .map(({ name: target, step = 0, addresses }: NamedService) => ({ target: `${target}.${network.name}`, port: Number(port), priority: Math.min(step, FARTHEST), addresses }))
    .sort((a, b) => a.priority - b.priority), (all) => all.length === 0);
}

/** What the first network has that is not empty, in Docker's order. */
function findFirst<T>(networks: readonly JoinedNetwork[], name: string, of: (network: JoinedNetwork, name: string) => T | undefined, isEmpty: (found: T) => boolean): T | undefined {
  let empty: T | undefined;
  for (const network of networks) {
    const found = of(network, name);
    if (found && !isEmpty(found)) return found;
    empty ??= found;
  }
  for (let dot = name.lastIndexOf('.'); dot > 0; dot = name.lastIndexOf('.', dot - 1)) {
    const suffix = name.slice(dot + 1);
    for (const network of networks) {
      if (network.suffix !== suffix) continue;
      const found = of(network, name.slice(0, dot));
      if (found && !isEmpty(found)) return found;
      empty ??= found;
    }
  }
  return empty;
}

/** '5.4.192.10.in-addr.arpa' → 'c1.web', where 10.192.4.5 is on one of the networks; the same of IPv6 (RFC 3596 §2.5). */
export function findName(names: NameSource, networks: readonly JoinedNetwork[], reverseName: string): string | undefined {
  const ip = addressIn(reverseName);
  if (ip === undefined) return undefined;
  for (const network of networks) {
    const name = names.nameOf(network.id, ip);
    if (name !== undefined) return `${name}.${network.name}`;
  }
  return undefined;
}

/** '5.4.192.10.in-addr.arpa' → '10.192.4.5'; undefined where it is no address's name. */
export const addressIn = (reverseName: string): string | undefined => (reverseName.endsWith(REVERSE_ZONE_6) ? reversed6(reverseName) : reversed4(reverseName));

function reversed4(name: string): string | undefined {
  if (!name.endsWith(REVERSE_ZONE)) return undefined;
  const ip = name.slice(0, -REVERSE_ZONE.length).split('.').reverse().join('.');
  return parseIp4(ip) === undefined ? undefined : ip;
}

function reversed6(name: string): string | undefined {
  const digits = name.slice(0, -REVERSE_ZONE_6.length);
  if (!/^[0-9a-f](\.[0-9a-f]){31}$/.test(digits)) return undefined;
  return bytesToIp(Buffer.from(digits.split('.').reverse().join(''), 'hex'));
}
