/** This host's Docker, the parts of this folder wired: what it is asked, what it calls, and what follows from its events. */
import type { Clock } from '../../base/clock.ts';
import type { Logger } from '../../base/log.ts';
import type { Controller, Endpoints } from '../../cnm/controller.ts';
import type { PortClaims } from '../../ingress/claims.ts';
import type { AddressManager } from '../../ipam/ipam.ts';
import type { LocalStore } from '../../store/store.ts';
import type { Config } from '../config.ts';
import type { NetworkLifecycle } from '../lifecycle.ts';
import type { NetworkUse } from '../network-use.ts';
import type { NetworkRegistry } from '../networks.ts';
import type { OwnRecord } from '../own-record.ts';
import type { PublishedPorts } from '../published-ports.ts';
import type { Publisher } from '../publisher.ts';
import { createDockerClient, type DockerClient } from './client.ts';
import { createCopies } from './copies.ts';
import { createForgottenEndpoints } from './forgotten-endpoints.ts';
import { createIpamDriver } from './ipam-driver.ts';
import { startDockerLink, type DockerLink } from './link.ts';
import { createMemberships } from './memberships.ts';
import { createNetworkDriver } from './network-driver.ts';
import { createNetworkMap, type NetworkMap } from './network-map.ts';
import { servePlugins } from './plugins.ts';
import { createReplicator, type Replicator } from './replicator.ts';
import { createStarting } from './starting.ts';
import { createWorkloads } from './workloads.ts';

const FORGOTTEN_AFTER_MS = 30_000;
/** Docker answers for a network in milliseconds, and in its own boot not at all. */
const LIST_TIMEOUT_MS = 1_500;

export interface DockerOptions {
  config: Pick<Config, 'dockerSocket' | 'pluginDir'>;
  /** Id of this node. */
  node: string;
  local: LocalStore;
  registry: NetworkRegistry;
  lifecycle: NetworkLifecycle;
  inUse: NetworkUse['inUse'];
  controller: Controller;
  endpoints: Endpoints;
  /** Endpoints that are not Docker's. */
  isNative(endpointId: string): boolean;
  addresses: AddressManager;
  publisher: Publisher;
  ports: PublishedPorts;
  claims: PortClaims;
  own: OwnRecord;
  /** Whether a sandbox is on networks of Docker's own as well; undefined: Docker cannot be asked. */
  onElsewhere(path: string, elsewhere: boolean | undefined): void;
  clock: Clock;
  log: Logger;
}

export interface Docker {
  readonly client: DockerClient;
  readonly map: NetworkMap;
  readonly replicator: Replicator;
  isUp(): boolean;
  /** Until networks that it deleted a moment ago are removed, or are to be put back. */
  decided(): Promise<void>;
  /** Endpoints without a sandbox; by default those that are old enough not to be in the middle of a start. */
  removeForgotten(olderThanMs?: number): Promise<void>;
  /** Its calls are answered from then on. */
  serve(inherited: ReadonlyMap<string, number>): Promise<void>;
  /** Its events are followed from then on. `onUp`: it answers, for the first time or again. */
  follow(onUp: () => void): DockerLink;
  close(): Promise<void>;
}

export function createDocker(options: DockerOptions): Docker {
  const { config, node, local, registry, lifecycle, inUse, controller, endpoints, isNative, addresses, publisher, ports, claims, own, onElsewhere, clock, log } = options;
  let link: DockerLink | undefined;
  let plugins: { close(): Promise<void> } | undefined;
  const isUp = (): boolean => link?.up ?? false;
  const decided = async (): Promise<void> => link?.decided();

  const client = createDockerClient({ socketPath: config.dockerSocket, log });
  const map = createNetworkMap(local);
  const copies = createCopies(registry);
  const replicator = createReplicator({ docker: client, registry, lifecycle, clock, map, copies, log, undecided: (weftId) => link?.undecided(weftId) ?? false });
  const memberships = createMemberships({ isOurs: (dockerId) => map.weftId(dockerId) !== undefined, onElsewhere });
  const workloads = createWorkloads({ docker: client, onWorkload: publisher.workload, onInspected: memberships.inspected, log });
  const starting = createStarting({ workloads, isUp, publisher, claims, clock });

  async function listed(networkId: string): Promise<ReadonlySet<string> | undefined> {
    const dockerId = map.dockerId(networkId);
    try {
      return dockerId === undefined ? undefined : new Set(Object.values((await client.network(dockerId, { timeoutMs: LIST_TIMEOUT_MS })).Containers ?? {}).map(({ EndpointID }) => EndpointID));
    } catch {
      return undefined;
    }
  }
  const forgotten = createForgottenEndpoints({ endpoints, network: registry.get, controller, isNative, revoke: ports.revoke, listed, clock, log });
  const removeForgotten = (olderThanMs = FORGOTTEN_AFTER_MS): Promise<void> => forgotten.removeOld(olderThanMs);

  return {
    client,
    map,
    replicator,
    isUp,
    decided,
    removeForgotten,
    serve: async (inherited) => {
      plugins = await servePlugins({
        network: (driver) => createNetworkDriver({
          driver, node, controller, lifecycle, map, copies, endpoint: (id) => endpoints.get(id), forgotten, starting, ports, onDeleted: (network) => link?.deleted(network), decided, log,
        }),
        ipam: createIpamDriver({ addresses, registry, map, copies, forgotten, decided }),
        onActivate: forgotten.daemonStarted,
        config, inherited, clock, log,
      });
    },
    follow: (onUp) => {
      link = startDockerLink({
        docker: client, replicator, workloads, memberships, removeForgotten, onUp, inUse, clock, log,
        remove: (network) => lifecycle.remove(network.id),
        onForeignNetworks: own.tellForeignNetworks,
      });
      return link;
    },
    close: async () => {
      link?.close();
      await plugins?.close();
      client.close();
    },
  };
}
