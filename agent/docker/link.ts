/** Everything that follows from Docker's events: networks made equal, names learnt, what Docker forgot cleaned up. */
import { sleep, type Clock } from '../../base/clock.ts';
import { errorText } from '../../base/errors.ts';
import type { Logger } from '../../base/log.ts';
import type { Network } from '../../cnm/model.ts';
import type { DockerClient, DockerNetwork } from './client.ts';
import { watchDocker, type DockerEvent } from './events.ts';
import type { Memberships } from './memberships.ts';
import { PLUGIN_PREFIX } from './plugins.ts';
import type { Replicator } from './replicator.ts';
import type { Workloads } from './workloads.ts';

/** A prune tells of itself after it has removed the networks. */
const PRUNE_WAIT_MS = 1_500;

export interface DockerLinkOptions {
  docker: DockerClient;
  replicator: Replicator;
  workloads: Workloads;
  memberships: Memberships;
  removeForgotten(): Promise<void>;
  /** Docker answers: for the first time, or again. */
  onUp(): void;
  /** Why a network cannot be removed from the whole cluster now; undefined: it can. */
  inUse(network: Network): string | undefined;
  remove(network: Network): Promise<void>;
  /** Docker's networks of other drivers, whenever they changed. */
  onForeignNetworks(networks: DockerNetwork[]): void;
  clock: Clock;
  log: Logger;
}

export interface DockerLink {
  readonly up: boolean;
  readonly version: string | undefined;
  /** Docker deleted its copy of a cluster network: it goes everywhere, or is put back. */
  deleted(network: Network): void;
  /** Between the two. */
  undecided(weftId: string): boolean;
  /** Until it is certain of all of them: what is made now may have the name or the subnet of one that goes. */
  decided(): Promise<void>;
  close(): void;
}

export function startDockerLink(options: DockerLinkOptions): DockerLink {
  const { docker, replicator, workloads, memberships, clock, log } = options;
  let up = false;
  let version: string | undefined;
  let lastPrune = -Infinity;
  let closed = false;
  /** Networks whose copy Docker deleted a moment ago → the decision, which never rejects. */
  const undecided = new Map<string, Promise<void>>();

  const attempt = (what: string, run: () => Promise<unknown>): void =>
    void run().catch((error: unknown) => log.warn({ detail: errorText(error) }, what));

  const refreshForeign = async (): Promise<void> => options.onForeignNetworks((await docker.networks()).filter((network) => !network.Driver.startsWith(PLUGIN_PREFIX)));

  /** Containers that should run and could not be started at boot for want of us. */
  async function startMissed(): Promise<void> {
    for (const { Id, State } of await docker.containers({ all: true })) {
      if (State !== 'exited' && State !== 'created') continue;
      const { State: state, HostConfig, Name } = await docker.container(Id);
      if (!['always', 'unless-stopped'].includes(HostConfig.RestartPolicy.Name) || !/plugin "?weft|weft-(overlay|bridge|macvlan|ipvlan).*(not found|no such file)/i.test(state.Error)) continue;
      await docker.startContainer(Id);
      log.info({ container: Name.slice(1) }, 'started: its boot had failed only because weftd was not there');
    }
  }

  function onEvent({ Type, Action, Actor }: DockerEvent): void {
    if (Type === 'network') {
      if (Action === 'prune') lastPrune = clock.now();
      if (Action === 'connect' || Action === 'disconnect') {
        const container = Actor.Attributes['container'];
        if (container !== undefined) attempt('a container could not be looked at', () => workloads.inspect(container));
      } else if (Action === 'create' || Action === 'destroy' || Action === 'remove') {
        void replicator.reconcile(`Docker's ${Action} of network ${Actor.Attributes['name'] ?? ''}`);
        attempt('Docker\'s networks could not be listed', refreshForeign);
      }
    } else if (Action === 'start' || Action === 'rename' || Action.startsWith('health_status')) {
      attempt('a container could not be looked at', () => workloads.inspect(Actor.ID));
    } else if (Action === 'die') {
      memberships.inspected(Actor.ID, undefined);
    }
  }

  async function decide(network: Network): Promise<void> {
    const since = clock.now();
    await sleep(clock, PRUNE_WAIT_MS);
    if (closed) return;
    let reason = lastPrune >= since - PRUNE_WAIT_MS ? 'a prune on one host does not take the cluster\'s networks away' : options.inUse(network);
    if (reason === undefined) {
      await options.remove(network).catch((error: unknown) => {
        reason = 'it could not be removed';
        log.warn({ network: network.name, detail: errorText(error) }, 'a network could not be removed');
      });
    }
    undecided.delete(network.id);
    if (reason !== undefined) void replicator.reconcile(reason);
  }

  const watcher = watchDocker(docker, {
    onEvent, clock, log,
    onUp: () => {
      up = true;
      options.onUp();
      attempt('Docker could not be asked about itself', async () => {
        version = (await docker.info()).ServerVersion;
      });
      void replicator.reconcile('Docker answers');
      attempt('Docker\'s networks could not be listed', refreshForeign);
      attempt('the containers could not be looked at', () => workloads.resync());
      attempt('what Docker forgot could not be removed', options.removeForgotten);
      attempt('containers that missed weftd could not be started', startMissed);
    },
    onDown: () => {
      up = false;
      memberships.dockerAway();
    },
  });

  return {
    get up() { return up; },
    get version() { return version; },
    deleted: (network) => {
      if (!undecided.has(network.id)) undecided.set(network.id, decide(network));
    },
    undecided: (weftId) => undecided.has(weftId),
    decided: async () => void await Promise.all(undecided.values()),
    close: () => {
      closed = true;
      watcher.close();
    },
  };
}
