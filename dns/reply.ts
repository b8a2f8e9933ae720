/** What another resolver answered: whether it belongs to the query, and what it says. */
import { bytesToIp } from '../base/ip.ts';
import { contains, type Prefix } from '../base/prefix.ts';
import { addressIn } from './lookup.ts';
import { CLASS_IN, FLAG, HEADER, lowerCase, MAX_RECORDS, RCODE, RCODE_MASK, TYPE, walkRecords } from './message.ts';
import type { Query } from './query.ts';

/** Who could not read the question, or would not, may leave it out. */
const WITHOUT_QUESTION: readonly number[] = [RCODE.FORMERR, RCODE.SERVFAIL, RCODE.NOTIMP, RCODE.REFUSED];

/** The same id and the same question (RFC 5452 §9.1); `end` is where the question ends. Some servers leave the question out of failures. */
export function belongsTo(reply: Buffer, query: Buffer, end: number): boolean {
  if (reply.length < HEADER || reply.readUInt16BE(0) !== query.readUInt16BE(0)) return false;
  const flags = reply.readUInt16BE(2);
  if (!(flags & FLAG.QR)) return false;
  if (reply.readUInt16BE(4) === 0) return WITHOUT_QUESTION.includes(flags & RCODE_MASK);
  if (reply.readUInt16BE(4) !== 1 || reply.length < end) return false;
  for (let i = HEADER; i < end; i++) if (lowerCase(reply[i]!) !== lowerCase(query[i]!)) return false;
  return true;
}

/** Whether the question came back letter by letter; errors may leave it out. */
export const hasExactQuestion = (reply: Buffer, query: Buffer, end: number): boolean =>
  reply.readUInt16BE(4) === 0 || reply.compare(query, HEADER, end, HEADER, end) === 0;

export const rcodeOf = (reply: Buffer): number => reply.readUInt16BE(2) & RCODE_MASK;

/** Another server may know better than one that failed or does not want us. */
export const isRefusal = (reply: Buffer): boolean => rcodeOf(reply) === RCODE.SERVFAIL || rcodeOf(reply) === RCODE.REFUSED;

/** Whether an address of the answer lies in one of the prefixes. `end` as above; a malformed answer has none, and one of too many records counts as if it had. */
export function hasAddressIn(reply: Buffer, end: number, prefixes: readonly Prefix[]): boolean {
  let found = false;
  if (reply.readUInt16BE(4) !== 1) return false;
  if (reply.readUInt16BE(6) > MAX_RECORDS) return true;
  walkRecords(reply, end, reply.readUInt16BE(6), ({ type, class: recordClass, data, length }) => {
    if (recordClass !== CLASS_IN || length !== (type === TYPE.A ? 4 : type === TYPE.AAAA ? 16 : undefined)) return;
    const address = bytesToIp(reply.subarray(data, data + length));
    if (prefixes.some((prefix) => contains(prefix, address))) found = true;
  });
  return found;
}

/** Whether question or answer are about an address in one of the prefixes. */
export function concerns(reply: Buffer, { name, type, end }: Query, prefixes: readonly Prefix[]): boolean {
  const ip = type === TYPE.PTR && name !== undefined ? addressIn(name) : undefined;
  return (ip !== undefined && prefixes.some((prefix) => contains(prefix, ip))) || hasAddressIn(reply, end, prefixes);
}
