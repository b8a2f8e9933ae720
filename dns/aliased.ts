/** An alias of the operator's that leads to the outside: the question for what it stands for, and the answer to the client's own. */
import { HEADER, MAX_RECORDS, nameKey, RCODE, TYPE, walkRecords, type NameBudget, type WireRecord } from './message.ts';
import type { Query } from './query.ts';
import { rcodeOf } from './reply.ts';
import { encodeFailure, encodeName, encodeResponse, OPT_LENGTH, writeOpt, type Alias, type ResponseRecord } from './response.ts';

/** All names of an answer, uncompressed. */
const NAME_BYTES = 64 * 1024;
/** Where in their data records have a name that may be compressed (RFC 3597 §4; of SRV older servers do it, too). Others are copied as they are. */
const NAME_AT: Readonly<Record<number, number>> = { [TYPE.NS]: 0, [TYPE.CNAME]: 0, [TYPE.PTR]: 0, [TYPE.DNAME]: 0, [TYPE.MX]: 2, [TYPE.SRV]: 6 };

/** The client's question about another name, with its id, its flags and its EDNS. */
export function questionFor(message: Buffer, query: Query, name: string): Buffer {
  const target = encodeName(name)!;
  const out = Buffer.alloc(HEADER + target.length + 4 + OPT_LENGTH);
  message.copy(out, 0, 0, 4);
  out.writeUInt16BE(1, 4);
  out.set(target, HEADER);
  message.copy(out, HEADER + target.length, query.end - 4, query.end);
  if (!query.edns) return out.subarray(0, -OPT_LENGTH);
  out.writeUInt16BE(1, 10);
  writeOpt(out, out.length - OPT_LENGTH, 0, query.dnssecOk);
  return out;
}

/** What others said about that name, as the answer to the client's question. `end`: where the question ends in their reply. `limit`: bytes that the client takes. */
export function encodeAliased(message: Buffer, query: Query, aliases: readonly Alias[], reply: Buffer, end: number, limit: number): Buffer {
  const records = readAnswers(reply, end);
  if (!records) return encodeFailure(message, query, RCODE.SERVFAIL);
  const out = Buffer.allocUnsafe(limit);
  // What the name at the end of aliases is, is the rcode of the whole (RFC 6604 §3).
  return out.subarray(0, encodeResponse(out, message, query, rcodeOf(reply), { kind: 'records', records, first: 0, aliases }, limit));
}

/** With all names whole, since they stand elsewhere in the answer; undefined where it cannot be read. */
function readAnswers(reply: Buffer, end: number): ResponseRecord[] | undefined {
  const count = reply.readUInt16BE(6);
  if (count > MAX_RECORDS) return undefined;
  const found: WireRecord[] = [];
  if (walkRecords(reply, end, count, (record) => found.push(record)) < 0) return undefined;
  const budget: NameBudget = { bytes: NAME_BYTES };
  const wholeName = (offset: number): Buffer | undefined => {
    const key = nameKey(reply, offset, budget);
    return key === undefined ? undefined : Buffer.from(key, 'latin1');
  };
  const records = found.map(({ owner: at, type, ttl, data, length }): ResponseRecord | undefined => {
    const owner = wholeName(at);
    const nameAt = NAME_AT[type];
    const name = nameAt === undefined ? undefined : wholeName(data + nameAt);
    if (!owner || (nameAt !== undefined && !name)) return undefined;
    return { owner, type, ttl, data: name ? Buffer.concat([reply.subarray(data, data + nameAt!), name]) : reply.subarray(data, data + length) };
  });
  return records.every((record) => record !== undefined) ? records : undefined;
}
