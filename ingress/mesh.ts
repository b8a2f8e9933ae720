/**
 * Published ports on every node, and those of one node on an address of its own. What is published is soft state (one
 * record per backend); this node's part is to hold the port, to spread new connections over the backends, and to say where
 * it could not.
 */
import type { Clock } from '../base/clock.ts';
import { WeftError, errorText, weftError } from '../base/errors.ts';
import { hostPort } from '../base/ip.ts';
import type { Logger } from '../base/log.ts';
import { familyOf, type Family } from '../base/prefix.ts';
import type { Random } from '../base/random.ts';
import { withUndo } from '../base/undo.ts';
import type { Endpoint, Network, PortMapping, Protocol } from '../cnm/model.ts';
import { addressesOf, choiceOf, distinctPorts, hasNoChoice, portKey, targetsOf } from '../cnm/ports.ts';
import { createSerializer } from '../cnm/serialize.ts';
import { addressesOf as addressesIn, type BackendRecord, type SoftState } from '../cluster/state.ts';
import { isIpv6On } from '../drivers/ipv6.ts';
import { deleteFlows } from '../linux/conntrack.ts';
import { EVERY_ADDRESS } from '../linux/port-reservation.ts';
import type { Netns, Nft } from '../linux/types.ts';
import type { LocalStore } from '../store/store.ts';
import { type Backend, keyOf, watchBackends } from './backends.ts';
import type { PortClaims } from './claims.ts';
import { createHeldPorts, isEveryAddress, type HostPort } from './held-ports.ts';
import type { Ingress, PublishedPort } from './ingress.ts';
import { createPortTable, type WantedPort } from './table.ts';

const RANDOM_ATTEMPTS = 64;

export interface MeshOptions {
  host: Netns;
  nft: Nft;
  state: SoftState;
  claims: PortClaims;
  local: LocalStore;
  clock: Clock;
  random: Random;
  log: Logger;
  /** The fabric lets traffic of other nodes through to these only. */
  onLocalBackends(backends: { ip: string; protocol: Protocol; port: number }[]): void;
  /** Ports that this node could not have ('tcp/8080', 'tcp/192.0.2.1:8080'; 'tcp/[::]:8080' where it could not for IPv6). */
  onSkipped(ports: string[]): void;
  /** A UDP backend went, whose flows must not stick to it. */
  forgetFlows(backend: { ip: string; port: number }): void;
  nodeName(id: string): string;
}

/** What is being published, until its record says so, and where it is held. */
interface Starting { key: string; service: string; at: HostPort[] }

interface Publishing {
  service: string;
  /** Of the host. */
  addresses: string[];
  taken: Starting[];
}

const hostAddresses = (hostIp: string, families: readonly Family[]): string[] => (hostIp === '' ? families.map((family) => EVERY_ADDRESS[family]) : [hostIp]);
/** How a node says that it left a port out: for IPv6 alone, where the port is on every address. */
const skippedKey = (protocol: Protocol, hostIp: string, port: number, family: Family): string => portKey(protocol, hostIp === '' && family === 6 ? EVERY_ADDRESS[6] : hostIp, port);

export function createMesh(options: MeshOptions): Ingress {
  const { host, state, claims, local, random, log } = options;
  const table = createPortTable(options.nft);
  const held = createHeldPorts(host);
  const skipped = new Set<string>();
  /** Ports in the middle of being published, once for each time: nobody gives them up, though nothing says so yet. */
  const starting: Starting[] = [];
  const isStarting = (key: string): boolean => starting.some((each) => each.key === key);
  const serialize = createSerializer();
  /** UDP backends that flows may lead to, by port and backend. */
  let known = new Map<string, { ip: string; port: number }>();
  let scheduled = false;
  let closed = false;

  /** Whose the port is on this node, as far as is known here. */
  const holder = (key: string): string | undefined => published.port(key)?.service ?? starting.find((each) => each.key === key)?.service;

  const addressesOfAll = (backends: readonly Backend[], family: Family): { ip: string; port: number }[] =>
    backends.flatMap(({ record }) => addressesIn(record).flatMap((ip) => (familyOf(ip) === family ? [{ ip, port: record.targetPort }] : [])));

  function apply(): void {
    scheduled = false;
    if (closed) return;
    const skippedBefore = [...skipped].sort().join();
    skipped.clear();
    const families: Family[] = isIpv6On(host) ? [4, 6] : [4];
    const wanted = new Map<string, WantedPort>();
    const inUse: HostPort[] = [];
    const udp: typeof known = new Map();
    for (const { protocol, hostIp, port, node, backends } of published.ports()) {
      if (node !== undefined && node !== state.self) continue;
      for (const family of families) {
        const all = addressesOfAll([...backends.values()], family);
        if (all.length === 0) continue;
        // What comes new is for those that are there, unless there is nobody else.
        const sure = addressesOfAll([...backends.values()].filter(({ failing }) => failing === undefined), family);
        const asked = [...new Set((sure.length > 0 ? sure : all).map((each) => hostPort(each.ip, each.port)))].sort();
        const at = { protocol, address: hostIp === '' ? EVERY_ADDRESS[family] : hostIp, port };
        if (held.hold(at) === 'held') {
          inUse.push(at);
          const key = portKey(protocol, at.address, port);
          wanted.set(key, { family, protocol, ip: hostIp, port, backends: asked });
          if (protocol === 'udp') for (const each of all) udp.set(`${key} ${hostPort(each.ip, each.port)}`, each);
        } else skipped.add(skippedKey(protocol, hostIp, port, family));
      }
    }
    held.keepOnly([...inUse, ...starting.flatMap(({ at }) => at)]);
    const opened = table.apply(wanted);
    // A UDP flow keeps its way for as long as packets come: also one that led nowhere, or to a backend that is gone.
    for (const { family, protocol, ip, port } of opened) if (protocol === 'udp') deleteFlows(host, { protocol, family, ...(ip !== '' && { originalDestination: ip }), originalDestinationPort: port });
    for (const [key, backend] of known) if (!udp.has(key)) options.forgetFlows(backend);
    known = udp;
    // Other nodes have no business with what is published on this one alone.
    const mine = [...published.ports()].filter(({ node }) => node === undefined).flatMap((port) => [...port.backends.values()].filter(({ node }) => node === state.self));
    options.onLocalBackends(mine.flatMap(({ record }) => addressesIn(record).map((ip) => ({ ip, protocol: record.protocol, port: record.targetPort }))));
    if ([...skipped].sort().join() !== skippedBefore) options.onSkipped([...skipped].sort());
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

  const published = watchBackends(state, options.clock, schedule);

  const recordsOf = (endpointId: string): BackendRecord[] => JSON.parse(local.get(`published/${endpointId}`) ?? '[]') as BackendRecord[];
  const announce = (record: BackendRecord): void => state.publish('backend', `${keyOf(record)}/${record.endpointId}`, record);
  const everyRecord = (): BackendRecord[] => local.list('published/').flatMap(({ value }) => JSON.parse(value) as BackendRecord[]);
  everyRecord().forEach(announce);

  /** Reserves on `addresses` of the host and claims; the port is added to `taken`, which are those of one publishing. `alone`: not shared, not even with the same service. */
  async function take({ protocol, hostIp }: PortMapping, port: number, { service, addresses, taken, alone }: Publishing & { alone: boolean }): Promise<void> {
    const key = portKey(protocol, hostIp, port);
    const other = hostIp === '' ? undefined : holder(key);
    if (other !== undefined && other !== service) throw weftError('WEFT-PORT-HELD', { port, proto: protocol, service: other });
    const begun = { key, service, at: addresses.map((address) => ({ protocol, address, port })) };
    for (const at of begun.at) {
      const result = held.hold(at);
      if (result === 'no-address') throw weftError('WEFT-PORT-ADDRESS', { address: at.address });
      if (result === 'held') continue;
      const own = held.inTheWay(at);
      const by = own && holder(portKey(protocol, isEveryAddress(own.address) ? '' : own.address, port));
      throw by === undefined ? weftError('WEFT-PORT-HOST', { port, proto: protocol }) : weftError('WEFT-PORT-HELD', { port, proto: protocol, service: by });
    }
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

  async function choose(mapping: PortMapping, publishing: Publishing): Promise<number> {
    const { protocol, hostIp, hostPort: asked } = mapping;
    if (hasNoChoice(mapping)) {
      await take(mapping, asked, { ...publishing, alone: false });
      return asked;
    }
    for (const port of candidates(mapping)) {
      // Another's, perhaps of the same service: that is asked for by its number only.
      if (holder(portKey(protocol, hostIp, port)) !== undefined) continue;
      try {
        await take(mapping, port, { ...publishing, alone: true });
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
      if (endpoint.ports.length === 0) return [];
      const addresses = addressesOf(endpoint);
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
          const hosts = hostAddresses(hostIp, targetsOf(mapping, addresses).map(familyOf));
          chosen.push({ protocol, containerPort, hostPort: await choose(mapping, { service, addresses: hosts, taken }), hostIp });
        }
        const records = chosen.map((mapping): BackendRecord => {
          const { protocol, containerPort, hostPort: port, hostIp } = mapping;
          const [ip, ip6] = targetsOf(mapping, addresses);
          return {
            networkId: network.id, endpointId: endpoint.id, ip: ip!, ...(ip6 !== undefined && { ip6 }), protocol, port, targetPort: containerPort, service,
            ...(hostIp === '' ? { mode: 'ingress' } : { mode: 'host', hostIp }),
          };
        });
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

    list: () => [...published.ports()].map((port) => ({ ...port, backends: [...port.backends.values()].filter(({ failing }) => failing === undefined) })).filter(({ backends }) => backends.length > 0).map((port): PublishedPort => ({
      protocol: port.protocol,
      hostIp: port.hostIp,
      port: port.port,
      service: port.service,
      mode: port.node === undefined ? 'ingress' : 'host',
      backends: port.backends.map(({ node, record }) => ({ endpointId: record.endpointId, node: options.nodeName(node), ip: record.ip, ...(record.ip6 !== undefined && { ip6: record.ip6 }), port: record.targetPort })),
      skippedOn: state.list('node').filter(({ owner }) => port.node === undefined || port.node === owner).flatMap(({ value }) => {
        const [ipv4, ipv6] = ([4, 6] as const).map((family) => value.skippedPorts.includes(skippedKey(port.protocol, port.hostIp, port.port, family)));
        return ipv4 || (ipv6 && port.hostIp !== '') ? [value.name] : ipv6 ? [`${value.name} for IPv6`] : [];
      }),
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
      published.close();
      held.keepOnly([]);
    },
  };
  return ingress;
}
