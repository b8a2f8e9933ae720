import type { Endpoints } from '../cnm/controller.ts';
import type { Endpoint } from '../cnm/model.ts';
import type { LocalStore } from '../store/store.ts';

/** This node's endpoints: on disk before put returns, read from memory. */
export function createEndpoints(local: LocalStore): Endpoints {
  const endpoints = new Map(local.list('endpoints/').map(({ value }) => {
    const endpoint = JSON.parse(value) as Endpoint;
    return [endpoint.id, endpoint];
  }));
  return {
    get: (id) => endpoints.get(id),
    list: () => [...endpoints.values()],
    put: (endpoint) => {
      local.put(`endpoints/${endpoint.id}`, JSON.stringify(endpoint));
      endpoints.set(endpoint.id, endpoint);
    },
    delete: (id) => {
      local.delete(`endpoints/${id}`);
      endpoints.delete(id);
    },
  };
}
