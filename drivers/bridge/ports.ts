/** Published ports of this host's bridge networks: who has which, and the sockets that keep them. */
import { WeftError, weftError } from '../../base/errors.ts';
import { familyOf } from '../../base/prefix.ts';
import { withUndo } from '../../base/undo.ts';
import type { Endpoint, PortMapping } from '../../cnm/model.ts';
import { addressesOf, choiceOf, distinctPorts, hasNoChoice, targetsOf } from '../../cnm/ports.ts';
import { deleteFlows } from '../../linux/conntrack.ts';
import { EVERY_ADDRESS, reservePort, type Reservation } from '../../linux/port-reservation.ts';
import { KernelError, type Netns } from '../../linux/types.ts';
import type { BridgeSettings } from './options.ts';
import type { PortRule } from './rules.ts';

export interface PublishedPorts {
  /**
   * On every address of the host's where none is named, of the families that the endpoint has. Throws WEFT-PORT-HOST, -RANGE, -TWICE,
   * -ADDRESS, WEFT-FEATURE-MISSING. Returns the ports with the host ports that were chosen, or, where nothing is translated, with the endpoint's own. Idempotent.
   */
  publish(endpoint: Endpoint, settings: BridgeSettings): Promise<PortMapping[]>;
  /** As an earlier weftd published them. Returns whether all could be held again. */
  restore(endpoint: Endpoint, ports: PortMapping[], settings: BridgeSettings): boolean;
  has(endpointId: string): boolean;
  unpublish(endpointId: string): void;
  rules(): PortRule[];
  close(): void;
}

/** The host does not have the address, or has no IPv6 at all. */
const NO_ADDRESS: readonly string[] = ['EADDRNOTAVAIL', 'EAFNOSUPPORT'];

/** `translated`: those of the endpoint's addresses that the host's ports lead to. */
interface Published { ips: string[]; translated: string[]; ports: PortMapping[]; reservations: Reservation[] }

/** `apply` puts the rules into the kernel. */
export function createPublishedPorts(host: Netns, apply: () => void): PublishedPorts {
  const published = new Map<string, Published>();

  /** Where the port has to be the endpoint's alone, in the host. */
  const addressesFor = ({ hostIp }: PortMapping, targets: readonly string[]): string[] => (hostIp === '' ? targets.map((ip) => EVERY_ADDRESS[familyOf(ip)]) : [hostIp]);

  /** On all of the addresses, or on none: undefined when the port is taken. Throws WEFT-PORT-ADDRESS when the host has no such address. */
  function reserve({ protocol, hostPort }: PortMapping, addresses: readonly string[]): Reservation[] | undefined {
    const reservations: Reservation[] = [];
    const giveUp = (): void => reservations.forEach((reservation) => reservation.release());
    for (const address of addresses) {
      try {
        const reservation = reservePort(host, protocol, hostPort, address);
        if (!reservation) {
          giveUp();
          return undefined;
        }
        reservations.push(reservation);
      } catch (error) {
        giveUp();
        throw error instanceof KernelError && NO_ADDRESS.includes(error.code) ? weftError('WEFT-PORT-ADDRESS', { address }) : error;
      }
    }
    return reservations;
  }

  /** As reserve, where nobody waits for the reason. */
  function reserveAgain(port: PortMapping, addresses: readonly string[]): Reservation[] | undefined {
    try {
      return reserve(port, addresses);
    } catch (error) {
      if (error instanceof WeftError) return undefined;
      throw error;
    }
  }

  function hold(mapping: PortMapping, addresses: readonly string[]): { port: PortMapping; reservations: Reservation[] } {
    const { protocol, containerPort, hostIp } = mapping;
    const { first, last } = choiceOf(mapping);
    for (let hostPort = first; hostPort <= last; hostPort++) {
      const port = { protocol, containerPort, hostPort, hostIp };
      const reservations = reserve(port, addresses);
      if (reservations) return { port, reservations };
    }
    throw hasNoChoice(mapping) ? weftError('WEFT-PORT-HOST', { port: first, proto: protocol }) : weftError('WEFT-PORT-RANGE', { range: `${first}-${last}`, proto: protocol });
  }

  /**
   * A UDP flow keeps its way for as long as packets come: one that started before its port was published would never get
   * there, one to a container that went would never find its successor.
   */
  function forgetFlows({ ports, translated }: Published): void {
    for (const { protocol, hostPort } of ports) {
      if (protocol === 'udp') for (const family of new Set(translated.map(familyOf))) deleteFlows(host, { protocol, family, originalDestinationPort: hostPort });
    }
  }

  /** Where nothing is translated a port is open at the endpoint's own addresses, and no port of the host's is taken. */
  const direct = (ips: readonly string[], { mode }: BridgeSettings, { protocol, containerPort }: PortMapping): PortMapping[] =>
    ips.filter((ip) => mode[familyOf(ip)] === 'routed').map((hostIp) => ({ protocol, containerPort, hostPort: containerPort, hostIp }));

  return {
    publish: (endpoint, settings) => withUndo(async (undo) => {
      const known = published.get(endpoint.id);
      if (known) return known.ports;
      const entry: Published = { ...placesOf(endpoint, settings), ports: [], reservations: [] };
      undo.push(() => entry.reservations.forEach((reservation) => reservation.release()));
      const asked = endpoint.ports.map((port) => ({ ...port, hostIp: port.hostIp === '' ? settings.binding : port.hostIp }));
      for (const mapping of distinctPorts(asked)) {
        entry.ports.push(...direct(entry.ips, settings, mapping));
        const targets = translatedTo(mapping, entry);
        if (targets.length === 0) continue;
        const { port, reservations } = hold(mapping, addressesFor(mapping, targets));
        entry.ports.push(port);
        entry.reservations.push(...reservations);
      }
      published.set(endpoint.id, entry);
      undo.push(apply);
      undo.push(() => void published.delete(endpoint.id));
      apply();
      forgetFlows(entry);
      return entry.ports;
    }),
    restore: (endpoint, ports, settings) => {
      const { ips, translated } = placesOf(endpoint, settings);
      const ofHost = ports.filter(({ hostIp }) => !ips.includes(hostIp));
      const reservations = ofHost.map((port) => reserveAgain(port, addressesFor(port, translatedTo(port, { ips, translated }))));
      published.set(endpoint.id, { ips, translated, ports, reservations: reservations.flatMap((each) => each ?? []) });
      return reservations.every((each) => each !== undefined);
    },
    has: (endpointId) => published.has(endpointId),
    unpublish: (endpointId) => {
      const entry = published.get(endpointId);
      if (!entry) return;
      published.delete(endpointId);
      for (const reservation of entry.reservations) reservation.release();
      apply();
      forgetFlows(entry);
    },
    rules: () => [...published.values()].flatMap(({ ips, translated, ports }) => ports.flatMap((mapping): PortRule[] => {
      const { protocol, hostIp, hostPort, containerPort: port } = mapping;
      if (ips.includes(hostIp)) return [{ protocol, hostIp, hostPort: undefined, ip: hostIp, port }];
      return translatedTo(mapping, { ips, translated }).map((ip) => ({ protocol, hostIp, hostPort, ip, port }));
    })),
    close: () => {
      for (const { reservations } of published.values()) for (const reservation of reservations) reservation.release();
    },
  };
}

/** The addresses of an endpoint that a port of the host's leads to. */
const translatedTo = (port: PortMapping, { ips, translated }: Pick<Published, 'ips' | 'translated'>): string[] => targetsOf(port, ips).filter((ip) => translated.includes(ip));

function placesOf(endpoint: Endpoint, { mode }: BridgeSettings): Pick<Published, 'ips' | 'translated'> {
  const ips = addressesOf(endpoint);
  return { ips, translated: ips.filter((ip) => mode[familyOf(ip)] !== 'routed') };
}
