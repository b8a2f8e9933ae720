import type { Endpoints } from '../cnm/controller.ts';
import type { Endpoint } from '../cnm/model.ts';
import { bridgeEnd } from '../drivers/names.ts';
import type { LocalStore } from '../store/store.ts';

export interface NodeEndpoints extends Endpoints {
  /** The one whose bridge's end is called so. */
  ofLink(name: string): Endpoint | undefined;
}

/**
 * This node's endpoints, read from memory. What put and delete did outlives this process as soon as they return. A power cut may undo the last of
 * them, and takes all sandboxes: Docker then removes what it knows of, and what only we know of is found forgotten. Three fsyncs less at each start.
 */
export function createEndpoints(local: LocalStore): NodeEndpoints {
  const endpoints = new Map<string, Endpoint>();
  const byLink = new Map<string, Endpoint>();
  const remember = (endpoint: Endpoint): void => {
    endpoints.set(endpoint.id, endpoint);
    byLink.set(bridgeEnd(endpoint.id), endpoint);
  };
  for (const { value } of local.list('endpoints/')) remember(JSON.parse(value) as Endpoint);
  return {
    get: (id) => endpoints.get(id),
    ofLink: (name) => byLink.get(name),
    list: () => [...endpoints.values()],
    put: (endpoint) => {
      local.put(`endpoints/${endpoint.id}`, JSON.stringify(endpoint), { flush: false });
      remember(endpoint);
    },
    delete: (id) => {
      local.delete(`endpoints/${id}`, { flush: false });
      endpoints.delete(id);
      byLink.delete(bridgeEnd(id));
    },
  };
}
