/** The Container Network Model: networks, endpoints and sandboxes, as every part of Weft speaks of them. */

export interface Subnet {
  /** 'a.b.c.0/24' or 'fd00::/64' */
  subnet: string;
  /** Plain address; absent on a network without one. */
  gateway?: string;
  /** Sub-prefix from which addresses are handed out (docker's --ip-range). */
  range?: string;
  /** Name → plain address that is never handed out (docker's --aux-address). */
  aux?: Record<string, string>;
}

export interface Network {
  /** 64 hex digits, the same on every node. */
  id: string;
  name: string;
  driver: string;
  /** cluster: exists on every node. node: only on `node`. */
  scope: 'cluster' | 'node';
  node: string;
  /** Of both families. */
  subnets: Subnet[];
  /** Who hands out addresses on the node that created it; copies on other nodes always use weft. */
  ipam: 'weft' | 'docker';
  internal: boolean;
  /** Driver options as the user gave them. */
  options: Record<string, string>;
  labels: Record<string, string>;
  attachable: boolean;
  /** overlay: VXLAN network identifier. */
  vni?: number;
  /** ISO time. */
  createdAt: string;
}

/** As people know it: not every one has a name. */
export const nameOf = ({ id, name }: Pick<Network, 'id' | 'name'>): string => name || id.slice(0, 12);

export type Protocol = 'tcp' | 'udp' | 'sctp';

/**
 * A published port as asked for, and as it became: then without a range. `hostPort` 0: any that is free; with `hostPortEnd`:
 * the first free one from `hostPort` to `hostPortEnd`. `hostIp` '': every address.
 */
export interface PortMapping { protocol: Protocol; containerPort: number; hostPort: number; hostPortEnd?: number; hostIp: string }

export interface Endpoint {
  /** 64 hex digits. */
  id: string;
  networkId: string;
  /** 'ip/length'; absent on a network without IPv4 addresses. */
  address?: string;
  /** The same of IPv6. */
  addressIpv6?: string;
  /** As whose the address was claimed through the IPAM driver, by which Docker also releases it; absent: it is claimed as the endpoint's. */
  heldAs?: string;
  /** The same of the IPv6 address. */
  heldAsIpv6?: string;
  mac: string;
  ports: PortMapping[];
  options: Record<string, string>;
  /** Path of the network namespace it was joined to; absent until Join and after Leave. */
  sandbox?: string;
  /** ISO time. */
  createdAt: string;
}

/** What is known of the container (or sandbox) behind an endpoint, once it is known. */
export interface Workload {
  endpointId: string;
  /** 64 hex digits; absent for a sandbox without Docker. */
  containerId?: string;
  name: string;
  /** Every name it answers to on this network, `name` included. */
  names: string[];
  /** `weft.service` label, else compose project + service, else the name. */
  service: string;
  /** What it exposes: 'tcp/80'. */
  ports?: string[];
  /** It has a health check that has not passed yet, or does not any more. */
  unready?: boolean;
  /** Further DNS records by its labels. */
  records?: { name: string; type: string; value: string }[];
}

/** What Docker (or the native sandbox code) does with an endpoint's link. */
export interface JoinAnswer {
  /** Name of the link, in the host namespace, to be moved into the sandbox. */
  sourceName: string;
  /** It is renamed to this prefix and the first free number. */
  prefix: string;
  /** Plain address; absent on internal networks. */
  gateway?: string;
  /** The same of IPv6. */
  gatewayIpv6?: string;
  routes: { destination: string; nextHop?: string }[];
}
