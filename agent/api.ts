/** What weftd answers on its control socket, and `weft` asks for. JSON over HTTP on a unix socket (0600). */
import type { PublishedPort } from '../ingress/ingress.ts';
import type { IpamCalls } from './ipam-api.ts';

export interface StatusAnswer {
  node: { id: string; name: string; number: number; vtep: string; version: string };
  store: { description: string; healthy: boolean; /** Of the cluster's own: its members, and what the next loss means. */ quorum?: string };
  docker: { up: boolean; version?: string };
  members: { id: string; name: string; address: string; state: string }[];
  counts: { networks: number; endpoints: number; sandboxesWithNames: number };
  pools: { subnet: string; blocks: number; used: number; free: number }[];
  dns: Record<string, number>;
  /** Newest last. */
  repairs: { at: string; what: string; error?: string }[];
  problems: string[];
}

export interface NetworkAnswer {
  id: string; name: string; driver: string; scope: string; subnets: { subnet: string; gateway?: string; range?: string }[];
  ipam: string; internal: boolean; vni?: number; options: Record<string, string>; labels: Record<string, string>;
  endpoints: { id: string; node: string; ip: string; name?: string }[];
}

export interface CreateNetworkRequest {
  name: string; driver: string; subnet?: string; gateway?: string; range?: string; aux?: Record<string, string>;
  internal?: boolean; options?: Record<string, string>; labels?: Record<string, string>;
}

export interface PsAnswer {
  endpoints: { id: string; network: string; address: string | undefined; name: string | undefined; service: string | undefined; joined: boolean }[];
  ports: PublishedPort[];
}

export interface AddSandboxRequest {
  name: string; network: string;
  /** Path of an existing network namespace; absent: one is made at /run/netns/NAME. */
  netns?: string;
  address?: string;
  aliases?: string[];
  /** '[hostPort:]containerPort[/protocol]' */
  ports?: string[];
  service?: string;
}

export interface NodeAnswer { id: string; name: string; number: number; address: string; state: string; self: boolean }

/** `expires`: milliseconds since the Unix epoch. */
export interface TokenAnswer { token: string; expires: number }

export interface SandboxAnswer { name: string; netns: string; network: string; address: string | undefined; interface: string }

/** Everything that the store holds, at one revision. */
export interface BackupAnswer { node: string; store: string; revision: number; entries: { key: string; value: string }[] }

export interface AgentApi extends IpamCalls {
  status(): Promise<StatusAnswer>;
  backup(): Promise<BackupAnswer>;
  ps(): Promise<PsAnswer>;
  networks(): Promise<NetworkAnswer[]>;
  network(reference: string): Promise<NetworkAnswer>;
  createNetwork(request: CreateNetworkRequest): Promise<NetworkAnswer>;
  removeNetwork(reference: string): Promise<void>;
  addSandbox(request: AddSandboxRequest): Promise<SandboxAnswer>;
  removeSandbox(name: string): Promise<void>;
  nodes(): Promise<NodeAnswer[]>;
  removeNode(reference: string, force: boolean): Promise<void>;
  /** What a host joins with; with `rotate` earlier ones are refused from now on. */
  token(rotate: boolean): Promise<TokenAnswer>;
  /** Gossip gets a new key; resolves when the change has begun. */
  rotateKey(): Promise<void>;
}

export interface ErrorAnswer { code?: string; message: string }
