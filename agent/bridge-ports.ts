/** Published ports of this node's bridge networks, for `weft ps`: other nodes know nothing of them. */
import { withoutLength } from '../base/ip.ts';
import type { Endpoints } from '../cnm/controller.ts';
import type { PortMapping } from '../cnm/model.ts';
import type { PublishedPort } from '../ingress/ingress.ts';
import type { LocalStore } from '../store/store.ts';
import type { Publisher } from './publisher.ts';

const PREFIX = 'bridge-ports/';

export interface BridgePortsOptions {
  local: LocalStore;
  endpoints: Endpoints;
  publisher: Publisher;
  /** This node's name. */
  node: string;
}

export function bridgePorts({ local, endpoints, publisher, node }: BridgePortsOptions): PublishedPort[] {
  return local.list(PREFIX).flatMap(({ key, value }) => {
    const endpointId = key.slice(PREFIX.length);
    const address = endpoints.get(endpointId)?.address;
    if (address === undefined) return [];
    const service = publisher.workloadOf(endpointId)?.service ?? endpointId.slice(0, 12);
    return (JSON.parse(value) as PortMapping[]).map(({ protocol, hostIp, hostPort, containerPort }): PublishedPort => ({
      protocol, hostIp, port: hostPort, service, mode: 'host', backends: [{ endpointId, node, ip: withoutLength(address), port: containerPort }], skippedOn: [],
    }));
  });
}
