/** The embedded resolver of all sandboxes of this node. */
import { statSync } from 'node:fs';
import { isDeepStrictEqual } from 'node:util';
import type { Clock } from '../base/clock.ts';
import { weftError } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';
import { parsePrefix, type Prefix } from '../base/prefix.ts';
import type { Random } from '../base/random.ts';
import { isNetns, openNetns } from '../linux/netns.ts';
import { createAnswerCache } from './answer-cache.ts';
import { createCachingForwarder } from './caching.ts';
import { createChain } from './chain.ts';
import type { NameSource, NameTrace, QueryListener, Resolver, SandboxNames, SeenQuery, TlsUpstreams } from './dns.ts';
import { createDockerResolver, NO_DOCKER_RESOLVER } from './docker-resolver.ts';
import type { Forwarder } from './forwarder.ts';
import type { SandboxNetworks } from './forwarding.ts';
import { createHostNames } from './host-names.ts';
import { openHostDns } from './host-stub.ts';
import { hookUp } from './hookup.ts';
import { createLatencies, timed } from './latency.ts';
import { openNodeListener } from './node-listener.ts';
import { OUTCOMES, type Outcome } from './outcomes.ts';
import { createOutside, type Lease } from './outside.ts';
import type { RecordSource } from './own-records.ts';
import { createMemory } from './remembered.ts';
import { concerns, hasAddressIn } from './reply.ts';
import { resolvConf } from './resolv-conf.ts';
import { foreignPorts } from './resolver-ports.ts';
import type { TlsServer } from './tls-server.ts';
import { createTlsUpstreams } from './tls-upstreams.ts';
import { createUpstreams } from './upstreams.ts';

/** Some 5,000 answers, of all sandboxes together. */
const CACHE_BYTES = 4 << 20;

export interface ResolverOptions {
  names: NameSource;
  records: RecordSource;
  log: Logger;
  clock: Clock;
  random: Random;
  /** Of own records, in seconds. */
  ttl: number;
  /** Take several questions with one system call where they wait. */
  batches: boolean;
  /** Addresses of the name servers for sandboxes without Docker's resolver; those of the host when left out. */
  hostServers?: () => string[];
  /** All networks, as they are now, for programs of the host, and the address where these ask, if they may. Without networks the host is left alone. */
  networks?: () => readonly { id: string; name: string }[];
  host?: string | undefined;
  /** IPv4: sandboxes are left alone, and may ask here. */
  listen?: string | undefined;
  /** Asked over TLS, and nobody else then, where a sandbox's networks name no others. */
  upstreams?: readonly TlsServer[];
  /** A PEM file with the authorities that may vouch for these. */
  ca?: string | undefined;
}

interface Attached {
  /** Tells a namespace from another one that was mounted at the same path since. */
  inode: number;
  networks: SandboxNetworks;
  addresses: readonly string[];
  /** Its part of the cache. */
  scope: string;
  /** Who is asked about the outside. */
  outside: Lease;
  trace(name: string, type: string): Promise<NameTrace>;
  /** It has other addresses now. */
  move(addresses: readonly string[]): void;
  close(): void;
}

export function createResolver({ names, records, log, clock, random, ttl, batches, hostServers = resolvConf(), networks, host, listen, upstreams: tlsServers = [], ca }: ResolverOptions): Resolver {
  const attached = new Map<string, Attached>();
  const instance = Buffer.from(random.bytes(4)).toString('hex');
  let hookups = 0;
  /** dropped: TCP connections that were turned away or cut off; forged: replies that did not belong to a question, or lied. */
  const counts: Record<Outcome | 'dropped' | 'forged', number> = { ...(Object.fromEntries(OUTCOMES.map((outcome) => [outcome, 0])) as Record<Outcome, number>), dropped: 0, forged: 0 };
  const cache = createAnswerCache(CACHE_BYTES);
  const memory = createMemory({ now: () => clock.now(), random });
  const latencies = createLatencies();
  let listener: QueryListener | undefined;
  const onLie = (): void => void counts.forged++;
  const overTls = (servers: TlsUpstreams): Forwarder => timed(createTlsUpstreams({ ...servers, clock, random, onLie, log }), 'upstreams', latencies, clock);
  const inTheClear = (): Forwarder => timed(createUpstreams({ servers: hostServers, clock, random, onLie }), 'upstreams', latencies, clock);
  const encrypted = tlsServers.length > 0;
  const outside = createOutside({ usual: { forwarder: encrypted ? overTls({ servers: tlsServers, ca }) : inTheClear(), encrypted }, open: overTls, cache, clock });

  const hostDns = networks && openHostDns({
    address: host, chain: createHostNames({ names, networks, ttl, random, count: (outcome) => void counts[outcome]++ }), batches, clock, log, onDrop: () => void counts.dropped++,
  });

  const listening = listen === undefined ? undefined : openNodeListener({ address: listen, clock, log, onDrop: () => void counts.dropped++, onStranger: () => void counts.denied++ });

  function open(sandbox: SandboxNames, inode: number): Attached {
    const netns = listening ? undefined : openNetns(sandbox.path);
    // One of its own each time: a last answer that comes while we leave is nobody's when we are back.
    const scope = `${sandbox.path} ${hookups++}`;
    const sandboxLog = log.child({ sandbox: sandbox.path });
    const entry: Attached = {
      inode, scope, outside: outside.take(serversFor(sandbox)), networks: describe(sandbox, netns !== undefined), addresses: sandbox.addresses ?? [],
      trace: async (name, type) => (await import('./trace.ts')).traceName({ ...ways, clock, isBehindDocker: netns === undefined }, name, type), move: () => {}, close: () => {},
    };
    const direct = netns ? timed(createDockerResolver({ netns, ports: () => foreignPorts(netns), clock, random, log: sandboxLog }), 'docker', latencies, clock) : NO_DOCKER_RESOLVER;
    const cached = createCachingForwarder({
      cache, scope, forwarder: direct, clock,
      discards: (reply, end) => hasAddressIn(reply, end, entry.networks.subnets),
      isPassing: (reply, query) => concerns(reply, query, entry.networks.passing),
    });
    const remembered = memory();
    const ways = { names, records, networks: () => entry.networks, docker: { direct, cached }, upstreams: () => entry.outside.upstreams, ttl, random };
    const report = (query: SeenQuery): void => listener?.heard(sandbox.path, query);
    const chain = createChain({
      ...ways, remembered, count: (outcome) => void counts[outcome]++,
      observation: { clock, took: latencies.add, observer: () => (listener?.wants(sandbox.path) ? report : undefined) },
    });
    try {
      const served = netns
        ? { ...hookUp({ netns, tableName: `weft-dns-${instance}-${hookups}`, chain, batches, clock, log: sandboxLog, onDrop: () => void counts.dropped++ }), move: () => {} }
        : listening!.add(entry.addresses, chain);
      entry.move = served.move;
      entry.close = () => void served.close().then(() => {
        direct.close();
        entry.outside.release();
        cache.clear(scope);
        remembered.clear();
        netns?.close();
      });
      return entry;
    } catch (error) {
      entry.outside.release();
      remembered.clear();
      netns?.close();
      throw error;
    }
  }

  function detach(path: string): void {
    const entry = attached.get(path);
    attached.delete(path);
    entry?.close();
  }

  return {
    attach: async (sandbox) => {
      const inode = isNetns(sandbox.path) ? statSync(sandbox.path).ino : undefined;
      const present = attached.get(sandbox.path);
      if (present && present.inode === inode) {
        if (!isDeepStrictEqual(present.addresses, sandbox.addresses ?? [])) present.move(present.addresses = sandbox.addresses ?? []);
        const [networks, servers, before] = [describe(sandbox, !listening), serversFor(sandbox), present.outside];
        if (isDeepStrictEqual([present.networks, before.servers], [networks, servers])) return;
        present.networks = networks;
        present.outside = outside.take(servers);
        before.release();
        // What Docker says may be another thing on other networks.
        cache.clear(present.scope);
        return;
      }
      // What was hooked up is dead; held open, it would never go.
      detach(sandbox.path);
      if (inode === undefined) throw weftError('WEFT-SANDBOX-GONE', { path: sandbox.path });
      attached.set(sandbox.path, open(sandbox, inode));
      // After a restart hundreds are attached in a row: let others have their turn.
      await new Promise((resolve) => setImmediate(resolve));
    },
    detach,
    attached: () => [...attached.keys()],
    stats: () => ({ ...counts }),
    host: hostDns,
    problem: () => (listening?.problem === undefined ? undefined : `containers of this host cannot ask for names at ${listen}: ${listening.problem}`),
    latencies: latencies.histograms,
    trace: async (path, name, type) => {
      const entry = attached.get(path);
      if (!entry) throw weftError('WEFT-DNS-ABSENT', { sandbox: path });
      return entry.trace(name, type);
    },
    listen: (next) => void (listener = next),
    close: () => {
      for (const path of attached.keys()) detach(path);
      outside.close();
      hostDns?.close();
      listening?.close();
    },
  };
}

/** `asksDocker`: what only Docker knows is asked of it here. Who asks this node itself has asked Docker before. */
function describe({ networks, elsewhere }: SandboxNames, asksDocker: boolean): SandboxNetworks {
  const subnetsOf = (of: SandboxNames['networks']): Prefix[] => of.flatMap(({ subnets }) => subnets.flatMap((text) => parsePrefix(text) ?? []));
  const passing = subnetsOf(networks);
  return {
    passing,
    joined: networks.map(({ id, name }) => ({ id, name, suffix: name.toLowerCase() })),
    subnets: subnetsOf(networks.filter(({ shared }) => !shared)),
    ipv4: passing.some(({ family }) => family === 4),
    internal: networks.every(({ internal }) => internal),
    elsewhere: asksDocker ? elsewhere : false,
  };
}

/** Whatever the order in which it came to its networks, they are the same after a restart. */
const serversFor = ({ networks }: SandboxNames): TlsUpstreams | undefined =>
  networks.filter(({ upstreams }) => upstreams).toSorted((a, b) => (a.name < b.name ? -1 : 1))[0]?.upstreams;
