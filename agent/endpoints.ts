import type { Endpoints } from '../cnm/controller.ts';
import type { Endpoint } from '../cnm/model.ts';
import type { LocalStore } from '../store/store.ts';

/**
 * This node's endpoints, read from memory. What put and delete did outlives this process as soon as they return. A power cut may undo the last of
 * them, and takes all sandboxes: Docker then removes what it knows of, and what only we know of is found forgotten. Three fsyncs less at each start.
 */
export function createEndpoints(local: LocalStore): Endpoints {
  const endpoints = new Map(local.list('endpoints/').map(({ value }) => {
    const endpoint = JSON.parse(value) as Endpoint;
    return [endpoint.id, endpoint];
  }));
  return {
    get: (id) => endpoints.get(id),
    list: () => [...endpoints.values()],
    put: (endpoint) => {
      local.put(`endpoints/${endpoint.id}`, JSON.stringify(endpoint), { flush: false });
      endpoints.set(endpoint.id, endpoint);
    },
    delete: (id) => {
      local.delete(`endpoints/${id}`, { flush: false });
      endpoints.delete(id);
    },
  };
}
