/** Records that come before word of their owner does: news travels on several ways at once. Kept for a short while, and not many. */
import type { Clock } from '../base/clock.ts';
import type { Shipment } from './owner.ts';

const KEEP_MS = 10_000;
const MAX_SHIPMENTS = 256;

export interface EarlyShipments {
  keep(shipment: Shipment): void;
  /** What came of this owner, in the order in which it came. */
  take(owner: string): Shipment[];
}

export function createEarlyShipments(clock: Clock): EarlyShipments {
  let waiting: { at: number; shipment: Shipment }[] = [];
  return {
    keep: (shipment) => {
      waiting = waiting.filter(({ at }) => clock.now() - at < KEEP_MS).slice(1 - MAX_SHIPMENTS);
      waiting.push({ at: clock.now(), shipment });
    },
    take: (owner) => {
      const mine = waiting.filter(({ at, shipment }) => shipment.owner === owner && clock.now() - at < KEEP_MS);
      if (mine.length > 0) waiting = waiting.filter(({ shipment }) => shipment.owner !== owner);
      return mine.map(({ shipment }) => shipment);
    },
  };
}
