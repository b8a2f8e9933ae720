/** Records by labels of containers, on their networks, for as long as their names are there. Several containers may add to one name. */
import type { NameRecord } from '../cluster/state.ts';
import type { OwnName, OwnRecords, RecordSet } from './own-records.ts';
import { parseRecordName, parseRecordType, parseRecordValue, type RecordType } from './record-values.ts';

interface Labelled { name: string; type: RecordType; value: string }

export interface LabelledRecords {
  /** Those of an endpoint, in place of those it had. */
  put(record: NameRecord): void;
  /** Unknown endpoints are not an error. */
  remove(networkId: string, endpointId: string): void;
}

/** Kept beside the operator's own records, which come first. */
export function createLabelledRecords(records: Pick<OwnRecords, 'putLabelled'>): LabelledRecords {
  /** By network, then by endpoint. */
  const networks = new Map<string, Map<string, Labelled[]>>();

  /** What all endpoints of a network say about these names. */
  function refresh(networkId: string, names: ReadonlySet<string>): void {
    if (names.size === 0) return;
    const all = [...networks.get(networkId)?.values() ?? []].flat();
    for (const name of names) records.putLabelled({ name, networkId, sets: setsOf(all.filter((each) => each.name === name)) });
  }

  function remove(networkId: string, endpointId: string): string[] {
    const endpoints = networks.get(networkId);
    const before = endpoints?.get(endpointId) ?? [];
    endpoints?.delete(endpointId);
    if (endpoints?.size === 0) networks.delete(networkId);
    return before.map(({ name }) => name);
  }

  return {
    put: ({ networkId, endpointId, records: written = [] }) => {
      const names = remove(networkId, endpointId);
      const labelled = written.flatMap(checked);
      if (labelled.length > 0) networks.set(networkId, (networks.get(networkId) ?? new Map<string, Labelled[]>()).set(endpointId, labelled));
      refresh(networkId, new Set([...names, ...labelled.map(({ name }) => name)]));
    },
    remove: (networkId, endpointId) => refresh(networkId, new Set(remove(networkId, endpointId))),
  };
}

/** The node that says so may be another version's. */
function checked({ name, type, value }: { name: string; type: string; value: string }): Labelled[] {
  try {
    const known = parseRecordType(type);
    return [{ name: parseRecordName(name, { wildcard: true }), type: known, value: parseRecordValue(known, value) }];
  } catch {
    return [];
  }
}

/** An alias is alone with its name (RFC 1034 §3.6.2): beside others it does not count, and of several the first by alphabet does. */
function setsOf(labelled: readonly Labelled[]): OwnName['sets'] {
  const valuesOf = new Map<RecordType, Set<string>>();
  for (const { type, value } of labelled) valuesOf.set(type, (valuesOf.get(type) ?? new Set()).add(value));
  const aliases = [...valuesOf.get('CNAME') ?? []].sort();
  valuesOf.delete('CNAME');
  if (valuesOf.size === 0 && aliases.length > 0) return { CNAME: { values: aliases.slice(0, 1) } };
  return Object.fromEntries([...valuesOf].map(([type, values]): [RecordType, RecordSet] => [type, { values: [...values] }]));
}
