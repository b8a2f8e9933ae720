/**
 * Published ports on every node. What is published is soft state (one record per backend); this node's part is to hold
 * the port, to spread new connections over the backends, and to say where it could not.
 */
import { errorText, weftError } from '../base/errors.ts';
import { withoutLength } from '../base/ip.ts';
import type { Logger } from '../base/log.ts';
import type { Random } from '../base/random.ts';
import { withUndo } from '../base/undo.ts';
import type { Endpoint, Network, PortMapping, Protocol } from '../cnm/model.ts';
import type { BackendRecord, SoftState } from '../cluster/state.ts';
import { reservePort, type Reservation } from '../linux/port-reservation.ts';
import type { Netns, Nft } from '../linux/types.ts';
import type { LocalStore } from '../store/store.ts';
import type { PortClaims } from './claims.ts';
import type { Ingress, PublishedPort } from './ingress.ts';
import { createPortTable } from './table.ts';

/** Where ports are chosen from when the user leaves it to us (IANA's dynamic range, RFC 6335 §6). */
const DYNAMIC = { first: 49152, count: 16384 };
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
  /** A UDP backend went: its flows must not stick to it. */
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
  let scheduled = false;

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
    const before = [...skipped].sort().join();
    skipped.clear();
    const wanted = new Map<string, { protocol: Protocol; port: number; backends: string[] }>();
    for (const [key, { protocol, port, backends }] of ports) {
      if (!reserve(protocol, port)) skipped.add(key);
      else wanted.set(key, { protocol, port, backends: [...new Set([...backends.values()].map(({ record }) => `${record.ip}:${record.targetPort}`))].sort() });
    }
    for (const [key, reservation] of reservations) {
      if (ports.has(key)) continue;
      reservation.release();
      reservations.delete(key);
    }
    const gone = table.apply(wanted);
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
  for (const record of everyRecord()) announce(record);

  async function claimPort(mapping: PortMapping, service: string): Promise<number> {
    const { protocol, hostPort } = mapping;
    if (hostPort !== 0) {
      if (!reserve(protocol, hostPort)) throw weftError('WEFT-PORT-HOST', { port: hostPort, proto: protocol });
      await claims.claim(protocol, hostPort, service);
      return hostPort;
    }
    for (let attempt = 0; ; attempt++) {
      const port = DYNAMIC.first + random.int(DYNAMIC.count);
      if (ports.has(`${protocol}/${port}`) || !reserve(protocol, port)) continue;
      try {
        await claims.claim(protocol, port, service);
        return port;
      } catch (error) {
        if (attempt >= DYNAMIC_ATTEMPTS) throw error;
      }
    }
  }

  /** Claims of ports that none of this node's endpoints publishes are given up; a store that is away is asked again at the next repair. */
  async function releaseUnused(): Promise<void> {
    const used = new Set(everyRecord().map((record) => `held/ports/${record.protocol}/${record.port}`));
    for (const { key } of local.list('held/ports/')) {
      if (used.has(key)) continue;
      const [protocol, port] = key.slice('held/ports/'.length).split('/');
      await claims.release(protocol!, Number(port));
    }
  }

  const ingress: Ingress = {
    publish: (network: Network, endpoint: Endpoint, service: string) => withUndo(async (undo) => {
      const ip = endpoint.address === undefined ? undefined : withoutLength(endpoint.address);
      if (endpoint.ports.length === 0 || ip === undefined) return [];
      const known = recordsOf(endpoint.id);
      if (known.length > 0) return known.map((record) => ({ protocol: record.protocol, containerPort: record.targetPort, hostPort: record.port, hostIp: '' }));
      const chosen: PortMapping[] = [];
      undo.push(() => {
        schedule();
        return releaseUnused();
      });
      for (const mapping of endpoint.ports) {
        if (mapping.hostIp !== '' && mapping.hostIp !== '0.0.0.0' && mapping.hostIp !== '::') {
          throw weftError('WEFT-FEATURE-MISSING', { feature: `publishing on the address ${mapping.hostIp} of an overlay network`, hint: 'publish on all addresses, or use a weft-bridge network' });
        }
        chosen.push({ ...mapping, hostPort: await claimPort(mapping, service) });
      }
      const records = chosen.map(({ protocol, containerPort, hostPort }): BackendRecord => ({
        networkId: network.id, endpointId: endpoint.id, ip, protocol, port: hostPort, targetPort: containerPort, service, mode: 'ingress',
      }));
      local.put(`published/${endpoint.id}`, JSON.stringify(records));
      for (const record of records) announce(record);
      return chosen;
    }),

    revoke: async (endpointId) => {
      const records = recordsOf(endpointId);
      if (records.length === 0) return;
      local.delete(`published/${endpointId}`);
      for (const record of records) state.withdraw('backend', `${record.protocol}/${record.port}/${record.endpointId}`);
      // A container's stop does not wait for the store.
      releaseUnused().catch((error: unknown) => log.info({ detail: errorText(error) }, 'the claim of a port is given up later'));
    },

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
      // A program of the host may have given its port up, or taken one.
      if (skipped.size > 0) schedule();
      await releaseUnused().catch(() => {});
      return repairs;
    },

    close: async () => {
      stopWatching();
      for (const reservation of reservations.values()) reservation.release();
      reservations.clear();
    },
  };
  return ingress;
}
