/**
 * Tells the cluster who is where: the address of an endpoint as soon as Join was answered, its names only while its
 * link has carrier, since a name that resolves before its container answers sends clients into time-outs.
 */
import { withoutLength } from '../base/ip.ts';
import type { Endpoints } from '../cnm/controller.ts';
import type { Endpoint, Network, Workload } from '../cnm/model.ts';
import type { NameRecord, SoftState } from '../cluster/state.ts';
import type { LocalStore } from '../store/store.ts';

export interface Publisher {
  joined(network: Network, endpoint: Endpoint): void;
  left(endpoint: Endpoint): void;
  carrier(endpointId: string, up: boolean): void;
  /** Who is behind an endpoint that has joined became known, or changed. Docker tells also of those that are not ours, or not any more: they are passed over. */
  workload(workload: Workload): void;
  workloadOf(endpointId: string): Workload | undefined;
}

interface Published { network: Network; endpoint: Endpoint; named: boolean }

/** The names that are answered here: those of every node's containers, and those on networks of this node alone, which never leave it. */
export interface LocalNames { put(record: NameRecord, node?: string): void; remove(networkId: string, endpointId: string): void }

const WORKLOADS = 'workloads/';

export interface PublisherOptions { state: SoftState; names: LocalNames; endpoints: Pick<Endpoints, 'get'>; local: LocalStore }

export function createPublisher({ state, names, endpoints, local }: PublisherOptions): Publisher {
  const joined = new Map<string, Published>();
  const workloads = new Map(local.list(WORKLOADS).map(({ value }) => {
    const workload = JSON.parse(value) as Workload;
    return [workload.endpointId, workload];
  }));
  local.transaction(() => {
    for (const endpointId of workloads.keys()) if (!endpoints.get(endpointId)) forget(endpointId);
  });
  const carriers = new Set<string>();
  state.watch('name', (change) => {
    if (change.type === 'put') names.put(change.record.value, change.local ? undefined : change.record.owner);
    else names.remove(change.record.value.networkId, change.record.value.endpointId);
  });

  function forget(endpointId: string): void {
    if (workloads.delete(endpointId)) local.delete(WORKLOADS + endpointId, { flush: false });
  }

  function refresh(entry: Published): void {
    const { network, endpoint } = entry;
    const workload = workloads.get(endpoint.id);
    const addresses = addressesIn(endpoint);
    if (!addresses) return;
    if (workload && carriers.has(endpoint.id)) {
      const record: NameRecord = {
        networkId: network.id, networkName: network.name, endpointId: endpoint.id, ...addresses, name: workload.name, names: workload.names, service: workload.service,
        ...(workload.ports && { ports: workload.ports }), ...(workload.unready && { unready: true }), ...(workload.records && { records: workload.records }),
      };
      if (network.scope === 'node') names.put(record);
      else state.publish('name', endpoint.id, record);
      entry.named = true;
    } else if (entry.named) {
      unname(entry);
    }
  }

  function unname(entry: Published): void {
    if (entry.network.scope === 'node') names.remove(entry.network.id, entry.endpoint.id);
    else state.withdraw('name', entry.endpoint.id);
    entry.named = false;
  }

  return {
    joined: (network, endpoint) => {
      const entry = { network, endpoint, named: false };
      joined.set(endpoint.id, entry);
      const addresses = addressesIn(endpoint);
      if (network.scope === 'cluster' && addresses) {
        state.publish('endpoint', endpoint.id, { networkId: network.id, endpointId: endpoint.id, ...addresses, mac: endpoint.mac });
      }
      refresh(entry);
    },
    left: (endpoint) => {
      const entry = joined.get(endpoint.id);
      joined.delete(endpoint.id);
      forget(endpoint.id);
      carriers.delete(endpoint.id);
      if (!entry) return;
      unname(entry);
      if (entry.network.scope === 'cluster') state.withdraw('endpoint', endpoint.id);
    },
    carrier: (endpointId, up) => {
      if (up) carriers.add(endpointId);
      else carriers.delete(endpointId);
      const entry = joined.get(endpointId);
      if (entry) refresh(entry);
    },
    workload: (workload) => {
      // Docker's answer may be late: what has left is about to be deleted.
      const entry = joined.get(workload.endpointId);
      if (!entry) return;
      const text = JSON.stringify(workload);
      if (JSON.stringify(workloads.get(workload.endpointId)) === text) return;
      local.put(WORKLOADS + workload.endpointId, text, { flush: false });
      workloads.set(workload.endpointId, workload);
      refresh(entry);
    },
    workloadOf: (endpointId) => workloads.get(endpointId),
  };
}

/** As records have them; undefined where there are none. */
export function addressesIn({ address, addressIpv6 }: Endpoint): { ip: string; ip6?: string } | undefined {
  const [ip, ip6] = [address, addressIpv6].filter((each) => each !== undefined).map(withoutLength);
  return ip === undefined ? undefined : { ip, ...(ip6 !== undefined && { ip6 }) };
}
