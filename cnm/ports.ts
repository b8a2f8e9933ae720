import { weftError } from '../base/errors.ts';
import { bytesToIp, hostPort, ipToBytes, withoutLength } from '../base/ip.ts';
import { familyOf } from '../base/prefix.ts';
import type { Endpoint, PortMapping } from './model.ts';

/** Where host ports are chosen from when the user leaves it to us (IANA's dynamic range, RFC 6335 §6). */
export const DYNAMIC_PORTS = { first: 49152, last: 65535 } as const;

/** How one published port is written: 'tcp/8080', or 'tcp/192.0.2.1:8080', 'tcp/[2001:db8::1]:8080' on one address of the host. */
export const portKey = (protocol: string, hostIp: string, port: number): string => `${protocol}/${hostIp === '' ? port : hostPort(hostIp, port)}`;

/** The IPv4 address first. */
export const addressesOf = ({ address, addressIpv6 }: Pick<Endpoint, 'address' | 'addressIpv6'>): string[] => [address, addressIpv6].flatMap((each) => (each === undefined ? [] : [withoutLength(each)]));

/** The endpoint's addresses that a port leads to: nothing is translated from one family to the other. Throws WEFT-FEATURE-MISSING where there is none, and for ::1. */
export function targetsOf({ hostIp }: PortMapping, addresses: readonly string[]): string[] {
  if (hostIp === '::1') throw weftError('WEFT-FEATURE-MISSING', { feature: 'publishing on ::1, from where the kernel routes nothing to a container', hint: 'publish on 127.0.0.1' });
  const targets = addresses.filter((ip) => hostIp === '' || familyOf(ip) === familyOf(hostIp));
  if (targets.length > 0) return targets;
  const family = familyOf(hostIp);
  throw weftError('WEFT-FEATURE-MISSING', { feature: `publishing on ${hostIp} a port of a container without an IPv${family} address`, hint: `put the container on a network with IPv${family}, or publish on an IPv${family === 4 ? 6 : 4} address` });
}

/**
 * What an endpoint asks for, as it is to be published: every address of the host, of both families, is written '', and what is asked for twice
 * is there once (some engines name each port once for each family). Ports that leave no choice come first, then ranges,
 * then those left to us, so that a choice never takes what another one has to have. Throws WEFT-PORT-TWICE.
 */
export function distinctPorts(ports: readonly PortMapping[]): PortMapping[] {
  const mappings = ports.map((port) => ({ ...port, hostIp: withoutWildcard(port.hostIp) }));
  const distinct = [...new Map(mappings.map((port) => [`${port.protocol} ${port.hostIp} ${port.hostPort} ${port.hostPortEnd} ${port.containerPort}`, port])).values()];
  const fixed = new Map<string, PortMapping>();
  for (const port of distinct.filter(hasNoChoice)) {
    const key = portKey(port.protocol, port.hostIp, port.hostPort);
    const other = fixed.get(key);
    if (other) throw weftError('WEFT-PORT-TWICE', { port: port.hostPort, proto: port.protocol, first: other.containerPort, second: port.containerPort });
    fixed.set(key, port);
  }
  const freedom = (port: PortMapping): number => (hasNoChoice(port) ? 0 : port.hostPort === 0 ? 2 : 1);
  return distinct.sort((a, b) => freedom(a) - freedom(b));
}

function withoutWildcard(hostIp: string): string {
  const ip = hostIp.includes(':') ? bytesToIp(ipToBytes(hostIp)) : hostIp;
  return ip === '0.0.0.0' || ip === '::' ? '' : ip;
}

export const hasNoChoice = ({ hostPort, hostPortEnd }: PortMapping): boolean => hostPort !== 0 && (hostPortEnd ?? hostPort) <= hostPort;

/** The ports that will do, as first and last. */
export const choiceOf = ({ hostPort, hostPortEnd }: PortMapping): { first: number; last: number } =>
  (hostPort === 0 ? DYNAMIC_PORTS : { first: hostPort, last: hostPortEnd ?? hostPort });
