/**
 * Published ports on every node, and those of one node on an address of its own. What is published is soft state (one
 * record per backend); this node's part is to hold the port, to spread new connections over the backends, and to say where
 * it could not.
 */
import { WeftError, errorText, weftError } from '../base/errors.ts';
import { withoutLength } from '../base/ip.ts';
import type { Logger } from '../base/log.ts';
import type { Random } from '../base/random.ts';
import { withUndo } from '../base/undo.ts';
import type { Endpoint, Network, PortMapping, Protocol } from '../cnm/model.ts';
import { choiceOf, distinctPorts, hasNoChoice, portKey } from '../cnm/ports.ts';
import { createSerializer } from '../cnm/serialize.ts';
import type { BackendRecord, SoftState } from '../cluster/state.ts';
import { deleteFlows } from '../linux/conntrack.ts';
import { reservePort, type Reservation } from '../linux/port-reservation.ts';
import { KernelError, type Netns, type Nft } from '../linux/types.ts';
import type { LocalStore } from '../store/store.ts';
import type { PortClaims } from './claims.ts';
import type { Ingress, PublishedPort } from './ingress.ts';
import { createPortTable, type WantedPort } from './table.ts';

const RANDOM_ATTEMPTS = 64;

export interface MeshOptions {
  host: Netns;
  nft: Nft;
  state: SoftState;
  claims: PortClaims;
  local: LocalStore;
  random: Random;
  log: Logger;
  /** The fabric lets traffic of other nodes through to these only. */
  onLocalBackends(backends: { ip: string; protocol: Protocol; port: number }[]): void;
  /** Ports that this node could not have ('tcp/8080', 'tcp/192.0.2.1:8080'). */
  onSkipped(ports: string[]): void;
  /** A UDP backend went, whose flows must not stick to it. */
  forgetFlows(backend: { ip: string; port: number }): void;
  nodeName(id: string): string;
}

interface Port {
  protocol: Protocol; hostIp: string; port: number; service: string; backends: Map<string, { node: string; record: BackendRecord }>;
  /** The only node that publishes it; undefined: all do. */
  node: string | undefined;
}

/** What is being published, until its record says so. */
interface Starting { key: string; service: string }

const keyOf = ({ protocol, hostIp = '', port }: BackendRecord): string => portKey(protocol, hostIp, port);

export function createMesh(options: MeshOptions): Ingress {
  const { host, state, claims, local, random, log } = options;
  const table = createPortTable(options.nft);
  const ports = new Map<string, Port>();
  const reservations = new Map<string, Reservation>();
  const skipped = new Set<string>();
  /** Ports in the middle of being published, once for each time: nobody gives them up, though nothing says so yet. */
  const starting: Starting[] = [];
  const isStarting = (key: string): boolean => starting.some((each) => each.key === key);
  const serialize = createSerializer();
  let scheduled = false;
  let closed = false;

  /** 'no-address': the host does not have it. */
  function reserve(protocol: Protocol, hostIp: string, port: number): 'held' | 'taken' | 'no-address' {
    const key = portKey(protocol, hostIp, port);
    if (reservations.has(key)) return 'held';
    try {
      const reservation = reservePort(host, protocol, port, hostIp || undefined);
      if (reservation) reservations.set(key, reservation);
      return reservation ? 'held' : 'taken';
    } catch (error) {
      if (error instanceof KernelError && error.code === 'EADDRNOTAVAIL') return 'no-address';
      throw error;
    }
  }

  /** Whose the port is on this node, as far as is known here. */
  const holder = (key: string): string | undefined => ports.get(key)?.service ?? starting.find((each) => each.key === key)?.service;

  /** The service whose reservation is in the way of this one: every address excludes each, and each all of them. */
  function inTheWay(protocol: Protocol, hostIp: string, port: number): string | undefined {
    const prefix = `${protocol}/`;
    const isOther = (key: string): boolean => (hostIp === '' ? key.startsWith(prefix) && key.endsWith(`:${port}`) : key === portKey(protocol, '', port));
    const key = [...reservations.keys()].find(isOther);
    return key === undefined ? undefined : holder(key);
  }

  function apply(): void {
    scheduled = false;
    if (closed) return;
    const before = [...skipped].sort().join();
    skipped.clear();
    const wanted = new Map<string, WantedPort>();
    for (const [key, { protocol, hostIp, port, backends, node }] of ports) {
      if (node !== undefined && node !== state.self) continue;
      if (reserve(protocol, hostIp, port) !== 'held') skipped.add(key);
      else wanted.set(key, { protocol, ip: hostIp, port, backends: [...new Set([...backends.values()].map(({ record }) => `${record.ip}:${record.targetPort}`))].sort() });
    }
    for (const [key, reservation] of reservations) {
      if (ports.has(key) || isStarting(key)) continue;
      reservation.release();
      reservations.delete(key);
    }
    const { opened, gone } = table.apply(wanted);
    // A UDP flow keeps its way for as long as packets come: also one that led nowhere, or to a backend that is gone.
    for (const { protocol, ip, port } of opened) if (protocol === 'udp') deleteFlows(host, { protocol, ...(ip !== '' && { originalDestination: ip }), originalDestinationPort: port });
    for (const { protocol, backend } of gone) {
      if (protocol !== 'udp') continue;
      const [ip, port] = backend.split(':');
      options.forgetFlows({ ip: ip!, port: Number(port) });
    }
    // Other nodes have no business with what is published on this one alone.
    const mine = [...ports.values()].filter(({ node }) => node === undefined).flatMap((port) => [...port.backends.values()].filter(({ node }) => node === state.self));
    options.onLocalBackends(mine.map(({ record }) => ({ ip: record.ip, protocol: record.protocol, port: record.targetPort })));
    if ([...skipped].sort().join() !== before) options.onSkipped([...skipped].sort());
  }

  /** One pass for all the changes of a turn. */
  function schedule(): void {
    if (scheduled) return;
    scheduled = true;
    setImmediate(() => {
      try {
        apply();
      } catch (error) {
        log.error({ detail: errorText(error) }, 'published ports could not be programmed; tried again at the next repair');
      }
    });
  }

  const stopWatching = state.watch('backend', (change) => {
    const { key, owner, value } = change.record;
    const node = value.mode === 'host' ? owner : undefined;
    const where = node === undefined || node === state.self ? keyOf(value) : `${node} ${keyOf(value)}`;
    const id = `${owner}/${key}`;
    if (change.type === 'put') {
      const { protocol, hostIp = '', service } = value;
      const port: Port = ports.get(where) ?? { protocol, hostIp, port: value.port, service, backends: new Map(), node };
      port.service = service;
      port.backends.set(id, { node: owner, record: value });
      ports.set(where, port);
    } else {
      const port = ports.get(where);
      port?.backends.delete(id);
      if (port?.backends.size === 0) ports.delete(where);
    }
    schedule();
  });

  const recordsOf = (endpointId: string): BackendRecord[] => JSON.parse(local.get(`published/${endpointId}`) ?? '[]') as BackendRecord[];
  const announce = (record: BackendRecord): void => state.publish('backend', `${keyOf(record)}/${record.endpointId}`, record);
  const everyRecord = (): BackendRecord[] => local.list('published/').flatMap(({ value }) => JSON.parse(value) as BackendRecord[]);
  everyRecord().forEach(announce);

  /** Reserves and claims; the port is added to `taken`, which are those of one publishing. `alone`: not shared, not even with the same service. */
  async function take({ protocol, hostIp }: PortMapping, port: number, { service, taken, alone }: { service: string; taken: Starting[]; alone: boolean }): Promise<void> {
    const key = portKey(protocol, hostIp, port);
    const other = hostIp === '' ? undefined : holder(key);
    if (other !== undefined && other !== service) throw weftError('WEFT-PORT-HELD', { port, proto: protocol, service: other });
    const result = reserve(protocol, hostIp, port);
    if (result === 'no-address') throw weftError('WEFT-PORT-ADDRESS', { address: hostIp });
    if (result === 'taken') {
      const own = inTheWay(protocol, hostIp, port);
      throw own === undefined ? weftError('WEFT-PORT-HOST', { port, proto: protocol }) : weftError('WEFT-PORT-HELD', { port, proto: protocol, service: own });
    }
    const begun = { key, service };
    taken.push(begun);
    starting.push(begun);
    if (hostIp === '') await claims.claim(protocol, port, service, { alone });
  }

  /** In the order in which they are tried: of a range the first that is free, of all of them any. */
  function* candidates(mapping: PortMapping): Generator<number> {
    const { first, last } = choiceOf(mapping);
    if (mapping.hostPort === 0) for (let i = 0; i < RANDOM_ATTEMPTS; i++) yield first + random.int(last - first + 1);
    else for (let port = first; port <= last; port++) yield port;
  }

  async function choose(mapping: PortMapping, service: string, taken: Starting[]): Promise<number> {
    const { protocol, hostIp, hostPort } = mapping;
    if (hasNoChoice(mapping)) {
      await take(mapping, hostPort, { service, taken, alone: false });
      return hostPort;
    }
    for (const port of candidates(mapping)) {
      // Another's, perhaps of the same service: that is asked for by its number only.
      if (holder(portKey(protocol, hostIp, port)) !== undefined) continue;
      try {
        await take(mapping, port, { service, taken, alone: true });
        return port;
      } catch (error) {
        if (!(error instanceof WeftError && (error.code === 'WEFT-PORT-HELD' || error.code === 'WEFT-PORT-HOST'))) throw error;
      }
    }
    const { first, last } = choiceOf(mapping);
    throw weftError('WEFT-PORT-RANGE', { range: `${first}-${last}`, proto: protocol });
  }

  /** Claims of ports that none of this node's endpoints publishes are given up; a store that is away is asked again at the next repair. */
  async function releaseUnused(): Promise<void> {
    const keysInUse = (): Set<string> => new Set(everyRecord().map(keyOf));
    let used = keysInUse();
    for (const key of claims.list()) {
      if (isStarting(key) || used.has(key)) continue;
      const [protocol, port] = key.split('/') as [Protocol, string];
      await claims.release(protocol, Number(port));
      // Others have come meanwhile.
      used = keysInUse();
    }
  }

  const ingress: Ingress = {
    publish: (network: Network, endpoint: Endpoint, service: string) => serialize(endpoint.id, () => withUndo(async (undo) => {
      const ip = endpoint.address === undefined ? undefined : withoutLength(endpoint.address);
      if (endpoint.ports.length === 0 || ip === undefined) return [];
      const known = recordsOf(endpoint.id);
      if (known.length > 0) return known.map((record) => ({ protocol: record.protocol, containerPort: record.targetPort, hostPort: record.port, hostIp: record.hostIp ?? '' }));
      undo.push(() => {
        schedule();
        return releaseUnused();
      });
      const taken: Starting[] = [];
      try {
        const chosen: PortMapping[] = [];
        for (const mapping of distinctPorts(endpoint.ports)) {
          const { protocol, containerPort, hostIp } = mapping;
          if (hostIp.includes(':')) throw weftError('WEFT-FEATURE-MISSING', { feature: `publishing on the IPv6 address ${hostIp}`, hint: 'publish on an IPv4 address' });
          chosen.push({ protocol, containerPort, hostPort: await choose(mapping, service, taken), hostIp });
        }
        const records = chosen.map(({ protocol, containerPort, hostPort, hostIp }): BackendRecord => ({
          networkId: network.id, endpointId: endpoint.id, ip, protocol, port: hostPort, targetPort: containerPort, service,
          ...(hostIp === '' ? { mode: 'ingress' } : { mode: 'host', hostIp }),
        }));
        local.put(`published/${endpoint.id}`, JSON.stringify(records));
        records.forEach(announce);
        return chosen;
      } finally {
        for (const begun of taken) starting.splice(starting.indexOf(begun), 1);
      }
    })),

    // After a publishing that is under way: Docker gives up on it when it takes long, and it must not come true later.
    revoke: (endpointId) => serialize(endpointId, async () => {
      const records = recordsOf(endpointId);
      if (records.length === 0) return;
      local.delete(`published/${endpointId}`);
      for (const record of records) state.withdraw('backend', `${keyOf(record)}/${record.endpointId}`);
      // A container's stop does not wait for the store.
      releaseUnused().catch((error: unknown) => log.info({ detail: errorText(error) }, 'the claim of a port is given up later'));
    }),

    list: () => [...ports.values()].map((port): PublishedPort => ({
      protocol: port.protocol,
      hostIp: port.hostIp,
      port: port.port,
      service: port.service,
      mode: port.node === undefined ? 'ingress' : 'host',
      backends: [...port.backends.values()].map(({ node, record }) => ({ endpointId: record.endpointId, node: options.nodeName(node), ip: record.ip, port: record.targetPort })),
      skippedOn: state.list('node').filter(({ owner, value }) => (port.node === undefined || port.node === owner) && value.skippedPorts.includes(portKey(port.protocol, port.hostIp, port.port))).map(({ value }) => value.name),
    })),

    repair: async () => {
      const repairs = table.repair();
      // A program of the host may have given its port up; and what could not be programmed is tried again.
      schedule();
      await releaseUnused().catch(() => {});
      return repairs;
    },

    close: async () => {
      closed = true;
      stopWatching();
      for (const reservation of reservations.values()) reservation.release();
      reservations.clear();
    },
  };
  return ingress;
}
