/**
 * What this node can say of a name by itself. In this order: the operator's records of exactly that name; the names of containers; the
 * operator's wildcards, which cover only what nobody has. Aliases are followed through all of them.
 */
import type { NameSource } from './dns.ts';
import { addressesInTurn, servicesInTurn, type BeginAt } from './in-turn.ts';
import { addressIn, BOTH, FAMILIES_ASKED, findAddresses, findName, findServices, type JoinedNetwork } from './lookup.ts';
import { TYPE } from './message.ts';
import type { RecordSource, WireSets } from './own-records.ts';
import type { Alias, Answer } from './response.ts';

/** Aliases in a row. Of more, which are a circle as a rule, the end is not looked for: there are no such records there. */
const MAX_ALIASES = 8;

export interface LocalOptions {
  names: NameSource;
  records: RecordSource;
  joined: readonly JoinedNetwork[];
  /** In seconds, of what says nothing else. */
  ttl: number;
  beginAt: BeginAt;
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
    if (targets) return targets.length === 0 ? { kind: 'nodata' } : servicesInTurn(targets, beginAt, ttl);
  }
  const found = findAddresses(names, joined, name, FAMILIES_ASKED[type] ?? BOTH);
  if (!found) return undefined;
  return found.ips.length === 0 || !(type in FAMILIES_ASKED) ? { kind: 'nodata' } : addressesInTurn(found, beginAt, ttl);
}

function ofAddress({ records, joined, ttl }: LocalOptions, name: string, type: number): Answer | undefined {
  const ip = type === TYPE.PTR ? addressIn(name) : undefined;
  const found = ip === undefined ? undefined : records.nameOf(joined, ip);
  return found === undefined ? undefined : { kind: 'pointer', name: found, ttl };
}
