/** The index behind NameSource, fed with the name records of all nodes and of this one. */
import { familyOf } from '../base/prefix.ts';
import { addressesOf, type NameRecord } from '../cluster/state.ts';
import type { NamedAddresses, NameSource } from './dns.ts';

export interface NameTable extends NameSource {
  /** Adds an endpoint's names, or replaces those it had. */
  put(record: NameRecord): void;
  /** Unknown endpoints are not an error. */
  remove(networkId: string, endpointId: string): void;
}

interface Zone {
  endpoints: Map<string, NameRecord>;
  /** Lower-case name → the endpoints that have it, and their addresses without duplicates, ready to be answered. */
  names: Map<string, { owners: Map<string, readonly string[]>; addresses: NamedAddresses }>;
  /** Address → endpoints. One as a rule; two while an address moves, and then the later one counts. */
  addresses: Map<string, Map<string, string>>;
}

const NONE: NamedAddresses = { 4: [], 6: [] };

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
      entry.addresses = byFamily(entry.owners.values());
      if (entry.owners.size === 0) zone.names.delete(name);
    }
    for (const ip of addressesOf(record)) {
      const owners = zone.addresses.get(ip)!;
      owners.delete(endpointId);
      if (owners.size === 0) zone.addresses.delete(ip);
    }
    if (zone.endpoints.size === 0) zones.delete(networkId);
  }

  return {
    put: (record) => {
      remove(record.networkId, record.endpointId);
      const zone = getOrMake(zones, record.networkId, (): Zone => ({ endpoints: new Map(), names: new Map(), addresses: new Map() }));
      zone.endpoints.set(record.endpointId, record);
      for (const name of namesOf(record)) {
        const entry = getOrMake(zone.names, name, () => ({ owners: new Map<string, readonly string[]>(), addresses: NONE }));
        entry.owners.set(record.endpointId, addressesOf(record));
        entry.addresses = byFamily(entry.owners.values());
      }
      for (const ip of addressesOf(record)) getOrMake(zone.addresses, ip, () => new Map<string, string>()).set(record.endpointId, record.name);
    },
    remove,
    addresses: (networkId, name) => zones.get(networkId)?.names.get(name.toLowerCase())?.addresses,
    nameOf: (networkId, ip) => {
      const owners = zones.get(networkId)?.addresses.get(ip);
      return owners && [...owners.values()].at(-1);
    },
  };
}

function byFamily(owned: Iterable<readonly string[]>): NamedAddresses {
  const all = [...new Set([...owned].flat())];
  return { 4: all.filter((ip) => familyOf(ip) === 4), 6: all.filter((ip) => familyOf(ip) === 6) };
}

const namesOf = (record: NameRecord): Set<string> => new Set([record.name, ...record.names].filter((name) => name !== '').map((name) => name.toLowerCase()));

function getOrMake<Key, Value>(map: Map<Key, Value>, key: Key, make: () => Value): Value {
  let value = map.get(key);
  if (value === undefined) map.set(key, value = make());
  return value;
}
