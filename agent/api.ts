/** What weftd answers on its control socket, and `weft` asks for. JSON over HTTP on a unix socket (0600). */
import type { Histogram, NameTrace } from '../dns/dns.ts';
import type { PublishedPort } from '../ingress/ingress.ts';
import type { IpamCalls } from './ipam-api.ts';
import type { ReachabilityReport } from './reachability.ts';

export interface StatusAnswer {
  node: { id: string; name: string; number: number; vtep: string; version: string };
  store: { description: string; healthy: boolean; /** While it is away: what does not work, and how many addresses are left. */ degraded?: string; /** Of the cluster's own: its members, and what the next loss means. */ quorum?: string };
  docker: { up: boolean; version?: string };
  members: { id: string; name: string; address: string; state: string }[];
  /** Networks whose data crosses the underlay unencrypted. */
  cleartext: string[];
  counts: { networks: number; endpoints: number; sandboxesWithNames: number };
  /** Those of which this node holds addresses. */
  pools: { subnet: string; blocks: number; used: number; resting: number; free: number }[];
  dns: Record<string, number>;
  /** How long each source of answers took. */
  dnsLatency: Record<string, Histogram>;
  /** Newest last. */
  repairs: { at: string; what: string; error?: string }[];
  problems: string[];
}

export interface NetworkAnswer {
  id: string; name: string; driver: string; scope: string; ipam: string; internal: boolean; attachable: boolean;
  /** ISO time. */
  created: string;
  /** Name of the node. */
  createdOn: string;
  subnets: { subnet: string; gateway?: string; range?: string; aux?: Record<string, string> }[];
  vni?: number; options: Record<string, string>; labels: Record<string, string>;
  /** Docker's own id of it on this node. */
  dockerId?: string;
  /** Nodes with endpoints on it, and the underlay addresses of their tunnel ends. */
  peers: { node: string; address: string }[];
  endpoints: { id: string; node: string; /** The first address; `ip6` the other one where it has both. */ ip: string; ip6?: string; mac: string; name?: string }[];
}

/** A subnet that is left open is chosen, one of each family: IPv4 unless it is switched off, IPv6 where it is switched on. Each gateway, range and `aux` address belongs to the subnet that contains it. */
export interface CreateNetworkRequest {
  name: string; driver: string; subnets?: string[]; gateways?: string[]; ranges?: string[]; aux?: Record<string, string>;
  ipv4?: boolean; ipv6?: boolean; internal?: boolean; options?: Record<string, string>; labels?: Record<string, string>;
}

/** Of a container or sandbox of this node. */
export interface ConnectRequest { name: string; address?: string; addressIpv6?: string; aliases?: string[] }

/** `kept`: no endpoints are known on them, and yet they may be in use. */
export interface PruneAnswer { unused: { id: string; name: string; subnets: string[] }[]; kept: { name: string; why: string }[] }

export interface PsAnswer {
  endpoints: { id: string; network: string; address: string | undefined; addressIpv6: string | undefined; name: string | undefined; service: string | undefined; joined: boolean }[];
  ports: PublishedPort[];
}

export interface AddSandboxRequest {
  name: string; network: string;
  /** Path of an existing network namespace; absent: one is made at /run/netns/NAME. */
  netns?: string;
  address?: string;
  addressIpv6?: string;
  aliases?: string[];
  /** '[[hostAddress:]hostPort[-last]:]containerPort[/protocol]' */
  ports?: string[];
  service?: string;
}

export interface NodeAnswer { id: string; name: string; number: number; address: string; state: string; self: boolean }

/** `expires`: milliseconds since the Unix epoch. */
export interface TokenAnswer { token: string; expires: number }

export interface SandboxAnswer { name: string; netns: string; network: string; address: string | undefined; addressIpv6: string | undefined; interface: string }

/** Everything that the store holds, at one revision. */
export interface BackupAnswer { node: string; store: string; revision: number; entries: { key: string; value: string }[] }

/** Of a network, or for all networks. */
export interface DnsRecordAnswer { name: string; type: string; value: string; /** Seconds. */ ttl?: number; network?: string }

export interface AddDnsRecordRequest { name: string; type: string; value: string; ttl?: number; network?: string }
export interface DnsRecordRequest { name: string; type?: string; value?: string; network?: string }

/** `from`: a container or a sandbox of this node. `type`: A when left out. */
export interface DnsLookupRequest { name: string; type?: string; from: string }

/** Whose queries are logged. */
export interface QueryLogAnswer { all: boolean; containers: string[] }

/** Where programs of the host may ask for names, and whether systemd-resolved asks there. */
export interface HostDnsAnswer { address?: string; resolved: boolean }

export interface DnsCalls {
  dnsRecords(): Promise<DnsRecordAnswer[]>;
  /** All that the name has of that type afterwards. */
  addDnsRecord(request: AddDnsRecordRequest): Promise<DnsRecordAnswer[]>;
  /** What was removed. */
  removeDnsRecord(request: DnsRecordRequest): Promise<DnsRecordAnswer[]>;
  /** Asks as that container would. */
  dnsLookup(request: DnsLookupRequest): Promise<NameTrace>;
  dnsLog(): Promise<QueryLogAnswer>;
  /** Without `from` for all; off for all is off for each. */
  setDnsLog(request: { on: boolean; from?: string }): Promise<QueryLogAnswer>;
  dnsHost(): Promise<HostDnsAnswer>;
  /** Until weftd's next start, when its configuration counts. Without an address at the default one. */
  setDnsHost(request: { on: boolean; address?: string }): Promise<HostDnsAnswer>;
}

export interface AgentApi extends IpamCalls, DnsCalls {
  status(): Promise<StatusAnswer>;
  backup(): Promise<BackupAnswer>;
  ps(): Promise<PsAnswer>;
  networks(): Promise<NetworkAnswer[]>;
  network(reference: string): Promise<NetworkAnswer>;
  createNetwork(request: CreateNetworkRequest): Promise<NetworkAnswer>;
  removeNetwork(reference: string): Promise<void>;
  connect(network: string, request: ConnectRequest): Promise<void>;
  disconnect(network: string, name: string): Promise<void>;
  /** Networks without endpoints on any node; with `remove` they are removed. */
  pruneNetworks(remove: boolean): Promise<PruneAnswer>;
  addSandbox(request: AddSandboxRequest): Promise<SandboxAnswer>;
  removeSandbox(name: string): Promise<void>;
  nodes(): Promise<NodeAnswer[]>;
  /** It gets a copy of the store. */
  promoteNode(reference: string): Promise<void>;
  removeNode(reference: string, force: boolean): Promise<void>;
  /** What a host joins with; with `rotate` earlier ones are refused from now on. */
  token(rotate: boolean): Promise<TokenAnswer>;
  /** Tries the ports between this node and others, or the one that is named. */
  probe(reference?: string): Promise<ReachabilityReport>;
  /** Gossip gets a new key, and each node a new pair for encrypted networks; resolves when the change has begun. */
  rotateKey(): Promise<void>;
}

export interface ErrorAnswer { code?: string; message: string }
