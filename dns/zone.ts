/** The index behind NameSource, fed with the name records of all nodes and of this one. */
import { familyOf } from '../base/prefix.ts';
import { addressesOf, type NameRecord } from '../cluster/state.ts';
import type { NamedAddresses, NameSource } from './dns.ts';
import { wildcardFor } from './wildcard.ts';

/** Before a service's name: all who answer to it, whatever stands in front of them. */
const TASKS = 'tasks.';
const WILDCARD = '*.';

export interface NameTable extends NameSource {
  /** Adds an endpoint's names, or replaces those it had. */
  put(record: NameRecord): void;
  /** Unknown endpoints are not an error. */
  remove(networkId: string, endpointId: string): void;
}

interface Entry {
  owners: Map<string, NameRecord>;
  /** Of those that are ready, or of all where none is; without duplicates, ready to be answered. */
  addresses: NamedAddresses;
}

interface Zone {
  endpoints: Map<string, NameRecord>;
  /** By lower-case name. */
  names: Map<string, Entry>;
  /** Address → endpoints. One as a rule; two while an address moves, and then the later one counts. */
  addresses: Map<string, Map<string, string>>;
  /** How many of the names begin with `*.`: most networks have none. */
  wildcards: number;
}

const NONE: NamedAddresses = { 4: [], 6: [] };

export function createNameTable(): NameTable {
  const zones = new Map<string, Zone>();
  let version = 0;

  function remove(networkId: string, endpointId: string): void {
    const zone = zones.get(networkId);
    const record = zone?.endpoints.get(endpointId);
    if (!zone || !record) return;
    version++;
    zone.endpoints.delete(endpointId);
    for (const name of namesOf(record)) {
      const entry = zone.names.get(name)!;
      entry.owners.delete(endpointId);
      entry.addresses = byFamily(entry);
      if (entry.owners.size > 0) continue;
      zone.names.delete(name);
      if (name.startsWith(WILDCARD)) zone.wildcards--;
    }
    for (const ip of addressesOf(record)) {
      const owners = zone.addresses.get(ip)!;
      owners.delete(endpointId);
      if (owners.size === 0) zone.addresses.delete(ip);
    }
    if (zone.endpoints.size === 0) zones.delete(networkId);
  }

  function find(networkId: string, text: string): Entry | undefined {
    const zone = zones.get(networkId);
    if (!zone) return undefined;
    const { names } = zone;
    const name = text.toLowerCase();
    const found = names.get(name) ?? (name.startsWith(TASKS) ? names.get(name.slice(TASKS.length)) : undefined);
    if (found || zone.wildcards === 0) return found;
    const wildcard = wildcardFor(name, (each) => names.has(each));
    return wildcard === undefined ? undefined : names.get(wildcard);
  }

  return {
    get version() { return version; },
    put: (record) => {
      remove(record.networkId, record.endpointId);
      version++;
      const zone = getOrMake(zones, record.networkId, (): Zone => ({ endpoints: new Map(), names: new Map(), addresses: new Map(), wildcards: 0 }));
      zone.endpoints.set(record.endpointId, record);
      for (const name of namesOf(record)) {
        const entry = getOrMake(zone.names, name, (): Entry => {
          if (name.startsWith(WILDCARD)) zone.wildcards++;
          return { owners: new Map(), addresses: NONE };
        });
        entry.owners.set(record.endpointId, record);
        entry.addresses = byFamily(entry);
      }
      for (const ip of addressesOf(record)) getOrMake(zone.addresses, ip, () => new Map<string, string>()).set(record.endpointId, record.name);
    },
    remove,
    addresses: (networkId, name) => find(networkId, name)?.addresses,
    services: (networkId, name) => {
      const entry = find(networkId, name);
      return entry && preferred(entry).filter((record) => record.name !== '').map((record) => ({ name: record.name, ports: record.ports ?? [], addresses: addressesOf(record) }));
    },
    nameOf: (networkId, ip) => {
      const owners = zones.get(networkId)?.addresses.get(ip);
      return owners && [...owners.values()].at(-1);
    },
  };
}

/** Those whose health check passes, or that have none; where all fail, any may still answer. */
function preferred({ owners }: Entry): readonly NameRecord[] {
  const all = [...owners.values()];
  const ready = all.filter(({ unready }) => !unready);
  return ready.length > 0 ? ready : all;
}

function byFamily(entry: Entry): NamedAddresses {
  const all = [...new Set(preferred(entry).flatMap(addressesOf))];
  return { 4: all.filter((ip) => familyOf(ip) === 4), 6: all.filter((ip) => familyOf(ip) === 6) };
}

/** The service's name without its compose project: Docker Compose gives it as an alias, too. */
const namesOf = ({ name, names, service }: NameRecord): Set<string> =>
  new Set([name, ...names, service.slice(service.lastIndexOf('/') + 1)].filter((each) => each !== '').map((each) => each.toLowerCase()));

function getOrMake<Key, Value>(map: Map<Key, Value>, key: Key, make: () => Value): Value {
  let value = map.get(key);
  if (value === undefined) map.set(key, value = make());
  return value;
}
