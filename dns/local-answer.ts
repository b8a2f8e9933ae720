/**
 * What this node can say of a name by itself. In this order: the operator's records of exactly that name; the names of containers; the
 * operator's wildcards, which cover only what nobody has. Aliases are followed through all of them.
 */
import type { Family } from '../base/prefix.ts';
import type { NameSource } from './dns.ts';
import { addressIn, findAddresses, findName, findServices, type FoundAddresses, type JoinedNetwork } from './lookup.ts';
import { TYPE } from './message.ts';
import type { RecordSource, WireSets } from './own-records.ts';
import type { Alias, Answer } from './response.ts';

const BOTH: readonly Family[] = [4, 6];
/** Types that are answered with addresses. */
const ASKED: Readonly<Record<number, readonly Family[]>> = { [TYPE.A]: [4], [TYPE.AAAA]: [6], [TYPE.ANY]: BOTH };
/** Aliases in a row. Of more, which are a circle as a rule, the end is not looked for: there are no such records there. */
const MAX_ALIASES = 8;

export interface LocalOptions {
  names: NameSource;
  records: RecordSource;
  joined: readonly JoinedNetwork[];
  /** In seconds, of what says nothing else. */
  ttl: number;
  /** Clients take the first: which of so many it is. */
  beginAt(count: number): number;
}

/** `from`: who knows the name that was asked for. `elsewhere`: a name of which nothing is known here, and to which the aliases lead. */
export type LocalAnswer = { from: 'records' | 'containers'; answer: Answer } | { aliases: readonly Alias[]; elsewhere: string };

/** A name in lower case; undefined where nothing is known of it. */
export function answerLocally(options: LocalOptions, name: string, type: number): LocalAnswer | undefined {
  const aliases: Alias[] = [];
  for (;;) {
    const known = ofRecords(options, options.records.find(options.joined, name), type);
    const contained = known ? undefined : ofContainers(options, name, type);
    const found = known ?? contained ?? ofTheRest(options, name, type);
    if (!found) return aliases.length > 0 ? { aliases, elsewhere: name } : undefined;
    if (!('target' in found)) return aliases.length > 0 ? { from: 'records', answer: { ...found, aliases } } : { from: contained ? 'containers' : 'records', answer: found };
    aliases.push(found);
    if (aliases.length === MAX_ALIASES) return { from: 'records', answer: { kind: 'nodata', aliases } };
    name = found.target;
  }
}

/** What records say where neither they nor containers have any of the type: of an address, that the name is there, of whatever stands there. */
function ofTheRest(options: LocalOptions, name: string, type: number): Answer | Alias | undefined {
  const { records, joined } = options;
  const pointer = ofAddress(options, name, type);
  if (pointer) return pointer;
  if (records.find(joined, name).length > 0) return { kind: 'nodata' };
  const covering = records.findCovering(joined, name);
  return ofRecords(options, covering, type) ?? (covering.length > 0 ? { kind: 'nodata' } : undefined);
}

/** The first that has any of the type, or an alias, which stands for all types but its own. */
function ofRecords({ ttl: usual, beginAt }: LocalOptions, found: readonly WireSets[], type: number): Answer | Alias | undefined {
  for (const sets of found) {
    const cname = sets.get(TYPE.CNAME);
    if (cname && type !== TYPE.CNAME && type !== TYPE.ANY) return { target: cname.values[0]!, ttl: cname.ttl ?? usual };
    const records = [...sets].flatMap(([each, { ttl = usual, data }]) => (type === each || type === TYPE.ANY ? data.map((bytes) => ({ type: each, ttl, data: bytes })) : []));
    if (records.length > 0) return { kind: 'records', records, first: beginAt(records.length) };
  }
  return undefined;
}

function ofContainers({ names, joined, ttl, beginAt }: LocalOptions, name: string, type: number): Answer | undefined {
  if (type === TYPE.PTR) {
    const found = findName(names, joined, name);
    if (found !== undefined) return { kind: 'pointer', name: found, ttl };
  }
  if (type === TYPE.SRV) {
    const targets = findServices(names, joined, name);
    if (targets) return targets.length === 0 ? { kind: 'nodata' } : { kind: 'services', targets, first: beginAt(targets.length), ttl };
  }
  const found = findAddresses(names, joined, name, ASKED[type] ?? BOTH);
  if (!found) return undefined;
  return found.ips.length === 0 || !(type in ASKED) ? { kind: 'nodata' } : inTurn(found, beginAt, ttl);
}

/** Those that are equally near take turns. */
function inTurn({ ips, groups }: FoundAddresses, beginAt: LocalOptions['beginAt'], ttl: number): Answer {
  if (groups === undefined || groups.length < 2) return { kind: 'addresses', ips, first: beginAt(ips.length), ttl };
  const [near, ...further] = groups as [number, ...number[]];
  let end = near;
  const rest = further.flatMap((size) => {
    const group = ips.slice(end, end += size);
    const first = beginAt(size);
    return [...group.slice(first), ...group.slice(0, first)];
  });
  return { kind: 'addresses', ips: [...ips.slice(0, near), ...rest], first: beginAt(near), near, ttl };
}

function ofAddress({ records, joined, ttl }: LocalOptions, name: string, type: number): Answer | undefined {
  const ip = type === TYPE.PTR ? addressIn(name) : undefined;
  const found = ip === undefined ? undefined : records.nameOf(joined, ip);
  return found === undefined ? undefined : { kind: 'pointer', name: found, ttl };
}
