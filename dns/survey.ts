/**
 * Looks a whole reply over before anybody believes it: every record readable, every answer about the name that was asked
 * for or an alias of it, and for how long it may be kept.
 */
import { FLAG, HEADER, MAX_RECORDS, nameKey, RCODE, RCODE_MASK, TYPE, walkRecords, type NameBudget, type WireRecord } from './message.ts';

/** All names of a reply's answers, uncompressed. An honest one has few; one that costs more was made to. */
const NAME_BYTES = 64 * 1024;
/** Aliases in a row. */
const MAX_CHAIN = 16;
/** The fixed fields at the end of a SOA record's data (RFC 1035 §3.3.13). */
const SOA_FIXED = 20;
const POINTER_TO_QUESTION = 0xc000 | HEADER;

export interface Survey {
  /** Where what may be passed on ends: before the OPT record, which was for us and is followed by nothing that a client needs. */
  end: number;
  /** Additional records before that. */
  additional: number;
  /** Offsets of the TTLs before that. */
  ttls: number[];
  /** Offsets of the answers' data that may change places: addresses of one kind, of one name. */
  rotation: number[];
  /** Seconds for which it may be kept; 0: not at all. Of what is not there, what its zone says (RFC 2308 §5). */
  ttl: number;
  negative: boolean;
}

/** `end` is where the question ends, `type` what was asked for. undefined: malformed, out of bailiwick, or a bomb. */
export function surveyReply(reply: Buffer, end: number, type: number): Survey | undefined {
  if (reply.readUInt16BE(6) + reply.readUInt16BE(8) + reply.readUInt16BE(10) > MAX_RECORDS) return undefined;
  const ttls: number[] = [];
  const answers: WireRecord[] = [];
  let opt: WireRecord | undefined;
  let additional = 0;
  let negativeTtl: number | undefined;
  const afterAnswers = walkRecords(reply, end, reply.readUInt16BE(6), (record) => {
    answers.push(record);
    ttls.push(ttlOffset(record));
  });
  const afterAuthority = afterAnswers < 0 ? -1 : walkRecords(reply, afterAnswers, reply.readUInt16BE(8), (record) => {
    ttls.push(ttlOffset(record));
    if (record.type === TYPE.SOA && record.length > SOA_FIXED) negativeTtl = Math.min(seconds(record.ttl), seconds(reply.readUInt32BE(record.data + record.length - 4)));
  });
  const after = afterAuthority < 0 ? -1 : walkRecords(reply, afterAuthority, reply.readUInt16BE(10), (record) => {
    if (record.type === TYPE.OPT) opt ??= record;
    if (opt) return;
    additional++;
    ttls.push(ttlOffset(record));
  });
  if (after < 0 || !isAbout(reply, answers)) return undefined;

  const flags = reply.readUInt16BE(2);
  const rcode = flags & RCODE_MASK;
  const found = type === TYPE.ANY ? answers.length > 0 : answers.some((each) => each.type === type);
  const negative = rcode === RCODE.NXDOMAIN || (rcode === RCODE.NOERROR && !found);
  // The upper bits of an extended rcode are in the OPT record (RFC 6891 §6.1.3).
  const lasting = (rcode === RCODE.NOERROR || rcode === RCODE.NXDOMAIN) && (opt?.ttl ?? 0) >>> 24 === 0 && !(flags & FLAG.TC);
  const ttl = answers.reduce((lowest, each) => Math.min(lowest, seconds(each.ttl)), negative ? negativeTtl ?? 0 : Infinity);
  return { end: opt?.owner ?? after, additional, ttls, negative, ttl: lasting ? ttl : 0, rotation: rotationOf(reply, answers, type) };
}

/** TTL stands before the data's length. */
const ttlOffset = ({ data }: WireRecord): number => data - 6;

/** Those with the highest bit count as nothing (RFC 2181 §8). */
const seconds = (ttl: number): number => (ttl > 0x7fffffff ? 0 : ttl);

/** Every answer belongs to the name that was asked for, or to one that it is an alias of, in whatever order. */
function isAbout(reply: Buffer, answers: readonly WireRecord[]): boolean {
  if (answers.length === 0) return true;
  const budget: NameBudget = { bytes: NAME_BYTES };
  const asked = nameKey(reply, HEADER, budget);
  if (asked === undefined) return false;
  const names = new Set([asked]);
  /** Owners are pointers as a rule, most of them the same. */
  const pointed = new Map([[POINTER_TO_QUESTION, asked]]);
  const ownerOf = ({ owner }: WireRecord): string | undefined => {
    const pointer = reply.readUInt16BE(owner);
    const known = pointed.get(pointer);
    if (known !== undefined || pointer < 0xc000) return known ?? nameKey(reply, owner, budget);
    const name = nameKey(reply, owner, budget);
    if (name !== undefined) pointed.set(pointer, name);
    return name;
  };
  const byOwner = new Map<string, WireRecord[]>();
  for (const record of answers) {
    const owner = ownerOf(record);
    if (owner === undefined) return false;
    const records = byOwner.get(owner);
    if (records) records.push(record);
    else byOwner.set(owner, [record]);
  }
  // Those that are found on the way are looked at as well.
  for (const name of names) {
    const records = byOwner.get(name) ?? [];
    byOwner.delete(name);
    for (const { type, data } of records) {
      if (type !== TYPE.CNAME) continue;
      const target = nameKey(reply, data, budget);
      if (target === undefined || names.size > MAX_CHAIN) return false;
      names.add(target);
    }
    // A DNAME stands above the name that it turns into another (RFC 6672 §3.1).
    for (const above of parentsOf(name)) if (byOwner.get(above)?.some(({ type }) => type === TYPE.DNAME)) byOwner.delete(above);
  }
  return byOwner.size === 0;
}

/** The wire forms of all names above one, the root's last. */
function* parentsOf(name: string): Generator<string> {
  for (let at = 0; at < name.length - 1;) {
    at += 1 + name.charCodeAt(at);
    yield name.slice(at);
  }
}

/** Empty where it is not certain that the order means nothing. */
function rotationOf(reply: Buffer, answers: readonly WireRecord[], type: number): number[] {
  const length = type === TYPE.A ? 4 : type === TYPE.AAAA ? 16 : undefined;
  const addresses = answers.filter((each) => each.type === type);
  if (length === undefined || addresses.length < 2) return [];
  const owner = reply.readUInt16BE(addresses[0]!.owner);
  return owner >= 0xc000 && addresses.every((each) => each.length === length && reply.readUInt16BE(each.owner) === owner) ? addresses.map(({ data }) => data) : [];
}
