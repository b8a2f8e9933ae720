/** The embedded resolver, as the agent drives it. */
import type { Family } from '../base/prefix.ts';

export interface SandboxNetwork {
  id: string;
  name: string;
  subnets: string[];
  /** The subnets are the LAN's: others have addresses and names there, which Docker's resolver knows by asking outside. */
  shared: boolean;
  internal: boolean;
}

export interface SandboxNames {
  /** Path of the sandbox's network namespace; its identity. */
  path: string;
  /** The networks it is on: names of these, and of no other, are answered from records. */
  networks: SandboxNetwork[];
  /** Whether it is on networks of Docker's own as well, whose names Docker alone knows; undefined: nobody knows, now. */
  elsewhere: boolean | undefined;
}

/** By family, without duplicates. */
export type NamedAddresses = Readonly<Record<Family, readonly string[]>>;

/** Someone behind a name: their primary name, and what they listen on: 'tcp/80'. */
export interface NamedService { name: string; ports: readonly string[]; addresses: readonly string[] }

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

export interface Resolver {
  /** Hooks the resolver up in a sandbox, or tells it about changed networks. Idempotent; WEFT-SANDBOX-GONE when the namespace is not there. */
  attach(sandbox: SandboxNames): Promise<void>;
  /** Closes every socket held in the sandbox, so that its namespace can go. Idempotent. */
  detach(path: string): void;
  /** Paths hooked up now. */
  attached(): string[];
  /** Queries by outcome since start. */
  stats(): Record<string, number>;
  close(): void;
}
