/** Whose an endpoint is while its container starts: by whatever can be known without waiting for the end of the start. */
import { sleep, type Clock } from '../../base/clock.ts';
import type { Endpoint, Workload } from '../../cnm/model.ts';
import type { PortClaims } from '../../ingress/claims.ts';
import type { Publisher } from '../publisher.ts';
import type { Workloads } from './workloads.ts';

/** What a container's start waits for Docker's word on who it is; in its own boot Docker answers nobody. */
const SERVICE_TIMEOUT_MS = 2_000;

/** What Docker is asked while it moves a link to its sandbox makes the move longer, by two milliseconds of twenty; names matter once that is over. */
const ASK_AFTER_MS = 30;

export interface Starting {
  /** Publishes name and labels of who has just joined, in a moment, if Docker says them. Never inspects. */
  introduce(endpointId: string, dockerNetworkId: string): Promise<void>;
  /** Whose backend it becomes. */
  service(endpoint: Endpoint, dockerNetworkId: string): Promise<string>;
}

export interface StartingOptions {
  workloads: Pick<Workloads, 'early'>;
  /** Whether Docker answers. */
  isUp(): boolean;
  publisher: Pick<Publisher, 'workload' | 'workloadOf'>;
  claims: Pick<PortClaims, 'held'>;
  clock: Clock;
}

export function createStarting({ workloads, isUp, publisher, claims, clock }: StartingOptions): Starting {
  async function workload(endpointId: string, dockerNetworkId: string): Promise<Workload | undefined> {
    const found = await workloads.early(endpointId, dockerNetworkId);
    // An inspection may have been faster, and knows aliases and ports as well.
    if (found && !publisher.workloadOf(endpointId)) publisher.workload(found);
    return found;
  }

  return {
    introduce: async (endpointId, dockerNetworkId) => {
      await sleep(clock, ASK_AFTER_MS);
      await workload(endpointId, dockerNetworkId);
    },
    service: async (endpoint, dockerNetworkId) => {
      const known = isUp() ? await Promise.race([workload(endpoint.id, dockerNetworkId).catch(() => undefined), sleep(clock, SERVICE_TIMEOUT_MS)]) : undefined;
      const held = endpoint.ports.map(({ protocol, hostPort }) => claims.held(protocol, hostPort)).find((service) => service !== undefined);
      return known?.service ?? held ?? endpoint.id.slice(0, 12);
    },
  };
}
