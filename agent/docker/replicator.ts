/**
 * Keeps Docker's list of networks equal to the cluster's: a network made on one node is made on this one through the
 * Docker API, with the same name, labels, options and subnets; one that is gone is removed. What Docker removed although
 * the cluster still has it (a prune, say) is put back, and said. Networks of this host alone are Docker's to keep: what it
 * has lost goes.
 */
import type { Clock, TimerHandle } from '../../base/clock.ts';
import { errorText, WeftError } from '../../base/errors.ts';
import type { Logger } from '../../base/log.ts';
import { familyOf } from '../../base/prefix.ts';
import type { Network } from '../../cnm/model.ts';
import type { NetworkLifecycle } from '../lifecycle.ts';
import type { NetworkRegistry } from '../networks.ts';
import type { DockerClient, DockerNetwork } from './client.ts';
import type { Copies } from './copies.ts';
import { WITHOUT_IPV4 } from './ipam-driver.ts';
import type { NetworkMap } from './network-map.ts';
import { PLUGIN_PREFIX } from './plugins.ts';

/** Docker lists a network a moment after we have made it. */
const BEING_MADE_MS = 10_000;
/** Docker lists a network no more a moment before it tells its driver of the deletion. */
const BEING_DELETED_MS = 2_000;
/** After a network that could not be made equal; twice as long after each further time. */
const RETRY_MS = 1_000;
const RETRY_AT_MOST_MS = 60_000;

export interface Replicator {
  /** Compares and mends; calls made while one runs are folded into one more run after it. */
  reconcile(reason: string): Promise<void>;
  /** Names that Docker uses here for something else, so that the network is missing on this node. */
  conflicts(): string[];
}

export interface ReplicatorOptions {
  docker: DockerClient;
  registry: NetworkRegistry;
  lifecycle: Pick<NetworkLifecycle, 'remove'>;
  clock: Clock;
  map: NetworkMap;
  copies: Copies;
  /** Docker deleted its copy a moment ago, and whether the network goes everywhere is not decided yet. */
  undecided(weftId: string): boolean;
  log: Logger;
}

export function createReplicator({ docker, registry, lifecycle, clock, map, copies, undecided, log }: ReplicatorOptions): Replicator {
  let running: Promise<void> | undefined;
  let again = false;
  let failures = 0;
  let retry: TimerHandle;
  /** Networks that Docker has no more without having said so → since when. */
  const missing = new Map<string, number>();
  let conflicting: ReadonlySet<string> = new Set<string>();

  /** One whose tie was lost with this node's own state; not one that Docker is just deleting. */
  function lookalike({ Name, Driver, IPAM }: DockerNetwork): Network | undefined {
    if (IPAM.Driver !== 'weft') return undefined;
    const original = copies.original(Driver.slice(PLUGIN_PREFIX.length), (IPAM.Config ?? []).map(({ Subnet = '' }) => Subnet));
    return original?.name === Name && !undecided(original.id) ? original : undefined;
  }

  async function adopt(network: DockerNetwork): Promise<void> {
    const id = map.weftId(network.Id) ?? lookalike(network)?.id;
    const known = id === undefined ? undefined : registry.get(id);
    if (known) {
      // Docker tells a plugin neither name nor labels at the creation: they are filled in here.
      if (known.name === '' && !await describe(known, network)) return;
      map.bind(network.Id, known.id);
    } else if (id === undefined) {
      log.warn({ network: network.Name }, 'Docker has a network that Weft does not know; remove it and create it again');
    } else {
      await docker.removeNetwork(network.Id);
      map.unbind(network.Id);
      log.info({ network: network.Name }, 'network removed from this host: the cluster has it no more');
    }
  }

  /** False when it is gone: another host was first with its name. */
  async function describe(known: Network, network: DockerNetwork): Promise<boolean> {
    try {
      await registry.describe(known.id, {
        name: network.Name, labels: network.Labels ?? {}, attachable: network.Attachable ?? false,
        ranges: new Map((network.IPAM.Config ?? []).flatMap(({ Subnet, IPRange }) => (Subnet && IPRange ? [[Subnet, IPRange] as const] : []))),
      });
      return true;
    } catch (error) {
      if (!(error instanceof WeftError && error.code === 'WEFT-NETWORK-EXISTS') || !await isIdle(network)) throw error;
    }
    // Its creation would have been refused, had Docker told the name.
    await docker.removeNetwork(network.Id);
    await lifecycle.remove(known.id);
    again = true;
    log.warn({ network: network.Name }, 'another host made a network of that name at the same instant: that one is the cluster\'s, and this host\'s, which nothing was on, is replaced by it');
    return false;
  }

  const isIdle = async ({ Id }: DockerNetwork): Promise<boolean> => Object.keys((await docker.network(Id)).Containers ?? {}).length === 0;

  async function provide(network: Network, present: readonly DockerNetwork[], reason: string, conflicts: Set<string>): Promise<void> {
    const dockerId = map.dockerId(network.id);
    if (present.some((each) => each.Id === dockerId)) return void missing.delete(network.id);
    if (dockerId !== undefined && isBeingDeleted(network.id, reason)) return;
    missing.delete(network.id);
    const namesake = present.find((each) => each.Name === network.name);
    if (namesake) {
      if (!conflicting.has(network.name)) log.warn({ network: network.name, driver: namesake.Driver }, 'this host has another network of that name: the cluster\'s cannot be used here until it is removed');
      conflicts.add(network.name);
      return;
    }
    if (dockerId !== undefined) map.unbind(dockerId);
    map.bind(await copies.make(network, () => docker.createNetwork(dockerCopy(network))), network.id);
    log.info({ network: network.name, reason }, dockerId === undefined ? 'network made on this host' : 'network put back on this host: the cluster still has it');
  }

  function isBeingDeleted(id: string, reason: string): boolean {
    const since = missing.get(id) ?? clock.now();
    if (!missing.has(id)) clock.setTimeout(() => void reconcile(reason), BEING_DELETED_MS);
    missing.set(id, since);
    // Half of it: the timer may be a little early.
    return clock.now() - since < BEING_DELETED_MS / 2;
  }

  /** A network of this host alone that Docker made and has no more: it lost its state, or deleted the network while weftd was away. */
  async function drop(network: Network, present: readonly DockerNetwork[]): Promise<void> {
    const dockerId = map.dockerId(network.id);
    const age = clock.wallNow() - Date.parse(network.createdAt);
    if (dockerId === undefined || present.some(({ Id }) => Id === dockerId) || age < BEING_MADE_MS) return;
    await lifecycle.remove(network.id);
    map.unbind(dockerId);
    log.info({ network: network.name }, 'network removed: Docker of this host has it no more');
  }

  /** True when all networks are as the cluster has them, but for conflicts. */
  async function pass(reason: string): Promise<boolean> {
    const present = await docker.networks();
    const conflicts = new Set<string>();
    let isDone = true;
    const steps = [
      ...present.filter((network) => network.Driver.startsWith(PLUGIN_PREFIX)).map((network) => () => adopt(network)),
      ...registry.list().filter(({ scope }) => scope === 'node').map((network) => () => drop(network, present)),
      ...registry.list().filter((network) => network.scope === 'cluster' && network.name !== '' && !undecided(network.id)).map((network) => () => provide(network, present, reason, conflicts)),
    ];
    for (const step of steps) {
      try {
        await step();
      } catch (error) {
        isDone = false;
        log.warn({ detail: errorText(error) }, 'a network could not be made equal to the cluster\'s; tried again');
      }
    }
    conflicting = conflicts;
    return isDone;
  }

  async function run(reason: string): Promise<void> {
    try {
      let isDone: boolean;
      do {
        again = false;
        isDone = await pass(reason);
      } while (again);
      clock.clearTimeout(retry);
      failures = isDone ? 0 : failures + 1;
      if (!isDone) retry = clock.setTimeout(() => void reconcile(reason), Math.min(RETRY_MS * 2 ** (failures - 1), RETRY_AT_MOST_MS));
    } catch (error) {
      log.debug({ detail: errorText(error) }, 'Docker does not answer; networks are compared when it does');
    } finally {
      running = undefined;
    }
  }

  function reconcile(reason: string): Promise<void> {
    if (running) again = true;
    return (running ??= run(reason));
  }

  return {
    reconcile,
    conflicts: () => [...conflicting],
  };
}

/** The body of POST /networks/create for this node's copy of a cluster network. */
export function dockerCopy(network: Network): Record<string, unknown> {
  const hasIpv4 = network.subnets.some(({ subnet }) => familyOf(subnet) === 4);
  return {
    Name: network.name,
    CheckDuplicate: true,
    Driver: `${PLUGIN_PREFIX}${network.driver}`,
    Internal: network.internal,
    EnableIPv4: hasIpv4,
    EnableIPv6: network.subnets.some(({ subnet }) => familyOf(subnet) === 6),
    Attachable: network.attachable,
    Labels: network.labels,
    Options: network.options,
    IPAM: {
      Driver: 'weft',
      // For engines before 28, which do not know EnableIPv4.
      ...(!hasIpv4 && { Options: { [WITHOUT_IPV4]: 'false' } }),
      Config: network.subnets.map(({ subnet, gateway, range, aux }) => ({
        Subnet: subnet,
        ...(gateway !== undefined && { Gateway: gateway }),
        ...(range !== undefined && { IPRange: range }),
        ...(aux !== undefined && { AuxiliaryAddresses: aux }),
      })),
    },
  };
}
