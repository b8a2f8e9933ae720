/**
 * Which containers are on networks of Docker's own as well: then Docker may know any name itself, and what leads outside is not ours alone to
 * say. It is Docker's inspection that counts, and not what is found in the container: interfaces there may be the container's own making.
 */
import type { ContainerInspect } from './client.ts';

export interface Memberships {
  /** What an inspection said; undefined: there was none, and nothing is known of that container from here on. */
  inspected(containerId: string, container: ContainerInspect | undefined): void;
  /** What it is asked for while we do not hear it, such as taking a container off a network, we shall not be told. */
  dockerAway(): void;
}

export interface MembershipsOptions {
  /** Of a network's id in Docker. */
  isOurs(dockerNetworkId: string): boolean;
  /** Of the sandbox at a path. undefined: nobody knows. */
  onElsewhere(path: string, elsewhere: boolean | undefined): void;
}

export function createMemberships({ isOurs, onElsewhere }: MembershipsOptions): Memberships {
  /** By container. */
  const known = new Map<string, { path: string; elsewhere: boolean }>();

  function forget(containerId: string): void {
    const entry = known.get(containerId);
    if (entry && known.delete(containerId)) onElsewhere(entry.path, undefined);
  }

  return {
    inspected: (containerId, container) => {
      const { SandboxKey: path = '', Networks = {} } = container?.NetworkSettings ?? {};
      if (path !== known.get(containerId)?.path) forget(containerId);
      // It does not run, or is in another container's sandbox.
      if (path === '') return;
      const elsewhere = Object.values(Networks).some(({ EndpointID, NetworkID }) => EndpointID !== '' && !isOurs(NetworkID));
      known.set(containerId, { path, elsewhere });
      onElsewhere(path, elsewhere);
    },
    dockerAway: () => {
      // Whoever is on our networks alone stays so until then: what would be lost by doubting it is every answer that is kept.
      for (const [containerId, { elsewhere }] of known) if (elsewhere) forget(containerId);
    },
  };
}
