import type { LocalStore } from '../../store/store.ts';

/** Which of Docker's networks is which of ours; durable, since Docker repeats nothing after a restart. */
export interface NetworkMap {
  weftId(dockerId: string): string | undefined;
  dockerId(weftId: string): string | undefined;
  bind(dockerId: string, weftId: string): void;
  unbind(dockerId: string): void;
}

const PREFIX = 'docker/networks/';

export function createNetworkMap(local: LocalStore): NetworkMap {
  const byDocker = new Map(local.list(PREFIX).map(({ key, value }) => [key.slice(PREFIX.length), value]));
  return {
    weftId: (dockerId) => byDocker.get(dockerId),
    dockerId: (weftId) => [...byDocker].find(([, id]) => id === weftId)?.[0],
    bind: (dockerId, weftId) => {
      if (byDocker.get(dockerId) === weftId) return;
      local.put(PREFIX + dockerId, weftId);
      byDocker.set(dockerId, weftId);
    },
    unbind: (dockerId) => {
      local.delete(PREFIX + dockerId);
      byDocker.delete(dockerId);
    },
  };
}
