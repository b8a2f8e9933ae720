/** Endpoints that Docker has forgotten: after a crash of its own, or of the host, it says nothing about the old ones. */
import { withoutLength } from '../../base/ip.ts';
import type { Logger } from '../../base/log.ts';
import type { Controller, Endpoints } from '../../cnm/controller.ts';
import { isNetns } from '../../linux/netns.ts';

export interface StaleOptions {
  endpoints: Endpoints;
  controller: Controller;
  /** Endpoints that are not Docker's. */
  isNative(endpointId: string): boolean;
  revoke(endpointId: string): Promise<void>;
  log: Logger;
}

/** Younger ones may be between Join and their sandbox's appearance, or between two calls of one start. */
export async function removeStaleEndpoints({ endpoints, controller, isNative, revoke, log }: StaleOptions, olderThanMs: number): Promise<void> {
  for (const endpoint of endpoints.list()) {
    if (Date.now() - Date.parse(endpoint.createdAt) < olderThanMs || isNative(endpoint.id)) continue;
    if (endpoint.sandbox !== undefined && isNetns(endpoint.sandbox)) continue;
    log.info({ endpoint: endpoint.id.slice(0, 12) }, 'the sandbox of an endpoint is gone: removed');
    await revoke(endpoint.id);
    await controller.deleteEndpoint(endpoint.id, { forgotten: true });
  }
}

/**
 * Docker deletes an endpoint before it releases its address. After it was killed it releases the addresses of before, as
 * soon as it starts, and says nothing of their endpoints.
 */
export async function removeReleasedEndpoints({ endpoints, controller, revoke, log }: StaleOptions, networkId: string, address: string): Promise<void> {
  for (const { id, networkId: on, address: has, heldAs } of endpoints.list()) {
    if (on !== networkId || heldAs === undefined || has === undefined || withoutLength(has) !== address) continue;
    log.info({ endpoint: id.slice(0, 12) }, 'Docker released the address of an endpoint and forgot the endpoint: removed');
    await revoke(id);
    await controller.deleteEndpoint(id);
  }
}
