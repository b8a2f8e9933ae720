import type { PortMapping } from './model.ts';

/** Where host ports are chosen from when the user leaves it to us (IANA's dynamic range, RFC 6335 §6). */
export const DYNAMIC_PORTS = { first: 49152, last: 65535 } as const;

/** Every address of the host is written '', and what is asked for twice is there once: some engines name each port once for each family. */
export function distinctPorts(ports: readonly PortMapping[]): PortMapping[] {
  const mappings = ports.map((port) => ({ ...port, hostIp: port.hostIp === '0.0.0.0' || port.hostIp === '::' ? '' : port.hostIp }));
  return [...new Map(mappings.map((port) => [`${port.protocol} ${port.hostIp} ${port.hostPort} ${port.containerPort}`, port])).values()];
}
