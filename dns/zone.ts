/** The index behind NameSource, fed with the name records of all nodes and of this one. */
import { familyOf } from '../base/prefix.ts';
import { addressesOf, type NameRecord } from '../cluster/state.ts';
import type { NamedAddresses, NameSource } from './dns.ts';
import { wildcardFor } from './wildcard.ts';

/** Before a service's name: all who answer to it, whatever stands in front of them. */
const TASKS = 'tasks.';
const WILDCARD = '*.';

export interface NameTable extends NameSource {
  /** Adds an endpoint's names, or replaces those it had. `node`: whose endpoint it is, this one's when left out. */
  put(record: NameRecord, node?: string): void;
  /** Unknown endpoints are not an error. */
  remove(networkId: string, endpointId: string): void;
  /** Nodes are nearer or farther than they were. */
  reorder(): void;
}

interface Owner { record: NameRecord; node: string | undefined }

interface Entry {
  owners: Map<string, Owner>;
  /** Of those that are ready, or of all where none is; without duplicates, ready to be answered. Made when somebody asks for the first time since a change. */
  addresses: NamedAddresses | undefined;
  /** Which order of the nodes they are in. */
  order: number;
}

interface Zone {
  endpoints: Map<string, Owner>;
  /** By lower-case name. */
  names: Map<string, Entry>;
  /** Address → endpoints. One as a rule; two while an address moves, and then the later one counts. */
  addresses: Map<string, Map<string, string>>;
  /** How many of the names begin with `*.`: most networks have none. */
  wildcards: number;
}

/** `stepOf`: how near a node is, where those that are nearer come first; the less, the nearer. */
export function createNameTable(stepOf?: (node: string | undefined) => number): NameTable {
  const zones = new Map<string, Zone>();
  let version = 0;
  let order = 0;

  function remove(networkId: string, endpointId: string): void {
    const zone = zones.get(networkId);
    const record = zone?.endpoints.get(endpointId)?.record;
    if (!zone || !record) return;
    version++;
    zone.endpoints.delete(endpointId);
    for (const name of namesOf(record)) {
      const entry = zone.names.get(name)!;
      entry.owners.delete(endpointId);
      entry.addresses = undefined;
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
    put: (record, node) => {
      remove(record.networkId, record.endpointId);
      version++;
      const zone = getOrMake(zones, record.networkId, (): Zone => ({ endpoints: new Map(), names: new Map(), addresses: new Map(), wildcards: 0 }));
      const owner = { record, node };
      zone.endpoints.set(record.endpointId, owner);
      for (const name of namesOf(record)) {
        const entry = getOrMake(zone.names, name, (): Entry => {
          if (name.startsWith(WILDCARD)) zone.wildcards++;
          return { owners: new Map(), addresses: undefined, order };
        });
        entry.owners.set(record.endpointId, owner);
        entry.addresses = undefined;
      }
      for (const ip of addressesOf(record)) getOrMake(zone.addresses, ip, () => new Map<string, string>()).set(record.endpointId, record.name);
    },
    remove,
    reorder: () => {
      version++;
      order++;
    },
    addresses: (networkId, name) => {
      const entry = find(networkId, name);
      if (!entry) return undefined;
      if (entry.addresses && entry.order === order) return entry.addresses;
      entry.order = order;
      return entry.addresses = stepOf ? nearestFirst(entry, stepOf) : byFamily(entry);
    },
    services: (networkId, name) => {
      const entry = find(networkId, name);
      return entry && preferred(entry).filter(({ record }) => record.name !== '').map(({ record, node }) => ({ name: record.name, ports: record.ports ?? [], addresses: addressesOf(record), ...(stepOf && { step: stepOf(node) }) }));
    },
    nameOf: (networkId, ip) => {
      const owners = zones.get(networkId)?.addresses.get(ip);
      return owners && [...owners.values()].at(-1);
    },
  };
}

/** Those whose health check passes, or that have none; where all fail, any may still answer. */
function preferred({ owners }: Entry): readonly Owner[] {
  const all = [...owners.values()];
  const ready = all.filter(({ record }) => !record.unready);
  return ready.length > 0 ? ready : all;
}

function byFamily(entry: Entry): NamedAddresses {
  const all = [...new Set(preferred(entry).flatMap(({ record }) => addressesOf(record)))];
  return { 4: all.filter((ip) => familyOf(ip) === 4), 6: all.filter((ip) => familyOf(ip) === 6) };
}

function nearestFirst(entry: Entry, stepOf: (node: string | undefined) => number): NamedAddresses {
  const steps = new Map<string, number>();
  for (const { record, node } of preferred(entry)) for (const ip of addressesOf(record)) steps.set(ip, stepOf(node));
  const sorted = [...steps.keys()].toSorted((a, b) => (steps.get(a) === steps.get(b) ? 0 : steps.get(a)! - steps.get(b)!));
  const [four, six] = ([4, 6] as const).map((family) => sorted.filter((ip) => familyOf(ip) === family)) as [string[], string[]];
  const sizes = (ips: string[]): number[] => [...Map.groupBy(ips, (ip) => steps.get(ip)).values()].map(({ length }) => length);
  return { 4: four, 6: six, groups: { 4: sizes(four), 6: sizes(six) } };
}

/** The service's name without its compose project: Docker Compose gives it as an alias, too. */
const namesOf = ({ name, names, service }: NameRecord): Set<string> =>
  new Set([name, ...names, service.slice(service.lastIndexOf('/') + 1)].filter((each) => each !== '').map((each) => each.toLowerCase()));

function getOrMake<Key, Value>(map: Map<Key, Value>, key: Key, make: () => Value): Value {
  let value = map.get(key);
  if (value === undefined) map.set(key, value = make());
  return value;
}
