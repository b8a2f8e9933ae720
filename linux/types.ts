/**
 * What the rest of Weft may ask of the kernel. Everything is per network namespace; addresses are text, MAC addresses
 * are lower-case with colons, sizes are bytes. Calls without a promise are synchronous netlink round trips (about 20 µs);
 * those that take the kernel 20–35 ms (deleting a link, moving one between namespaces) return promises and run off the
 * main loop. All of them throw KernelError.
 */
import { weftError } from '../base/errors.ts';
import type { Family } from '../base/prefix.ts';

/** An open network namespace. Closing it does not delete it. */
export interface Netns {
  /** Where it is mounted; undefined for the one this process was started in. */
  readonly path: string | undefined;
  readonly fd: number;
  /** Runs a synchronous function inside the namespace, on the main thread (3 µs). Never pass one that returns a promise. */
  run<T>(inside: () => T): T;
  close(): void;
}

export interface Link {
  index: number; name: string; kind: string | undefined; mac: string; mtu: number;
  up: boolean; carrier: boolean; master: number | undefined; group: number;
  /** vxlan only */
  vxlan?: { vni: number; port: number; local: string | undefined };
  /** Index of the link it stands on, or of a veth's peer, in the namespace where that one lives. */
  parent?: number;
  /** macvlan only */
  macvlan?: MacvlanMode;
  /** ipvlan only: of all that stand on the same link. */
  ipvlan?: { mode: IpvlanMode; flag: IpvlanFlag };
  /** 802.1Q only: the VLAN's id. */
  vlan?: number;
}

/** What a macvlan's siblings are to it (ip-link(8)). */
export type MacvlanMode = 'bridge' | 'private' | 'vepa' | 'passthru';

/** Which layer ipvlans forward by; l3s lets their packets pass the host's netfilter as well (kernel doc networking/ipvlan). */
export type IpvlanMode = 'l2' | 'l3' | 'l3s';
/** What an ipvlan's siblings are to it. */
export type IpvlanFlag = 'bridge' | 'private' | 'vepa';

/**
 * They go with their parent. The kernel refuses a macvlan or an ipvlan on a port of a bridge and on one that the other kind stands on (EBUSY), and
 * what it was not built with (EOPNOTSUPP). Mode and flag of an ipvlan become those of all that stand on its parent; their MAC address is the parent's.
 */
export type StackedLinkSpec = { parent: number } & (SharingLink | { kind: 'vlan'; vlan: number });
/** Of the kinds that share their parent's wire. */
export type SharingLink = { kind: 'macvlan'; mode: MacvlanMode } | { kind: 'ipvlan'; mode: IpvlanMode; flag: IpvlanFlag };

/** `multicastSnooping` is on by default: multicast goes only where somebody asked for it, as soon as somebody else asks who did. */
export interface BridgeSettings { ageingSeconds?: number; multicastSnooping?: boolean }

export type LinkSpec = { name: string; mtu?: number; mac?: string; master?: number; up?: boolean; group?: number } & (
  | ({ kind: 'bridge' } & BridgeSettings)
  /** The peer is born in `peer.netns` where given; its `up` and `master` (an index in that namespace) are applied afterwards. */
  | { kind: 'veth'; peer: { name: string; mtu?: number; mac?: string; netns?: Netns; master?: number; up?: boolean } }
  /**
   * Made on this namespace's socket, so its UDP socket stays here; the device is born in `netns` where given, and `master` is
   * an index there.
   * Learning is off; `proxy` answers ARP and ND from the neighbour table of the device.
   */
  | { kind: 'vxlan'; vni: number; local: string; port: number; proxy?: boolean; netns?: Netns }
  /** As with a vxlan, what is sealed leaves from this namespace, also where the link is born in `netns`. Keys and peers: linux/wireguard.ts. */
  | { kind: 'wireguard'; netns?: Netns }
  | StackedLinkSpec
  /** Both lose whatever is sent through them (an ifb unless tc redirects to it). */
  | { kind: 'dummy' | 'ifb' }
);

export interface Glance { index: number; up: boolean }

export interface LinkChange { name?: string; up?: boolean; mtu?: number; mac?: string; master?: number | null; group?: number }

/**
 * What is left out stays as it is. `flood` speaks of unknown unicast alone (bridge(8)), the other two of multicast and broadcast.
 * `locked`: only frames from addresses that are entered for the port come in (from Linux 5.18 on; ignored before).
 */
export interface BridgePort { learning?: boolean; neighSuppress?: boolean; hairpin?: boolean; isolated?: boolean; flood?: boolean; multicastFlood?: boolean; broadcastFlood?: boolean; locked?: boolean }

/**
 * An eBPF program that sees all that comes in by a link before anybody else does (tc(8), clsact and bpf in direct-action mode). `name` is how it is
 * known again: programs that differ have to have different ones.
 */
export interface IngressProgram { readonly name: string; readonly instructions: Buffer }
/** When it is asked, of all that look at what comes in: before others on links of ours, after all of them on the host's. */
export type Turn = 'first' | 'last';

/** Sizes in bytes: what may be sent at once, and what may wait. */
export interface TokenBucket { bytesPerSecond: number; burst: number; limit: number }

/** `address` is 'ip/length'. `protocol` says who made it (0: nobody says so). */
export interface Address { index: number; address: string; scope: number; protocol: number }

/** `dst` is a prefix; 'default' for the default route. `table` defaults to 254 (main). */
export interface Route {
  dst: string; via?: string; dev?: number; src?: string; table?: number; onlink?: boolean; scope?: 'link' | 'universe' | 'host';
  metric?: number; protocol?: number;
}

/** How a packet to an address would leave; mtu is that of the route, else of the link. */
export interface RouteAnswer { dev: number; src: string | undefined; via: string | undefined; mtu: number }

/** IPv4's unless `family` says otherwise. */
export interface Rule { family?: Family; priority: number; table: number; iif?: string; fwmark?: number; fwmask?: number }

/** ip → mac on a link (ARP, ND). Programmed as permanent. */
export interface Neighbour { dev: number; ip: string; mac: string }
/** mac → remote VTEP on a vxlan device, entered in the device's own table and, with `master`, in its bridge's. Programmed as static. */
export interface FdbEntry { dev: number; mac: string; vtep: string; master?: boolean }

/** rtnetlink in one namespace. */
export interface Rtnl {
  readonly netns: Netns;
  links(): Link[];
  link(nameOrIndex: string | number): Link | undefined;
  /** The little that can be read without waiting for rtnetlink's lock, as `link` may for tens of milliseconds. */
  glance(name: string): Glance | undefined;
  /** Returns the new link's index (for a link born in another namespace, its index there). */
  addLink(spec: LinkSpec): number;
  /** Whether the kernel has a kind of links, or a module of it that it can load. Makes nothing. */
  hasLinkKind(kind: StackedLinkSpec['kind']): boolean;
  setLink(index: number, change: LinkChange): void;
  /**
   * Sends what `work` changes of links, ports and their programs in one go, in order; what it reads meanwhile is as before. All are tried;
   * throws the KernelError of the first that failed.
   */
  together(work: () => void): void;
  setBridge(index: number, bridge: BridgeSettings): void;
  setBridgePort(index: number, port: BridgePort): void;
  /** The name of the link's program that has this turn, by default the first; undefined where there is none. */
  ingressProgram(index: number, turn?: Turn): string | undefined;
  /** In place of another one that has this turn. It stays when this process ends, and goes with the link. */
  setIngressProgram(index: number, program: IngressProgram, turn?: Turn): void;
  /** Missing is not an error. Who has been the link's last one leaves nothing behind. */
  deleteIngressProgram(index: number, turn: Turn): void;
  /** Of the bucket that is the link's queue, bytes per second; undefined where its queue is another one. */
  tokenBucketRate(index: number): number | undefined;
  /** What is sent by the link waits for its tokens. Replaces the queue that it has; goes with the link. */
  setTokenBucket(index: number, bucket: TokenBucket): void;
  hasIngressRedirect(index: number, to: number): boolean;
  /** What comes in by the link, and was let pass by its program, goes through the queue of the ifb `to` first. */
  setIngressRedirect(index: number, to: number): void;
  /** Deleting what is not there is not an error. Links that wait for their turn are deleted together. */
  deleteLink(nameOrIndex: string | number): Promise<void>;
  /** `to` must stay open until the promise is settled. The index may be another one there. */
  moveLink(index: number, to: Netns, rename?: string): Promise<void>;
  addresses(index?: number): Address[];
  /** Existing is not an error. `protocol`: ignored before Linux 5.18. */
  addAddress(index: number, address: string, protocol?: number): void;
  deleteAddress(index: number, address: string): void;
  routes(filter?: { table?: number; dev?: number }): Route[];
  /** Existing is replaced. */
  replaceRoutes(routes: readonly Route[]): void;
  /** Missing is not an error. What a route leaves out (via, dev, metric) is not compared. */
  deleteRoutes(routes: readonly Route[]): void;
  routeTo(ip: string): RouteAnswer | undefined;
  rules(): Rule[];
  addRule(rule: Rule): void;
  deleteRule(rule: Rule): void;
  /** The permanent ones: others are the kernel's own findings. */
  neighbours(index: number): Neighbour[];
  replaceNeighbours(entries: readonly Neighbour[]): void;
  deleteNeighbours(entries: readonly Neighbour[]): void;
  fdb(index: number): FdbEntry[];
  /** Replaces, never adds: an address that moves takes its entry along. One batch, one acknowledgement. */
  replaceFdb(entries: readonly FdbEntry[]): void;
  /** Missing is not an error; an entry whose address has another VTEP by now is left alone, in both tables. */
  deleteFdb(entries: readonly FdbEntry[]): void;
  /**
   * The same as without `large`, for tables that may have thousands of entries: read in pieces of 8 KiB, with turns of the event loop in between.
   * What changes meanwhile may be in it, twice in it, or not.
   */
  readonly large: { routes(filter: { table?: number; dev?: number }): Promise<Route[]>; neighbours(index: number): Promise<Neighbour[]>; fdb(index: number): Promise<Iterable<FdbEntry>> };
  /** Static entries of a bridge for a port of it: the addresses behind it, besides the port's own and what the bridge learnt. */
  portMacs(port: number): string[];
  /** Enters an address, also where it was another port's. It goes with the port. */
  addPortMac(port: number, mac: string): void;
  /**
   * Link, address, neighbour, route, rule and filter events of this namespace. Every handler call may be a duplicate or late, and of several that
   * speak of one thing the last may be all that is told; `lost` means that the kernel dropped some and all must be read again. Returns the way to stop.
   */
  watch(handler: (event: RtnlEvent) => void): () => void;
  close(): void;
}

export type RtnlEvent =
  | { type: 'link'; link: Link; gone: boolean }
  /** Taken away. `dev`: the index of the link that it was of, where it was of one. */
  | { type: 'address' | 'route' | 'neighbour' | 'filter'; dev: number | undefined }
  | { type: 'rule' }
  | { type: 'lost' };

/** nftables in one namespace: structure by libnftables, elements by raw nfnetlink. */
export interface Nft {
  /** One atomic transaction in nft's own language; throws KernelError with nft's text. */
  run(script: string): void;
  /** `list …` in JSON form (libnftables-json(5)), e.g. query('list table inet weft'). undefined when the object does not exist. */
  query(listCommand: string): NftJson[] | undefined;
  /** Another one after every transaction in the namespace, whoever made it (15 µs). Throws KernelError. */
  generation(): number | undefined;
  close(): void;
}
export type NftJson = Record<string, unknown>;

/** A netlink or system call error: `code` is the errno's name, `detail` the kernel's own explanation where it gave one. */
export class KernelError extends Error {
  readonly code: string;
  readonly detail: string | undefined;
  constructor(what: string, code: string, detail?: string) {
    super(weftError('WEFT-KERNEL', { what, detail: detail ? `${code} (${detail})` : code }).message);
    this.name = 'KernelError';
    this.code = code;
    this.detail = detail;
  }
}
