/** The index behind NameSource, fed with the name records of all nodes and of this one. */
import type { NameRecord } from '../cluster/state.ts';
import type { NameSource } from './dns.ts';

export interface NameTable extends NameSource {
  /** Adds an endpoint's names, or replaces those it had. */
  put(record: NameRecord): void;
  /** Unknown endpoints are not an error. */
  remove(networkId: string, endpointId: string): void;
}

interface Zone {
  endpoints: Map<string, NameRecord>;
  /** Lower-case name → the endpoints that have it, and their addresses without duplicates, ready to be answered. */
  names: Map<string, { owners: Map<string, string>; ips: string[] }>;
  /** Address → endpoints. One as a rule; two while an address moves, and then the later one counts. */
  addresses: Map<string, Map<string, string>>;
}

const NONE: string[] = [];

export function createNameTable(): NameTable {
  const zones = new Map<string, Zone>();

  function remove(networkId: string, endpointId: string): void {
    const zone = zones.get(networkId);
    const record = zone?.endpoints.get(endpointId);
    if (!zone || !record) return;
    zone.endpoints.delete(endpointId);
    for (const name of namesOf(record)) {
      const entry = zone.names.get(name)!;
      entry.owners.delete(endpointId);
      entry.ips = [...new Set(entry.owners.values())];
      if (entry.owners.size === 0) zone.names.delete(name);
    }
    const owners = zone.addresses.get(record.ip)!;
    owners.delete(endpointId);
    if (owners.size === 0) zone.addresses.delete(record.ip);
    if (zone.endpoints.size === 0) zones.delete(networkId);
  }

  return {
    put: (record) => {
      remove(record.networkId, record.endpointId);
      const zone = getOrMake(zones, record.networkId, (): Zone => ({ endpoints: new Map(), names: new Map(), addresses: new Map() }));
      zone.endpoints.set(record.endpointId, record);
      for (const name of namesOf(record)) {
        const entry = getOrMake(zone.names, name, () => ({ owners: new Map<string, string>(), ips: NONE }));
        entry.owners.set(record.endpointId, record.ip);
        entry.ips = [...new Set(entry.owners.values())];
      }
      getOrMake(zone.addresses, record.ip, () => new Map<string, string>()).set(record.endpointId, record.name);
    },
    remove,
    addresses: (networkId, name) => zones.get(networkId)?.names.get(name.toLowerCase())?.ips ?? NONE,
    nameOf: (networkId, ip) => {
      const owners = zones.get(networkId)?.addresses.get(ip);
      return owners && [...owners.values()].at(-1);
    },
  };
}

const namesOf = (record: NameRecord): Set<string> => new Set([record.name, ...record.names].filter((name) => name !== '').map((name) => name.toLowerCase()));

function getOrMake<Key, Value>(map: Map<Key, Value>, key: Key, make: () => Value): Value {
  let value = map.get(key);
  if (value === undefined) map.set(key, value = make());
  return value;
}
