/** What follows from the carrier of an endpoint's link: its names are published, and its neighbours told of it. */
import type { Clock } from '../base/clock.ts';
import { errorText } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';
import { announce } from '../cnm/announce.ts';
import { watchCarrier } from '../drivers/carrier.ts';
import { bridgeEnd } from '../drivers/names.ts';
import type { Rtnl } from '../linux/types.ts';
import type { NodeEndpoints } from './endpoints.ts';
import type { Publisher } from './publisher.ts';

/** After an interface came up; neighbours that remember a former holder of its address are few. */
const ANNOUNCE_AFTER_MS = 50;

export interface CarriersOptions { endpoints: Pick<NodeEndpoints, 'get' | 'ofLink'>; publisher: Pick<Publisher, 'carrier'>; clock: Clock; log: Logger }

/** Of the links in one namespace, until it is stopped. */
export function followCarriers(rtnl: Rtnl, { endpoints, publisher, clock, log }: CarriersOptions): () => void {
  const announceQuietly = (endpointId: string): void => {
    const endpoint = endpoints.get(endpointId);
    if (!endpoint) return;
    try {
      announce(endpoint);
    } catch (error) {
      log.debug({ detail: errorText(error) }, 'an endpoint could not be announced: neighbours ask again by themselves');
    }
  };
  return watchCarrier(rtnl, (digits, up, isNew) => {
    const endpoint = endpoints.ofLink(bridgeEnd(digits));
    if (!endpoint) return;
    publisher.carrier(endpoint.id, up);
    // Not at once: Docker is about to ask for the endpoint, and the container's start waits for the answer.
    if (isNew) clock.setTimeout(() => announceQuietly(endpoint.id), ANNOUNCE_AFTER_MS);
  });
}
