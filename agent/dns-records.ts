/**
 * Records of the operator's own: in the store, so on all nodes, and a copy on this node's disk, so that they are there before the store has
 * answered. All that a name has on a network is one entry of the store: a change of it is guarded by one compare.
 */
import { errorText, weftError } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';
import type { Network } from '../cnm/model.ts';
import type { OwnName, OwnRecords, RecordSet } from '../dns/own-records.ts';
import { checkTtl, parseRecordName, parseRecordType, parseRecordValue, RECORD_TYPES, type RecordType } from '../dns/record-values.ts';
import type { LocalStore, Store } from '../store/store.ts';
import type { AddDnsRecordRequest, DnsRecordAnswer, DnsRecordRequest } from './api.ts';
import type { NetworkRegistry } from './networks.ts';

const STORED = 'dns-records/';
const COPIES = 'cache/dns-records/';
/** Instead of a network's id, for those of all networks. */
const EVERYWHERE = 'all';
/** Of one name and type: what a client can be expected to read through. */
const MOST_VALUES = 64;
/** Each attempt that fails means that somebody else changed the name meanwhile. */
const ATTEMPTS = 16;

export interface DnsRecords {
  list(): DnsRecordAnswer[];
  /** The value is one more of its name and type; with a TTL, all of these get it. Idempotent. Throws WEFT-RECORD-…, WEFT-NETWORK-UNKNOWN, WEFT-STORE-CONFLICT. */
  add(request: AddDnsRecordRequest): Promise<DnsRecordAnswer[]>;
  /** One value, all of a type, or all that the name has; what was removed. Throws WEFT-RECORD-UNKNOWN, WEFT-STORE-CONFLICT. */
  remove(request: DnsRecordRequest): Promise<DnsRecordAnswer[]>;
  /** Follows the store from now on. */
  follow(): () => void;
}

export interface DnsRecordsOptions { store: Store; local: LocalStore; registry: NetworkRegistry; records: OwnRecords; log: Logger }

export function createDnsRecords({ store, local, registry, records, log }: DnsRecordsOptions): DnsRecords {
  /** By key below STORED. */
  const known = new Map<string, OwnName>();
  for (const { key, value } of local.list(COPIES)) learn(key.slice(COPIES.length), JSON.parse(value) as OwnName);

  function learn(key: string, own: OwnName): void {
    known.set(key, own);
    records.put(own);
  }

  function remember(key: string, value: string): void {
    const own = JSON.parse(value) as OwnName;
    if (JSON.stringify(known.get(key)) === value) return;
    local.put(COPIES + key, value);
    learn(key, own);
  }

  function forget(key: string): void {
    const own = known.get(key);
    if (!own) return;
    local.delete(COPIES + key);
    known.delete(key);
    records.remove(own.networkId, own.name);
  }

  registry.onChange(({ type, network }) => {
    if (type !== 'delete') return;
    const orphans = [...known].filter(([, { networkId }]) => networkId === network.id).map(([key]) => key);
    if (orphans.length > 0) void purge(network, orphans);
  });

  /** Every node tries; what none could remove is listed under the network's id. */
  async function purge(network: Network, keys: readonly string[]): Promise<void> {
    try {
      await store.txn([], keys.map((key) => ({ delete: STORED + key })));
      keys.forEach(forget);
    } catch (error) {
      log.warn({ network: network.name, detail: errorText(error) }, 'records of a network that is gone are still there');
    }
  }

  /** Records may outlive their network, and are known by its id then. */
  function scopeOf(reference: string | undefined): { networkId?: string } {
    if (reference === undefined) return {};
    const networkId = registry.find(reference)?.id ?? ([...known.values()].some((own) => own.networkId === reference) ? reference : undefined);
    if (networkId === undefined) throw weftError('WEFT-NETWORK-UNKNOWN', { network: reference });
    return { networkId };
  }

  const describe = ({ name, networkId, sets }: OwnName): DnsRecordAnswer[] => RECORD_TYPES.flatMap((type) => {
    const { values = [], ttl } = sets[type] ?? {};
    return values.map((value) => ({ name, type, value, ...(ttl !== undefined && { ttl }), ...(networkId !== undefined && { network: registry.get(networkId)?.name || networkId }) }));
  });

  /** What it becomes; `undefined` where nothing is left of it. */
  async function change(scope: { networkId?: string }, name: string, edit: (sets: OwnName['sets']) => OwnName['sets'] | undefined): Promise<void> {
    const key = `${scope.networkId ?? EVERYWHERE}/${name}`;
    for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
      const entry = await store.get(STORED + key);
      const sets = edit(entry ? (JSON.parse(entry.value) as OwnName).sets : {});
      const value = sets && JSON.stringify({ name, ...scope, sets } satisfies OwnName);
      if (entry?.value === value) return;
      const write = value === undefined ? { delete: STORED + key } : { put: STORED + key, value };
      const { succeeded } = await store.txn([{ key: STORED + key, revision: entry?.revision ?? 0 }], [write]);
      if (!succeeded) continue;
      // Whoever was told so may ask at once.
      if (value === undefined) forget(key);
      else remember(key, value);
      return;
    }
    throw weftError('WEFT-STORE-CONFLICT', { what: `the record ${name}` });
  }

  return {
    list: () => [...known.values()].flatMap(describe).sort((a, b) => a.name.localeCompare(b.name) || a.type.localeCompare(b.type) || (a.network ?? '').localeCompare(b.network ?? '')),

    add: async (request) => {
      const name = parseRecordName(request.name, { wildcard: true });
      const type = parseRecordType(request.type);
      const value = parseRecordValue(type, request.value);
      const ttl = request.ttl === undefined ? undefined : checkTtl(request.ttl);
      const scope = scopeOf(request.network);
      let after: OwnName['sets'] = {};
      await change(scope, name, (sets) => {
        const others = (Object.keys(sets) as RecordType[]).filter((each) => each !== type || (type === 'CNAME' && sets.CNAME!.values[0] !== value));
        // RFC 1034 §3.6.2; and of two aliases nobody could say which one is meant.
        if (others.length > 0 && (type === 'CNAME' || others.includes('CNAME'))) throw weftError('WEFT-RECORD-ALONE', { name, type, others: others.join(', ') });
        const before: RecordSet = sets[type] ?? { values: [] };
        const values = before.values.includes(value) ? before.values : [...before.values, value];
        if (values.length > MOST_VALUES) throw weftError('WEFT-RECORD-MANY', { name, type, most: MOST_VALUES });
        return after = { ...sets, [type]: { ...before, values, ...(ttl !== undefined && { ttl }) } };
      });
      return describe({ name, ...scope, sets: { [type]: after[type]! } });
    },

    remove: async (request) => {
      const name = parseRecordName(request.name, { wildcard: true });
      const type = request.type === undefined ? undefined : parseRecordType(request.type);
      const value = type === undefined || request.value === undefined ? undefined : parseRecordValue(type, request.value);
      const scope = scopeOf(request.network);
      let removed: DnsRecordAnswer[] = [];
      await change(scope, name, (sets) => {
        const isMeant = (each: DnsRecordAnswer): boolean => (type === undefined || each.type === type) && (value === undefined || each.value === value);
        removed = describe({ name, ...scope, sets }).filter(isMeant);
        if (removed.length === 0) {
          throw weftError('WEFT-RECORD-UNKNOWN', { record: [name, type, value].filter((each) => each !== undefined).join(' ') + (request.network === undefined ? ' of all networks' : ` of network ${request.network}`) });
        }
        const left = (Object.entries(sets) as [RecordType, RecordSet][]).map(([each, set]): [RecordType, RecordSet] =>
          [each, { ...set, values: type !== undefined && each !== type ? set.values : value === undefined ? [] : set.values.filter((one) => one !== value) }]).filter(([, set]) => set.values.length > 0);
        return left.length === 0 ? undefined : Object.fromEntries(left);
      });
      return removed;
    },

    follow: () => store.watch(STORED, (event) => {
      const below = (key: string): string => key.slice(STORED.length);
      if (event.type === 'put') return remember(below(event.entry.key), event.entry.value);
      if (event.type === 'delete') return forget(below(event.key));
      const present = new Set(event.entries.map(({ key }) => below(key)));
      for (const key of known.keys()) if (!present.has(key)) forget(key);
      for (const { key, value } of event.entries) remember(below(key), value);
    }),
  };
}
