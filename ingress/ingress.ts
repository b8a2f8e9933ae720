import type { Endpoint, Network, PortMapping, Protocol } from '../cnm/model.ts';

/** Published ports, as the agent drives them. */
export interface Ingress {
  /**
   * Publishes an endpoint's ports: claims (protocol, port) → service in the store, reserves the port on this host and
   * announces the backend to every node. With a host address the port is this host's alone and needs no claim. Throws
   * WEFT-PORT-HELD, -HOST, -RANGE, -TWICE or -ADDRESS and then leaves nothing behind. Idempotent. Returns the ports with the
   * host ports that were chosen.
   */
  publish(network: Network, endpoint: Endpoint, service: string): Promise<PortMapping[]>;
  /** Withdraws the backend; open connections go on until they end. Idempotent. */
  revoke(endpointId: string): Promise<void>;
  /** For `weft ps`: what is published, where, and which nodes left a port out. */
  list(): PublishedPort[];
  repair(): Promise<{ what: string; error?: string }[]>;
  close(): Promise<void>;
}

/** A node that left a port out for one family only is in `skippedOn` as 'NAME for IPv6'. `mode` host: on one node only; `hostIp`: on that address of it ('' is all of them). */
export interface PublishedPort {
  protocol: Protocol; hostIp: string; port: number; service: string; mode: 'ingress' | 'host';
  backends: { endpointId: string; node: string; ip: string; ip6?: string; port: number }[];
  skippedOn: string[];
}
