/**
 * Soft state: who is where right now. Every record has one owner node, which alone writes it, and is ordered by
 * (epoch, sequence) of that owner. Records of a failed node are hidden and come back with it.
 */
export interface NodeInfo {
  /** Node id: 16 hex digits, unique and permanent. */
  id: string;
  name: string;
  /** 1…65534, unique in the cluster: gives the node's address (10.255.x.y by default) and the MAC of its end of weft-in. */
  number: number;
  /** Underlay address of its VXLAN tunnel end. */
  vtep: string;
  /** MTU that its route to the underlay carries. */
  underlayMtu: number;
  /** What gets through to the other nodes, as far as it knows; absent where that is no less. */
  pathMtu?: number | undefined;
  /** Prefixes it has routes to, with where they come from ('route via eth0', 'docker network bridge'): new subnets must not overlap them. */
  occupied: { prefix: string; by: string }[];
  /** Published ports it had to leave to a program of its host: 'tcp/8080'. */
  skippedPorts: string[];
  /** Version of the gossip keys that it has installed: what it can open. */
  gossipKeys?: number;
  /** How it is spoken to by WireGuard; absent where it has no encrypted network, or cannot. */
  wireguard?: WireguardPlace | undefined;
}

/** `publicKey`: Curve25519's, 32 bytes in base 64. `port`: UDP, at the node's tunnel end. */
export interface WireguardPlace { publicKey: string; port: number }

/** Where an endpoint is. Published as soon as Join is answered. `ip6`: its IPv6 address where it has both; `ip` is the one it has otherwise. */
export interface EndpointRecord { networkId: string; endpointId: string; ip: string; ip6?: string; mac: string }
/**
 * Names of an endpoint. Published only when its link has carrier. `ports`: what its container exposes, as 'tcp/80'; `unready`: its
 * health check has not passed, or does not any more, so that others of the same name are preferred; `records`: further DNS records by its labels.
 */
export interface NameRecord {
  networkId: string; networkName: string; endpointId: string; ip: string; ip6?: string; name: string; names: string[]; service: string; ports?: string[]; unready?: boolean;
  records?: { name: string; type: string; value: string }[];
}
/** Addresses of an endpoint or of names. */
export const addressesOf = ({ ip, ip6 }: { ip: string; ip6?: string }): string[] => (ip6 === undefined ? [ip] : [ip, ip6]);

/** One backend of a published port, with the addresses that it is reached at. `mode` host: published by its owner alone, on that address of it. */
export interface BackendRecord {
  networkId: string; endpointId: string; ip: string; ip6?: string; protocol: 'tcp' | 'udp' | 'sctp'; port: number; targetPort: number; service: string; mode: 'ingress' | 'host'; hostIp?: string;
}

/** Key of each record: 'self' for node, endpointId for endpoint and name, `${protocol}/${port}/${endpointId}` for backend (`${protocol}/${hostIp}:${port}/…` in mode host, an IPv6 one in brackets). */
export interface Tables { node: NodeInfo; endpoint: EndpointRecord; name: NameRecord; backend: BackendRecord }
export type TableName = keyof Tables;

/** As JSON. */
export const MAX_RECORD_BYTES = 64 << 10;

export interface StateRecord<T extends TableName> { table: T; key: string; /** Node id. */ owner: string; value: Tables[T] }

export type StateChange<T extends TableName> =
  | { type: 'put'; record: StateRecord<T>; previous: Tables[T] | undefined; /** Owned by this node. */ local: boolean }
  /** record: as it was before. */
  | { type: 'delete'; record: StateRecord<T>; local: boolean };

export interface SoftState {
  /** This node's id. */
  readonly self: string;
  /** Writes one of this node's records and sends it at once. Equal values are not sent again. Throws RangeError for a record of more than MAX_RECORD_BYTES. */
  publish<T extends TableName>(table: T, key: string, value: Tables[T]): void;
  withdraw(table: TableName, key: string): void;
  /** Visible records of all live nodes, this one's included. */
  list<T extends TableName>(table: T): StateRecord<T>[];
  /** The present records first (as puts, synchronously), then every change; of one network only, if one is given. Returns the way to stop. */
  watch<T extends TableName>(table: T, onChange: (change: StateChange<T>) => void, filter?: { networkId: string }): () => void;
  members(): { id: string; name: string; state: 'alive' | 'suspect' | 'dead' | 'left'; address: string }[];
}
