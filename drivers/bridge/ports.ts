/** Published ports of this host's bridge networks: who has which, and the sockets that keep them. */
import { WeftError, weftError } from '../../base/errors.ts';
import { withoutLength } from '../../base/ip.ts';
import { familyOf } from '../../base/prefix.ts';
import { withUndo } from '../../base/undo.ts';
import type { Endpoint, PortMapping } from '../../cnm/model.ts';
import { choiceOf, distinctPorts, hasNoChoice } from '../../cnm/ports.ts';
import { deleteFlows } from '../../linux/conntrack.ts';
import { reservePort, type Reservation } from '../../linux/port-reservation.ts';
import { KernelError, type Netns } from '../../linux/types.ts';
import type { BridgeSettings } from './options.ts';
import type { PortRule } from './rules.ts';

export interface PublishedPorts {
  /**
   * Throws WEFT-PORT-HOST, -RANGE, -TWICE, -ADDRESS, WEFT-FEATURE-MISSING. Returns the ports with the host ports that were chosen,
   * or, where nothing is translated, with the endpoint's own. Idempotent.
   */
  publish(endpoint: Endpoint, settings: BridgeSettings): Promise<PortMapping[]>;
  /** As an earlier weftd published them. Returns whether all could be held again. */
  restore(endpoint: Endpoint, ports: PortMapping[]): boolean;
  has(endpointId: string): boolean;
  unpublish(endpointId: string): void;
  rules(): PortRule[];
  close(): void;
}

interface Published { ips: string[]; ports: PortMapping[]; reservations: Reservation[] }

/** `apply` puts the rules into the kernel. */
export function createPublishedPorts(host: Netns, apply: () => void): PublishedPorts {
  const published = new Map<string, Published>();

  /** undefined when the port is taken. Throws WEFT-PORT-ADDRESS when the host has no such address. */
  function reserve({ protocol, hostIp, hostPort }: PortMapping): Reservation | undefined {
    try {
      return reservePort(host, protocol, hostPort, hostIp || undefined);
    } catch (error) {
      if (error instanceof KernelError && error.code === 'EADDRNOTAVAIL') throw weftError('WEFT-PORT-ADDRESS', { address: hostIp });
      throw error;
    }
  }

  /** As reserve, where nobody waits for the reason. */
  function reserveAgain(port: PortMapping): Reservation[] {
    try {
      const reservation = reserve(port);
      return reservation ? [reservation] : [];
    } catch (error) {
      if (error instanceof WeftError) return [];
      throw error;
    }
  }

  function hold(mapping: PortMapping): { port: PortMapping; reservation: Reservation } {
    const { protocol, containerPort, hostIp } = mapping;
    const { first, last } = choiceOf(mapping);
    for (let hostPort = first; hostPort <= last; hostPort++) {
      const port = { protocol, containerPort, hostPort, hostIp };
      const reservation = reserve(port);
      if (reservation) return { port, reservation };
    }
    throw hasNoChoice(mapping) ? weftError('WEFT-PORT-HOST', { port: first, proto: protocol }) : weftError('WEFT-PORT-RANGE', { range: `${first}-${last}`, proto: protocol });
  }

  /**
   * A UDP flow keeps its way for as long as packets come: one that started before its port was published would never get
   * there, one to a container that went would never find its successor.
   */
  function forgetFlows(ports: readonly PortMapping[]): void {
    for (const { protocol, hostPort } of ports) if (protocol === 'udp') deleteFlows(host, { protocol, originalDestinationPort: hostPort });
  }

  /** Where nothing is translated a port is open at the endpoint's own addresses, and no port of the host's is taken. */
  const direct = (ips: readonly string[], { mode }: BridgeSettings, { protocol, containerPort }: PortMapping): PortMapping[] =>
    ips.filter((ip) => mode[familyOf(ip)] === 'routed').map((hostIp) => ({ protocol, containerPort, hostPort: containerPort, hostIp }));

  return {
    publish: (endpoint, settings) => withUndo(async (undo) => {
      const known = published.get(endpoint.id);
      if (known) return known.ports;
      const entry: Published = { ips: addressesOf(endpoint), ports: [], reservations: [] };
      undo.push(() => entry.reservations.forEach((reservation) => reservation.release()));
      const asked = endpoint.ports.map((port) => ({ ...port, hostIp: port.hostIp === '' ? settings.binding : port.hostIp }));
      for (const mapping of distinctPorts(asked)) {
        entry.ports.push(...direct(entry.ips, settings, mapping));
        if (endpoint.address === undefined || settings.mode[4] === 'routed') continue;
        if (mapping.hostIp.includes(':')) throw weftError('WEFT-FEATURE-MISSING', { feature: `publishing on the IPv6 address ${mapping.hostIp}`, hint: 'publish on an IPv4 address' });
        const { port, reservation } = hold(mapping);
        entry.ports.push(port);
        entry.reservations.push(reservation);
      }
      published.set(endpoint.id, entry);
      undo.push(apply);
      undo.push(() => void published.delete(endpoint.id));
      apply();
      forgetFlows(entry.ports);
      return entry.ports;
    }),
    restore: (endpoint, ports) => {
      const ips = addressesOf(endpoint);
      const ofHost = ports.filter(({ hostIp }) => !ips.includes(hostIp));
      const reservations = ofHost.flatMap(reserveAgain);
      published.set(endpoint.id, { ips, ports, reservations });
      return reservations.length === ofHost.length;
    },
    has: (endpointId) => published.has(endpointId),
    unpublish: (endpointId) => {
      const entry = published.get(endpointId);
      if (!entry) return;
      published.delete(endpointId);
      for (const reservation of entry.reservations) reservation.release();
      apply();
      forgetFlows(entry.ports);
    },
    rules: () => [...published.values()].flatMap(({ ips, ports }) => ports.map(({ protocol, hostIp, hostPort, containerPort }): PortRule => {
      const isDirect = ips.includes(hostIp);
      return { protocol, hostIp, hostPort: isDirect ? undefined : hostPort, ip: isDirect ? hostIp : ips[0]!, port: containerPort };
    })),
    close: () => {
      for (const { reservations } of published.values()) for (const reservation of reservations) reservation.release();
    },
  };
}

/** The IPv4 address first. */
const addressesOf = ({ address, addressIpv6 }: Endpoint): string[] => [address, addressIpv6].flatMap((each) => (each === undefined ? [] : [withoutLength(each)]));
