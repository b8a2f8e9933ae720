/**
 * Learns who is behind an endpoint. Docker tells a plugin only ids; the container's name and labels can be asked for
 * without waiting (networks and the list of containers answer even during a start), its aliases only by inspecting it,
 * which blocks until the start is over and is therefore never awaited by a handler.
 */
import { errorText } from '../../base/errors.ts';
import type { Logger } from '../../base/log.ts';
import type { Workload } from '../../cnm/model.ts';
import { createSerializer } from '../../cnm/serialize.ts';
import type { ContainerInspect, DockerClient } from './client.ts';
import { dnsLabels } from './dns-labels.ts';
import { serviceName } from './service-name.ts';

const SHORT_ID = 12;

export interface Workloads {
  /** Who joined: name, labels and short id at once. undefined when Docker does not say. */
  early(endpointId: string, dockerNetworkId: string): Promise<Workload | undefined>;
  /** Everything about one container, for each of its endpoints. */
  inspect(containerId: string): Promise<void>;
  /** Every running container: after weftd or dockerd was away. */
  resync(): Promise<void>;
}

export interface WorkloadsOptions {
  docker: DockerClient;
  onWorkload(workload: Workload): void;
  /** undefined: it could not be inspected. */
  onInspected(containerId: string, container: ContainerInspect | undefined): void;
  log: Logger;
}

export function createWorkloads({ docker, onWorkload, onInspected, log }: WorkloadsOptions): Workloads {
  /** One at a time of each container: an answer that overtook another one would make what was before last. */
  const serialize = createSerializer();
  const inspect = (containerId: string): Promise<void> => serialize(containerId, () => inspectOnce(containerId));

  async function inspectOnce(containerId: string): Promise<void> {
    let container: ContainerInspect;
    try {
      container = await docker.container(containerId);
    } catch (error) {
      log.debug({ container: containerId.slice(0, SHORT_ID), detail: errorText(error) }, 'a container could not be inspected');
      onInspected(containerId, undefined);
      return;
    }
    onInspected(containerId, container);
    for (const problem of dnsLabels(container.Config.Labels ?? {}).problems) log.warn({ container: container.Name.slice(1), detail: problem }, 'a label is passed over');
    for (const workload of workloadsOf(container)) onWorkload(workload);
  }

  return {
    early: async (endpointId, dockerNetworkId) => {
      const network = await docker.network(dockerNetworkId);
      const entry = Object.values(network.Containers ?? {}).find((each) => each.EndpointID === endpointId);
      if (!entry) return undefined;
      const container = (await docker.containers({ all: true, name: entry.Name })).find((each) => each.Names.includes(`/${entry.Name}`));
      const labels = container?.Labels ?? {};
      const composeService = labels['com.docker.compose.service'];
      const { names, records } = dnsLabels(labels);
      return {
        endpointId,
        ...(container && { containerId: container.Id }),
        name: entry.Name,
        names: unique([entry.Name, composeService, container?.Id.slice(0, SHORT_ID), ...names]),
        service: serviceName(labels, entry.Name),
        ...(records.length > 0 && { records }),
      };
    },
    inspect,
    resync: async () => {
      for (const container of await docker.containers({ all: false })) await inspect(container.Id);
    },
  };
}

const unique = (names: readonly (string | undefined)[]): string[] => [...new Set(names.filter((name) => name !== undefined && name !== ''))] as string[];

/** Engines up to 24 put short id and hostname among the aliases; later ones list every name in DNSNames. */
export function workloadsOf(container: ContainerInspect): Workload[] {
  const name = container.Name.replace(/^\//, '');
  const ports = Object.keys(container.Config.ExposedPorts ?? {}).map(asPort).sort();
  const health = container.State.Health?.Status ?? 'none';
  const labelled = dnsLabels(container.Config.Labels ?? {});
  return Object.values(container.NetworkSettings.Networks).filter((each) => each.EndpointID).map((each) => ({
    endpointId: each.EndpointID,
    containerId: container.Id,
    name,
    names: unique([name, ...(each.Aliases ?? []), ...(each.DNSNames ?? []), container.Id.slice(0, SHORT_ID), ...labelled.names]),
    service: serviceName(container.Config.Labels ?? {}, name),
    ...(ports.length > 0 && { ports }),
    ...(labelled.records.length > 0 && { records: labelled.records }),
    ...(health !== 'none' && health !== 'healthy' && { unready: true }),
  }));
}

/** '80/tcp' → 'tcp/80' */
const asPort = (exposed: string): string => exposed.split('/').reverse().join('/');
