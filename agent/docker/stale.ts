/** Endpoints that Docker has forgotten: after a crash of its own, or of the host, it says nothing about the old ones. */
import type { Clock } from '../../base/clock.ts';
import { withoutLength } from '../../base/ip.ts';
import type { Logger } from '../../base/log.ts';
import type { Controller, Endpoints } from '../../cnm/controller.ts';
import { isNetns } from '../../linux/netns.ts';

export interface StaleOptions {
  endpoints: Pick<Endpoints, 'list'>;
  controller: Pick<Controller, 'deleteEndpoint'>;
  /** Endpoints that are not Docker's. */
  isNative(endpointId: string): boolean;
  revoke(endpointId: string): Promise<void>;
  clock: Clock;
  log: Logger;
}

/**
 * Removes those that are older than `olderThanMs` and have no sandbox. Younger ones may be between Join and their
 * sandbox's appearance, or between two calls of one start.
 */
export type RemoveStale = (olderThanMs: number) => Promise<void>;

export function createStaleRemoval({ endpoints, controller, isNative, revoke, clock, log }: StaleOptions): RemoveStale {
  /** Endpoint → when it was made, on the clock: the time of day may be set in the middle of a start. */
  const made = new Map<string, number>();
  let isFirst = true;

  function note(): void {
    const present = new Set<string>();
    for (const { id, createdAt } of endpoints.list()) {
      present.add(id);
      // Of what an earlier weftd has made, the time of day is all that is known.
      if (!made.has(id)) made.set(id, clock.now() - (isFirst ? Math.max(0, clock.wallNow() - Date.parse(createdAt)) : 0));
    }
    for (const id of made.keys()) if (!present.has(id)) made.delete(id);
    isFirst = false;
  }

  return async (olderThanMs) => {
    note();
    for (const endpoint of endpoints.list()) {
      if (clock.now() - (made.get(endpoint.id) ?? clock.now()) < olderThanMs || isNative(endpoint.id)) continue;
      if (endpoint.sandbox !== undefined && isNetns(endpoint.sandbox)) continue;
      log.info({ endpoint: endpoint.id.slice(0, 12) }, 'the sandbox of an endpoint is gone: removed');
      await revoke(endpoint.id);
      await controller.deleteEndpoint(endpoint.id, { forgotten: true });
    }
  };
}

/**
 * Docker deletes an endpoint before it releases its address. After it was killed it releases the addresses of before, as
 * soon as it starts, and says nothing of their endpoints.
 */
export async function removeReleasedEndpoints({ endpoints, controller, revoke, log }: Omit<StaleOptions, 'clock' | 'isNative'>, networkId: string, address: string): Promise<void> {
  for (const { id, networkId: on, address: ipv4, heldAs, addressIpv6, heldAsIpv6 } of endpoints.list()) {
    const held = [heldAs === undefined ? undefined : ipv4, heldAsIpv6 === undefined ? undefined : addressIpv6];
    if (on !== networkId || !held.some((each) => each !== undefined && withoutLength(each) === address)) continue;
    log.info({ endpoint: id.slice(0, 12) }, 'Docker released the address of an endpoint and forgot the endpoint: removed');
    await revoke(id);
    await controller.deleteEndpoint(id);
  }
}
