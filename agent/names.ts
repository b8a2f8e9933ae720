/** Names, wired: what is known of them, who is told, and the resolver in every sandbox. */
import type { Clock } from '../base/clock.ts';
import { weftError } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';
import type { Random } from '../base/random.ts';
import type { Endpoints } from '../cnm/controller.ts';
import type { Endpoint, Network } from '../cnm/model.ts';
import { addressesOf, type SoftState } from '../cluster/state.ts';
import type { HostDnsState, Resolver } from '../dns/dns.ts';
import { createLabelledRecords } from '../dns/labelled-records.ts';
import { createNearness } from '../dns/nearness.ts';
import { createOwnRecords } from '../dns/own-records.ts';
import { createResolver } from '../dns/resolver.ts';
import { RESOLVER_ADDRESS } from '../dns/sockets.ts';
import { createNameTable } from '../dns/zone.ts';
import type { LocalStore, Store } from '../store/store.ts';
import type { DnsCalls, HostDnsAnswer } from './api.ts';
import { HOST_DNS_ADDRESS, type Config } from './config.ts';
import { createDnsRecords } from './dns-records.ts';
import { createQueryLog } from './query-log.ts';
import type { NetworkRegistry } from './networks.ts';
import { addressesIn, createPublisher, type LocalNames, type Publisher } from './publisher.ts';
import { createSandboxes, type Sandboxes } from './sandboxes.ts';

export interface NamesOptions {
  config: Pick<Config, 'dns'>;
  store: Store;
  local: LocalStore;
  state: SoftState;
  registry: NetworkRegistry;
  endpoints: Endpoints;
  /** Endpoints that are not Docker's. */
  isNative(endpointId: string): boolean;
  /** This node's own address in the fabric. */
  address: string;
  /** Between this node and another, as estimated, in milliseconds; undefined while it is not known. */
  roundTrip(node: string): number | undefined;
  clock: Clock;
  random: Random;
  log: Logger;
}

export interface Names {
  readonly publisher: Publisher;
  readonly resolver: Resolver;
  readonly sandboxes: Sandboxes;
  readonly calls: DnsCalls;
  /** Where programs in sandboxes ask. */
  readonly nameServer: string;
  joined(network: Network, endpoint: Endpoint): void;
  left(network: Network, endpoint: Endpoint): void;
  /** The operator's records are followed in the store from then on, and how near the nodes are. */
  follow(): () => void;
}

export function createNames({ config, store, local, state, registry, endpoints, isNative, address, roundTrip, clock, random, log }: NamesOptions): Names {
  const nearness = config.dns.order === 'nearest' ? createNearness({ roundTrip, clock, onChange: () => names.reorder() }) : undefined;
  const names = createNameTable(nearness?.stepOf);
  const records = createOwnRecords();
  const labelled = createLabelledRecords(records);
  const told: LocalNames = {
    put: (record, node) => {
      names.put(record, node);
      labelled.put(record);
    },
    remove: (networkId, endpointId) => {
      names.remove(networkId, endpointId);
      labelled.remove(networkId, endpointId);
    },
  };
  const publisher = createPublisher({ state, names: told, endpoints, local });
  const listen = config.dns.listen === true ? address : config.dns.listen || undefined;
  const resolver = createResolver({ names, records, networks: registry.list, log, clock, random, ...config.dns, listen });
  const sandboxes = createSandboxes({ resolver, log });
  const dnsRecords = createDnsRecords({ store, local, registry, records, log });

  const nameAt = (path: string): string | undefined => {
    const endpoint = endpoints.list().find(({ id, sandbox }) => sandbox === path && publisher.workloadOf(id));
    return endpoint && publisher.workloadOf(endpoint.id)!.name;
  };
  const queryLog = createQueryLog({ resolver, nameAt, log });

  /** A container's or a sandbox's, by its name or the beginning of its id. */
  function sandboxOf(reference: string): { path: string; name: string } {
    for (const { id, sandbox } of endpoints.list()) {
      const workload = publisher.workloadOf(id);
      if (sandbox !== undefined && workload && (workload.name === reference || (reference.length >= 4 && workload.containerId?.startsWith(reference)))) return { path: sandbox, name: workload.name };
    }
    throw weftError('WEFT-CONTAINER-UNKNOWN', { name: reference });
  }

  return {
    publisher, resolver, sandboxes, nameServer: listen ?? RESOLVER_ADDRESS,
    joined: (network, endpoint) => {
      publisher.joined(network, endpoint);
      const addresses = addressesIn(endpoint);
      if (endpoint.sandbox !== undefined) sandboxes.joined(endpoint.sandbox, network, addresses ? addressesOf(addresses) : [], isNative(endpoint.id));
    },
    left: (network, endpoint) => {
      publisher.left(endpoint);
      if (endpoint.sandbox !== undefined) sandboxes.left(endpoint.sandbox, network);
    },
    follow: () => {
      const stops = [dnsRecords.follow(), nearness?.follow()];
      return () => stops.forEach((stop) => stop?.());
    },
    calls: {
      dnsRecords: async () => dnsRecords.list(),
      addDnsRecord: dnsRecords.add,
      removeDnsRecord: dnsRecords.remove,
      dnsLookup: async ({ name, type, from }) => resolver.trace(sandboxOf(from).path, name, type ?? 'A'),
      dnsLog: async () => queryLog.state(),
      // One that is gone can still be switched off.
      setDnsLog: async ({ on, from }) => queryLog.set(on, from === undefined || !on ? from : sandboxOf(from).name),
      dnsHost: async () => described(resolver.host!.state()),
      setDnsHost: async ({ on, address: at = HOST_DNS_ADDRESS }) => described(await resolver.host!.change(on ? at : undefined)),
    },
  };
}

const described = ({ address, resolved }: HostDnsState): HostDnsAnswer => ({ ...(address !== undefined && { address }), resolved });
