/** Published ports of this host's bridge networks: who has which, and the sockets that keep them. */
import { WeftError, weftError } from '../../base/errors.ts';
import { withoutLength } from '../../base/ip.ts';
import { withUndo } from '../../base/undo.ts';
import type { Endpoint, PortMapping } from '../../cnm/model.ts';
import { choiceOf, distinctPorts, hasNoChoice } from '../../cnm/ports.ts';
import { deleteFlows } from '../../linux/conntrack.ts';
import { reservePort, type Reservation } from '../../linux/port-reservation.ts';
import { KernelError, type Netns } from '../../linux/types.ts';
import type { PortRule } from './rules.ts';

export interface PublishedPorts {
  /** Throws WEFT-PORT-HOST, -RANGE, -TWICE, -ADDRESS, WEFT-FEATURE-MISSING. Returns the ports with the host ports that were chosen. Idempotent. */
  publish(endpoint: Endpoint): Promise<PortMapping[]>;
  /** As an earlier weftd published them. Returns whether all could be held again. */
  restore(endpoint: Endpoint, ports: PortMapping[]): boolean;
  has(endpointId: string): boolean;
  unpublish(endpointId: string): void;
  rules(): PortRule[];
  close(): void;
}

interface Published { ip: string; ports: PortMapping[]; reservations: Reservation[] }

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

  return {
    publish: (endpoint) => withUndo(async (undo) => {
      const known = published.get(endpoint.id);
      if (known) return known.ports;
      const entry: Published = { ip: withoutLength(endpoint.address ?? ''), ports: [], reservations: [] };
      undo.push(() => entry.reservations.forEach((reservation) => reservation.release()));
      for (const mapping of distinctPorts(endpoint.ports)) {
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
      const reservations = ports.flatMap(reserveAgain);
      published.set(endpoint.id, { ip: withoutLength(endpoint.address ?? ''), ports, reservations });
      return reservations.length === ports.length;
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
    rules: () => [...published.values()].flatMap(({ ip, ports }) =>
      ports.map(({ protocol, hostIp, hostPort, containerPort }) => ({ protocol, hostIp, hostPort, ip, port: containerPort }))),
    close: () => {
      for (const { reservations } of published.values()) for (const reservation of reservations) reservation.release();
    },
  };
}
