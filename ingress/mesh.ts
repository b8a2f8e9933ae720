/**
 * Published ports on every node. What is published is soft state (one record per backend); this node's part is to hold
 * the port, to spread new connections over the backends, and to say where it could not.
 */
import { WeftError, errorText, weftError } from '../base/errors.ts';
import { withoutLength } from '../base/ip.ts';
import type { Logger } from '../base/log.ts';
import type { Random } from '../base/random.ts';
import { withUndo } from '../base/undo.ts';
import type { Endpoint, Network, PortMapping, Protocol } from '../cnm/model.ts';
import { DYNAMIC_PORTS, distinctPorts } from '../cnm/ports.ts';
import { createSerializer } from '../cnm/serialize.ts';
import type { BackendRecord, SoftState } from '../cluster/state.ts';
import { deleteFlows } from '../linux/conntrack.ts';
import { reservePort, type Reservation } from '../linux/port-reservation.ts';
import type { Netns, Nft } from '../linux/types.ts';
import type { LocalStore } from '../store/store.ts';
import type { PortClaims } from './claims.ts';
import type { Ingress, PublishedPort } from './ingress.ts';
import { createPortTable } from './table.ts';

const DYNAMIC_ATTEMPTS = 64;

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
  /** Ports this node leaves to its host ('tcp/8080'). */
  onSkipped(ports: string[]): void;
  /** A UDP backend went, whose flows must not stick to it. */
  forgetFlows(backend: { ip: string; port: number }): void;
  nodeName(id: string): string;
}

interface Port { protocol: Protocol; port: number; service: string; backends: Map<string, { node: string; record: BackendRecord }> }

export function createMesh(options: MeshOptions): Ingress {
  const { host, state, claims, local, random, log } = options;
  const table = createPortTable(options.nft);
  const ports = new Map<string, Port>();
  const reservations = new Map<string, Reservation>();
  const skipped = new Set<string>();
  /** Ports in the middle of being published, once for each time: nobody gives them up, though nothing says so yet. */
  const starting: string[] = [];
  const serialize = createSerializer();
  let scheduled = false;
  let closed = false;

  /** The port is held here: by an earlier reservation of ours, or by one made now. */
  function reserve(protocol: Protocol, port: number): boolean {
    const key = `${protocol}/${port}`;
    if (reservations.has(key)) return true;
    const reservation = reservePort(host, protocol, port);
    if (reservation) reservations.set(key, reservation);
    return reservation !== undefined;
  }

  function apply(): void {
    scheduled = false;
    if (closed) return;
    const before = [...skipped].sort().join();
    skipped.clear();
    const wanted = new Map<string, { protocol: Protocol; port: number; backends: string[] }>();
    for (const [key, { protocol, port, backends }] of ports) {
      if (!reserve(protocol, port)) skipped.add(key);
      else wanted.set(key, { protocol, port, backends: [...new Set([...backends.values()].map(({ record }) => `${record.ip}:${record.targetPort}`))].sort() });
    }
    for (const [key, reservation] of reservations) {
      if (ports.has(key) || starting.includes(key)) continue;
      reservation.release();
      reservations.delete(key);
    }
    const { opened, gone } = table.apply(wanted);
    // A UDP flow keeps its way for as long as packets come: also one that led nowhere, or to a backend that is gone.
    for (const { protocol, port } of opened) if (protocol === 'udp') deleteFlows(host, { protocol, originalDestinationPort: port });
    for (const { protocol, backend } of gone) {
      if (protocol !== 'udp') continue;
      const [ip, port] = backend.split(':');
      options.forgetFlows({ ip: ip!, port: Number(port) });
    }
    const mine = [...ports.values()].flatMap((port) => [...port.backends.values()].filter(({ node }) => node === state.self));
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
    const portKey = `${value.protocol}/${value.port}`;
    const id = `${owner}/${key}`;
    if (change.type === 'put') {
      const port = ports.get(portKey) ?? { protocol: value.protocol, port: value.port, service: value.service, backends: new Map<string, { node: string; record: BackendRecord }>() };
      port.service = value.service;
      port.backends.set(id, { node: owner, record: value });
      ports.set(portKey, port);
    } else {
      const port = ports.get(portKey);
      port?.backends.delete(id);
      if (port?.backends.size === 0) ports.delete(portKey);
    }
    schedule();
  });

  const recordsOf = (endpointId: string): BackendRecord[] => JSON.parse(local.get(`published/${endpointId}`) ?? '[]') as BackendRecord[];
  const announce = (record: BackendRecord): void => state.publish('backend', `${record.protocol}/${record.port}/${record.endpointId}`, record);
  const everyRecord = (): BackendRecord[] => local.list('published/').flatMap(({ value }) => JSON.parse(value) as BackendRecord[]);
  everyRecord().forEach(announce);

  /** Reserves and claims; the port is added to `taken`, which are those of one publishing. */
  async function take(protocol: Protocol, port: number, service: string, taken: string[]): Promise<void> {
    if (!reserve(protocol, port)) throw weftError('WEFT-PORT-HOST', { port, proto: protocol });
    taken.push(`${protocol}/${port}`);
    starting.push(`${protocol}/${port}`);
    await claims.claim(protocol, port, service);
  }

  async function choose({ protocol, hostPort }: PortMapping, service: string, taken: string[]): Promise<number> {
    if (hostPort !== 0) {
      await take(protocol, hostPort, service, taken);
      return hostPort;
    }
    for (let attempt = 1; ; attempt++) {
      const port = DYNAMIC_PORTS.first + random.int(DYNAMIC_PORTS.last - DYNAMIC_PORTS.first + 1);
      // Another's, perhaps of the same service: that is asked for by its number only.
      if (ports.has(`${protocol}/${port}`) && attempt < DYNAMIC_ATTEMPTS) continue;
      try {
        await take(protocol, port, service, taken);
        return port;
      } catch (error) {
        const isTaken = error instanceof WeftError && (error.code === 'WEFT-PORT-HELD' || error.code === 'WEFT-PORT-HOST');
        if (!isTaken || attempt >= DYNAMIC_ATTEMPTS) throw error;
      }
    }
  }

  /** Claims of ports that none of this node's endpoints publishes are given up; a store that is away is asked again at the next repair. */
  async function releaseUnused(): Promise<void> {
    for (const key of claims.list()) {
      const [protocol, port] = key.split('/') as [Protocol, string];
      // Looked at anew for each: others come meanwhile.
      const isUsed = starting.includes(key) || everyRecord().some((record) => record.protocol === protocol && record.port === Number(port));
      if (!isUsed) await claims.release(protocol, Number(port));
    }
  }

  const ingress: Ingress = {
    publish: (network: Network, endpoint: Endpoint, service: string) => serialize(endpoint.id, () => withUndo(async (undo) => {
      const ip = endpoint.address === undefined ? undefined : withoutLength(endpoint.address);
      if (endpoint.ports.length === 0 || ip === undefined) return [];
      const known = recordsOf(endpoint.id);
      if (known.length > 0) return known.map((record) => ({ protocol: record.protocol, containerPort: record.targetPort, hostPort: record.port, hostIp: '' }));
      undo.push(() => {
        schedule();
        return releaseUnused();
      });
      const taken: string[] = [];
      try {
        const chosen: PortMapping[] = [];
        for (const mapping of distinctPorts(endpoint.ports)) {
          if (mapping.hostIp !== '') {
            throw weftError('WEFT-FEATURE-MISSING', { feature: `publishing on the address ${mapping.hostIp} of an overlay network`, hint: 'publish on all addresses, or use a weft-bridge network' });
          }
          chosen.push({ ...mapping, hostPort: await choose(mapping, service, taken) });
        }
        const records = chosen.map(({ protocol, containerPort, hostPort }): BackendRecord => ({
          networkId: network.id, endpointId: endpoint.id, ip, protocol, port: hostPort, targetPort: containerPort, service, mode: 'ingress',
        }));
        local.put(`published/${endpoint.id}`, JSON.stringify(records));
        records.forEach(announce);
        return chosen;
      } finally {
        for (const key of taken) starting.splice(starting.indexOf(key), 1);
      }
    })),

    // After a publishing that is under way: Docker gives up on it when it takes long, and it must not come true later.
    revoke: (endpointId) => serialize(endpointId, async () => {
      const records = recordsOf(endpointId);
      if (records.length === 0) return;
      local.delete(`published/${endpointId}`);
      for (const record of records) state.withdraw('backend', `${record.protocol}/${record.port}/${record.endpointId}`);
      // A container's stop does not wait for the store.
      releaseUnused().catch((error: unknown) => log.info({ detail: errorText(error) }, 'the claim of a port is given up later'));
    }),

    list: () => [...ports.values()].map((port): PublishedPort => ({
      protocol: port.protocol,
      port: port.port,
      service: port.service,
      mode: 'ingress',
      backends: [...port.backends.values()].map(({ node, record }) => ({ endpointId: record.endpointId, node: options.nodeName(node), ip: record.ip, port: record.targetPort })),
      skippedOn: state.list('node').filter(({ value }) => value.skippedPorts.includes(`${port.protocol}/${port.port}`)).map(({ value }) => value.name),
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
