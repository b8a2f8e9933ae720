/** The ports that this node keeps from programs of its host, each on one address or on every one of a family. */
import { familyOf } from '../base/prefix.ts';
import type { Protocol } from '../cnm/model.ts';
import { portKey } from '../cnm/ports.ts';
import { EVERY_ADDRESS, reservePort, type Reservation } from '../linux/port-reservation.ts';
import { KernelError, type Netns } from '../linux/types.ts';

/** `address` 0.0.0.0 or ::, every one of that family. */
export interface HostPort { protocol: Protocol; address: string; port: number }

export interface HeldPorts {
  /** 'taken': by a program, or in the way of one that we hold; 'no-address': the host does not have it. Idempotent. */
  hold(wanted: HostPort): 'held' | 'taken' | 'no-address';
  /** The port of ours that is in the way of this one: every address of a family excludes each, and each all of them. */
  inTheWay(wanted: HostPort): HostPort | undefined;
  /** Gives up all others. */
  keepOnly(wanted: readonly HostPort[]): void;
}

export const isEveryAddress = (address: string): boolean => address === EVERY_ADDRESS[familyOf(address)];

export function createHeldPorts(host: Netns): HeldPorts {
  const held = new Map<string, HostPort & { reservation: Reservation }>();
  const keyOf = ({ protocol, address, port }: HostPort): string => portKey(protocol, address, port);

  return {
    hold: ({ protocol, address, port }) => {
      const key = keyOf({ protocol, address, port });
      if (held.has(key)) return 'held';
      try {
        const reservation = reservePort(host, protocol, port, address);
        if (reservation) held.set(key, { protocol, address, port, reservation });
        return reservation ? 'held' : 'taken';
      } catch (error) {
        if (error instanceof KernelError && error.code === 'EADDRNOTAVAIL') return 'no-address';
        throw error;
      }
    },
    inTheWay: ({ protocol, address, port }) => [...held.values()].find((other) =>
      other.protocol === protocol && other.port === port && familyOf(other.address) === familyOf(address) && (isEveryAddress(address) || isEveryAddress(other.address))),
    keepOnly: (wanted) => {
      const keys = new Set(wanted.map(keyOf));
      for (const [key, { reservation }] of held) {
        if (keys.has(key)) continue;
        reservation.release();
        held.delete(key);
      }
    },
  };
}
