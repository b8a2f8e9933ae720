/** The index of the records that operators keep themselves, for one network or for all of them; behind them those by labels of containers. */
import { RECORD_TYPE_CODES, recordData, type RecordType } from './record-values.ts';
import { wildcardFor } from './wildcard.ts';

/** All records of one type that a name has. They have one TTL (RFC 2181 §5.2), in seconds; without it the resolver's. */
export interface RecordSet { values: readonly string[]; ttl?: number }

/** A name of the operator's, for the network that is given or for all: lower case, `*` as its first label for whatever stands there. A CNAME is alone. */
export interface OwnName { name: string; networkId?: string; sets: Readonly<Partial<Record<RecordType, RecordSet>>> }

/** By type as on the wire: what `OwnName` has, ready to be answered. */
export interface WireSet { ttl: number | undefined; values: readonly string[]; data: readonly Uint8Array[] }
export type WireSets = ReadonlyMap<number, WireSet>;

export interface RecordSource {
  /** Another one after each change. */
  readonly version: number;
  /** What a lower-case name has: on these networks in their order, then on all. Empty where it has nothing. */
  find(networks: readonly { id: string }[], name: string): readonly WireSets[];
  /** The same of the wildcard that covers a name. */
  findCovering(networks: readonly { id: string }[], name: string): readonly WireSets[];
  /** The name of an address, as an A or AAAA record has it; of several the first by alphabet. */
  nameOf(networks: readonly { id: string }[], ip: string): string | undefined;
}

export interface OwnRecords extends RecordSource {
  /** Adds a name, or replaces what it had. */
  put(own: OwnName): void;
  /** Unknown names are not an error. */
  remove(networkId: string | undefined, name: string): void;
  /** All that labels say of a name on a network; without sets there is nothing any more. */
  putLabelled(own: OwnName & { networkId: string }): void;
}

/** The scope of those that are for all networks; no network has this id. */
const EVERYWHERE = '';
const ALL = { id: EVERYWHERE };
/** Before a network's id: the scope of what labels say there. */
const LABELLED = 'labels ';
const NOTHING: readonly WireSets[] = [];

export function createOwnRecords(): OwnRecords {
  const scopes = new Map<string, Map<string, WireSets>>();
  /** By scope and address; made when somebody asks for the first time since a change. */
  let reverse: Map<string, string> | undefined;
  let version = 0;
  /** Of scopes by labels: most clusters have none. */
  let labelled = 0;

  const inOrder = (networks: readonly { id: string }[]): readonly { id: string }[] =>
    (labelled === 0 ? [...networks, ALL] : [...networks, ALL, ...networks.map(({ id }) => ({ id: LABELLED + id }))]);

  function changed(): void {
    version++;
    reverse = undefined;
  }

  function collect(networks: readonly { id: string }[], from: (names: ReadonlyMap<string, WireSets>) => WireSets | undefined): readonly WireSets[] {
    if (scopes.size === 0) return NOTHING;
    return inOrder(networks).flatMap(({ id }) => {
      const names = scopes.get(id);
      return (names && from(names)) ?? [];
    });
  }

  function byAddress(): Map<string, string> {
    const found = new Map<string, string>();
    for (const [scope, names] of scopes) {
      for (const [name, sets] of names) {
        if (name.startsWith('*')) continue;
        for (const type of [RECORD_TYPE_CODES.A, RECORD_TYPE_CODES.AAAA]) {
          for (const ip of sets.get(type)?.values ?? []) {
            const key = `${scope} ${ip}`;
            const other = found.get(key);
            if (other === undefined || name < other) found.set(key, name);
          }
        }
      }
    }
    return found;
  }

  function put(scope: string, { name, sets }: OwnName): void {
    let names = scopes.get(scope);
    if (!names) {
      scopes.set(scope, names = new Map());
      if (scope.startsWith(LABELLED)) labelled++;
    }
    names.set(name, new Map(Object.entries(sets).map(([type, { values, ttl }]) =>
      [RECORD_TYPE_CODES[type as RecordType], { ttl, values, data: values.map((value) => recordData(type as RecordType, value)) }])));
    changed();
  }

  function remove(scope: string, name: string): void {
    const names = scopes.get(scope);
    if (!names?.delete(name)) return;
    if (names.size === 0) {
      scopes.delete(scope);
      if (scope.startsWith(LABELLED)) labelled--;
    }
    changed();
  }

  return {
    get version() { return version; },
    find: (networks, name) => collect(networks, (names) => names.get(name)),
    findCovering: (networks, name) => collect(networks, (names) => {
      const wildcard = wildcardFor(name, (each) => names.has(each));
      return wildcard === undefined ? undefined : names.get(wildcard);
    }),
    nameOf: (networks, ip) => {
      if (scopes.size === 0) return undefined;
      const names = reverse ??= byAddress();
      for (const { id } of inOrder(networks)) {
        const name = names.get(`${id} ${ip}`);
        if (name !== undefined) return name;
      }
      return undefined;
    },
    put: (own) => put(own.networkId ?? EVERYWHERE, own),
    remove: (networkId = EVERYWHERE, name) => remove(networkId, name),
    putLabelled: (own) => (Object.keys(own.sets).length > 0 ? put(LABELLED + own.networkId, own) : remove(LABELLED + own.networkId, own.name)),
  };
}
