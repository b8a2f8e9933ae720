/**
 * Whether this node and others reach each other at the ports they need: tried when a node has joined and when somebody asks,
 * never by itself. The asking node tries the other's ports, has it try its own, and both send frames through the tunnel; with encrypted networks also
 * through the one by way of WireGuard.
 */
import type { X509Certificate } from 'node:crypto';
import * as v from 'valibot';
import { sleep, type Clock } from '../base/clock.ts';
import { errorText, weftError } from '../base/errors.ts';
import { hexOf, type Random } from '../base/random.ts';
import type { Credentials } from '../cluster/identity/join-server.ts';
import type { NodeInfo, SoftState } from '../cluster/state.ts';
import type { Fabric } from '../drivers/overlay/fabric.ts';
import { openSealedProbe, openTunnelProbe, type TunnelProbe } from '../drivers/overlay/tunnel-probe.ts';
import type { Keyring } from '../gossip/keyring.ts';
import { pingOnce } from '../gossip/ping-once.ts';
import type { Nft } from '../linux/types.ts';
import { findNode } from './nodes.ts';
import { ReachabilityRequest, askNode, type ReachabilityAnswer } from './reachability-call.ts';
import { findFirewalls, openingAdvice, type Firewall } from './reachability-firewall.ts';
import { consequence, describePort, tryTcp, type Port, type Way } from './reachability-ports.ts';

/** Nodes that are tried where none is named: each stands for many. */
const NODES = 3;
/** A host that drops packets answers nothing; one that lives does within this, also when it is busy. */
const TRY_MS = 2_000;
/** WireGuard answers no strangers: its port is open when a handshake gets through, and one that did not is tried again after 5 s (wireguard.pdf §6.1). */
const HANDSHAKE_MS = 6_000;
/** How long two nodes that have just met may take to know each other's tunnel ends. */
const ACQUAINTED_MS = 4_000;
const LOOK_MS = 100;
/** Of each side, before it stops because it heard the other: one may begin later, or be lost. */
const FRAMES = 5;
/** For the other side to get acquainted, to try and to answer. */
const ANSWER_MS = ACQUAINTED_MS + HANDSHAKE_MS + 2_000;

export interface ReachabilityReport {
  /** ISO 8601. */
  at: string;
  ways: Way[];
  /** What is closed, each with the command that opens it. */
  closed: string[];
  /** What could not be tried, and why. */
  untried: string[];
}

export interface ReachabilityOptions {
  self(): NodeInfo;
  state: SoftState;
  /** All nodes that the store lists. */
  nodes(): readonly { id: string; name: string; address: string; number: number; self: boolean; state: string }[];
  identity(): Credentials | undefined;
  ports: { gossip: number; tunnel: number; encryption: number; store: number; storePeers: number };
  /** Addresses of the nodes that hold a copy of the cluster's own store; undefined where the store is not its own. */
  storeHolders(): readonly string[] | undefined;
  /** Whether this node holds a copy, or would where there are too few. */
  mayHoldStore(): boolean;
  keyring: Keyring;
  fabric: Pick<Fabric, 'netns' | 'tunnel' | 'sealedTunnel' | 'encryption'>;
  hostNft: Nft;
  clock: Clock;
  random: Random;
}

export interface Reachability {
  /** With one node, by id or name, or with some. Throws WEFT-NODE-UNKNOWN, WEFT-STORE-ALONE, WEFT-IDENTITY. */
  probe(reference?: string): Promise<ReachabilityReport>;
  /** Another node asks to have its ports tried. */
  answer(body: unknown, caller: X509Certificate): Promise<ReachabilityAnswer>;
}

interface Finding { ways: Way[]; firewalls: Firewall[] | undefined; untried: string[] }
type Other = ReturnType<ReachabilityOptions['nodes']>[number];

export function createReachability(options: ReachabilityOptions): Reachability {
  const { self, state, ports, fabric, clock, random } = options;
  const timing = { clock, timeoutMs: TRY_MS };

  async function waitFor<T>(look: () => T | undefined): Promise<T | undefined> {
    for (let waited = 0; ; waited += LOOK_MS) {
      const found = look();
      if (found !== undefined || waited >= ACQUAINTED_MS) return found;
      await sleep(clock, LOOK_MS);
    }
  }

  const infoOf = (matches: (info: NodeInfo) => boolean): NodeInfo | undefined => state.list('node').find(({ value }) => matches(value))?.value;
  const ping = (host: string, port: number): Promise<boolean> => pingOnce({ host, port }, { keyring: options.keyring, random, ...timing });

  const between = ({ number }: NodeInfo, nonce: string) => ({ fabric: fabric.netns, from: self().number, to: number, nonce, clock });

  function tryTunnel(other: NodeInfo, nonce: string): TunnelProbe | undefined {
    const tunnel = fabric.tunnel();
    return tunnel === undefined ? undefined : openTunnelProbe({ ...between(other, nonce), tunnel });
  }

  /** undefined where one of the two does not use it. */
  function tryEncryption(other: NodeInfo, nonce: string): TunnelProbe | undefined {
    const tunnel = fabric.sealedTunnel();
    if (tunnel === undefined || !other.wireguard) return undefined;
    return openSealedProbe({ ...between(other, nonce), tunnel }, () => fabric.encryption.receivedFrom(other.id));
  }

  /** Sends and listens, as long as it takes. */
  async function hears(matches: (info: NodeInfo) => boolean, open: (other: NodeInfo) => TunnelProbe | undefined, forMs: number): Promise<boolean | undefined> {
    const other = await waitFor(() => infoOf(matches));
    const probe = other && open(other);
    if (!probe) return undefined;
    try {
      for (let waited = 0; waited < forMs && !(probe.heard() && probe.sent() >= FRAMES); waited += LOOK_MS) await sleep(clock, LOOK_MS);
      return probe.heard();
    } finally {
      probe.close();
    }
  }

  /** How this node reaches the other one. The store's ports are only tried where it holds a copy, so that somebody listens. */
  async function outward(other: Other): Promise<Way[]> {
    const way = { from: self().name, to: other.name };
    const store: Port[] = (options.storeHolders() ?? []).includes(other.address)
      ? [{ protocol: 'tcp', port: ports.store, purpose: 'store' }, ...(options.mayHoldStore() ? [{ protocol: 'tcp', port: ports.storePeers, purpose: 'store-peers' } as const] : [])]
      : [];
    return Promise.all([
      ...[{ protocol: 'tcp', port: ports.gossip, purpose: 'gossip' } as const, ...store].map(async (port) => ({ ...way, ...port, open: await tryTcp(other.address, port.port, timing) === 'open' })),
      ping(other.address, ports.gossip).then((open): Way => ({ ...way, protocol: 'udp', port: ports.gossip, purpose: 'gossip', open })),
    ]);
  }

  async function tryNode(other: Other, identity: Credentials): Promise<Finding> {
    const there = { from: self().name, to: other.name };
    const here = { from: other.name, to: self().name };
    const ways = await outward(other);
    if (!ways[0]!.open) return { ways, firewalls: undefined, untried: [`the way from ${other.name} to ${self().name}, since it cannot be asked`] };
    const nonce = hexOf(random, 8);
    const info = await waitFor(() => infoOf(({ id }) => id === other.id));
    const probe = info && tryTunnel(info, nonce);
    const sealedProbe = info && tryEncryption(info, nonce);
    const untried: string[] = [];
    /** Between the two, both ways; the other one says what it heard. */
    const tell = (port: Port, heardThere: boolean | undefined, own: TunnelProbe | undefined, unless: string): void => {
      if (own === undefined || heardThere === undefined) untried.push(`${describePort(port)} between ${self().name} and ${other.name}, ${unless}`);
      else ways.push({ ...there, ...port, open: heardThere }, { ...here, ...port, open: own.heard() });
    };
    try {
      const store = options.mayHoldStore() ? [ports.store, ports.storePeers] : [];
      const { firewalls, tried } = await askNode({ host: other.address, port: ports.gossip }, identity, { address: self().vtep, ports: { gossip: ports.gossip, store, nonce } }, ANSWER_MS);
      if (!tried) return { ways, firewalls, untried };
      const gossip = { port: ports.gossip, purpose: 'gossip' } as const;
      ways.push({ ...here, ...gossip, protocol: 'tcp', open: tried.gossipTcp }, { ...here, ...gossip, protocol: 'udp', open: tried.gossipUdp });
      for (const { port, open } of tried.store) ways.push({ ...here, protocol: 'tcp', port, purpose: port === ports.store ? 'store' : 'store-peers', open });
      tell({ protocol: 'udp', port: ports.tunnel, purpose: 'tunnel' }, tried.tunnel, probe, 'which do not know each other by gossip yet');
      if (sealedProbe) tell({ protocol: 'udp', port: ports.encryption, purpose: 'encryption' }, tried.encryption, sealedProbe, `since ${other.name} does not try it`);
      return { ways, firewalls, untried };
    } catch (error) {
      return { ways, firewalls: undefined, untried: [`the way from ${other.name} to ${self().name}: ${errorText(error)}`] };
    } finally {
      probe?.close();
      sealedProbe?.close();
    }
  }

  /** Nodes that hold the store first: all the others need those. */
  async function chosen(reference: string | undefined): Promise<readonly Other[]> {
    const others = (): Other[] => options.nodes().filter((each) => !each.self);
    if (reference !== undefined) return [findNode(others(), reference)];
    const alive = await waitFor(() => {
      const found = others().filter((each) => each.state === 'alive');
      return found.length > 0 ? found : undefined;
    }) ?? others();
    if (alive.length === 0) throw weftError('WEFT-STORE-ALONE', {});
    const holds = (node: Other): number => (options.storeHolders()?.includes(node.address) ? 0 : 1);
    return alive.sort((a, b) => holds(a) - holds(b) || a.number - b.number).slice(0, NODES);
  }

  return {
    probe: async (reference) => {
      const identity = options.identity();
      if (!identity) throw weftError('WEFT-IDENTITY', { detail: 'it has no certificate yet' });
      const others = await chosen(reference);
      const findings = await Promise.all(others.map((other) => tryNode(other, identity)));
      const firewalls = new Map<string, Firewall[] | undefined>([[self().name, findFirewalls(options.hostNft)], ...findings.map((found, i) => [others[i]!.name, found.firewalls] as const)]);
      const ways = findings.flatMap((found) => found.ways);
      return { at: new Date(clock.wallNow()).toISOString(), ways, closed: closedPorts(ways, firewalls), untried: findings.flatMap(({ untried }) => untried) };
    },

    answer: async (body, caller) => {
      const request = v.safeParse(ReachabilityRequest, body);
      if (!request.success) throw weftError('WEFT-INPUT-MALFORMED', { what: 'the request', detail: v.getDotPath(request.issues[0]) ?? 'it' });
      const { address, ports: wanted } = request.output;
      // Nobody has a node try the ports of a third.
      if (!caller.checkIP(address)) throw weftError('WEFT-INPUT-MALFORMED', { what: 'the request', detail: `the certificate is not for ${address}` });
      const firewalls = findFirewalls(options.hostNft);
      if (!wanted) return { firewalls };
      const isAsking = ({ vtep }: NodeInfo): boolean => vtep === address;
      const [gossipTcp, gossipUdp, tunnel, encryption, store] = await Promise.all([
        tryTcp(address, wanted.gossip, timing), ping(address, wanted.gossip),
        hears(isAsking, (asking) => tryTunnel(asking, wanted.nonce), TRY_MS), hears(isAsking, (asking) => tryEncryption(asking, wanted.nonce), HANDSHAKE_MS),
        // Nobody may listen there yet: that the host says so is enough.
        Promise.all(wanted.store.map(async (port) => ({ port, open: await tryTcp(address, port, timing) !== 'closed' }))),
      ]);
      return { firewalls, tried: { gossipTcp: gossipTcp === 'open', gossipUdp, store, ...(tunnel !== undefined && { tunnel }), ...(encryption !== undefined && { encryption }) } };
    },
  };
}

/** One text for each closed port of each node, whoever is kept out. */
function closedPorts(ways: readonly Way[], firewalls: ReadonlyMap<string, Firewall[] | undefined>): string[] {
  const byPort = new Map<string, Way[]>();
  for (const way of ways) {
    if (way.open) continue;
    const key = `${way.to} ${way.protocol} ${way.port}`;
    byPort.set(key, [...byPort.get(key) ?? [], way]);
  }
  return [...byPort.values()].map((closed) => {
    const [way] = closed as [Way];
    const from = closed.map((each) => each.from).join(', ');
    return weftError('WEFT-PORT-CLOSED', { port: describePort(way), node: way.to, from, consequence: consequence(way, from, way.to), advice: openingAdvice(way.to, firewalls.get(way.to), way) }).message;
  });
}
