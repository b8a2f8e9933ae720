/** The embedded resolver, as the agent drives it. */
import type { Family } from '../base/prefix.ts';
import type { Transport } from './forwarder.ts';
import type { Origin } from './origin.ts';
import type { TlsServer } from './tls-server.ts';

/** Name servers that are asked over TLS, in the order in which they are preferred; one at least. `ca`: a PEM file with the authorities that may vouch for them, instead of the well-known ones. */
export interface TlsUpstreams { servers: readonly TlsServer[]; ca?: string | undefined }

export interface SandboxNetwork {
  id: string;
  name: string;
  subnets: string[];
  /** The subnets are the LAN's: others have addresses and names there, which Docker's resolver knows by asking outside. */
  shared: boolean;
  internal: boolean;
  /** Asked about the outside for those on it, and nobody else then. Of several networks that have some, those of the first by name. */
  upstreams?: TlsUpstreams;
}

export interface SandboxNames {
  /** Path of the sandbox's network namespace; its identity. */
  path: string;
  /** The networks it is on: names of these, and of no other, are answered from records. */
  networks: SandboxNetwork[];
  /** Its own addresses on these, by which it is known where it asks this node itself. */
  addresses?: readonly string[];
  /** Whether it is on networks of Docker's own as well, whose names Docker alone knows; undefined: nobody knows, now. */
  elsewhere: boolean | undefined;
}

/** By family, without duplicates. `groups`, where the nearest come first: how many in a row are equally near. */
export type NamedAddresses = Readonly<Record<Family, readonly string[]>> & { readonly groups?: Readonly<Record<Family, readonly number[]>> };

/** Someone behind a name: their primary name, and what they listen on: 'tcp/80'. `step`, where the nearest come first: how near they are, the less the nearer. */
export interface NamedService { name: string; ports: readonly string[]; addresses: readonly string[]; step?: number }

/** The records that names are answered from, on all nodes; kept current by the agent. */
export interface NameSource {
  /** Another one after each change. */
  readonly version: number;
  /** Addresses behind a name on one network; undefined where nothing is known of it. Names compare case-insensitively. */
  addresses(networkId: string, name: string): NamedAddresses | undefined;
  /** Who has a name on one network, and what they listen on; undefined where nothing is known of it. Names compare as above. */
  services(networkId: string, name: string): readonly NamedService[] | undefined;
  /** The primary name behind an address on one network. */
  nameOf(networkId: string, ip: string): string | undefined;
}

/** What one source was asked and said, or why it was not asked. `ms`: how long that took. */
export interface TraceStep { source: Origin; ms?: number; detail: string }

/** An answer and the way to it. `answers`: 'name TTL type data'. `from` is left out where nobody had an answer. */
export interface NameTrace { name: string; type: string; rcode: string; answers: string[]; from?: Origin; ms: number; steps: TraceStep[] }

/** How many questions took how long, of one source. */
export interface Histogram {
  count: number;
  /** Milliseconds, of all together. */
  sum: number;
  /** How many took so many milliseconds at most (`le`), those of the buckets before included; those that took longer are in `count` alone. */
  buckets: { le: number; count: number }[];
}

/** `from`: undefined where nobody had an answer. `ms`: from the question's coming to its answer's going. */
export interface SeenQuery { name: string; type: number; transport: Transport; from: Origin | undefined; rcode: number; ms: number }

/** Who wants to hear of queries: of which sandboxes, by path, may change at any time. */
export interface QueryListener {
  wants(path: string): boolean;
  heard(path: string, query: SeenQuery): void;
}

/** `address`: where programs of the host may ask; undefined: nowhere. `resolved`: systemd-resolved asks there for them. */
export interface HostDnsState { address: string | undefined; resolved: boolean }

export interface HostDns {
  state(): HostDnsState;
  /** Answers at this address from now on, or nowhere. Rejects with WEFT-DNS-ADDRESS, and all is as it was. */
  change(address: string | undefined): Promise<HostDnsState>;
}

export interface Resolver {
  /** Hooks the resolver up in a sandbox, or tells it about changed networks. Idempotent; WEFT-SANDBOX-GONE when the namespace is not there. */
  attach(sandbox: SandboxNames): Promise<void>;
  /** Closes every socket held in the sandbox, so that its namespace can go. Idempotent. */
  detach(path: string): void;
  /** Paths hooked up now. */
  attached(): string[];
  /** Queries by outcome since start. */
  stats(): Record<string, number>;
  /** Names for programs of the host; undefined where it is left alone. */
  readonly host: HostDns | undefined;
  /** Why nobody is answered, where containers ask this node itself. */
  problem(): string | undefined;
  /** How long each source took since start. */
  latencies(): Record<Origin, Histogram>;
  /** Asks as the sandbox would. Rejects with WEFT-DNS-ABSENT where it is not hooked up, WEFT-RECORD-MALFORMED. */
  trace(path: string, name: string, type: string): Promise<NameTrace>;
  /** One at a time; undefined: nobody. Queries cost more while somebody listens. */
  listen(listener: QueryListener | undefined): void;
  close(): void;
}
