/** Names of types and what replies say, as text for people. */
import { bytesToIp } from '../base/ip.ts';
import { weftError } from '../base/errors.ts';
import { MAX_RECORDS, nameKey, TYPE, walkRecords, type NameBudget, type WireRecord } from './message.ts';

/** All names that are written out, uncompressed. */
const NAME_BYTES = 16 * 1024;
/** Types that are asked for by name besides those that the resolver itself knows. */
const NAMES: Readonly<Record<string, number>> = { ...TYPE, NAPTR: 35, DS: 43, DNSKEY: 48, TLSA: 52, SVCB: 64, HTTPS: 65, CAA: 257 };
const TYPES = new Map(Object.entries(NAMES).map(([name, type]) => [type, name]));
/** Answers that are written out. */
const SHOWN = 100;
const RCODES = ['NOERROR', 'FORMERR', 'SERVFAIL', 'NXDOMAIN', 'NOTIMP', 'REFUSED'];

/** 28 → 'AAAA'; 'TYPE999' where it has no name here (RFC 3597 §5). */
export const typeText = (type: number): string => TYPES.get(type) ?? `TYPE${type}`;

/** Either of the two, in any case. Throws WEFT-RECORD-MALFORMED. */
export function parseType(text: string): number {
  const upper = text.toUpperCase();
  const numbered = Number(/^TYPE(\d{1,5})$/.exec(upper)?.[1] ?? NaN);
  const type = NAMES[upper] ?? (numbered <= 0xffff ? numbered : undefined);
  if (type === undefined) throw weftError('WEFT-RECORD-MALFORMED', { what: `the type ${JSON.stringify(text)}`, detail: 'there is none of that name', hint: 'use one such as A, AAAA, CNAME, SRV, TXT, PTR or MX, or its number, as TYPE65' });
  return type;
}

export const rcodeText = (rcode: number): string => RCODES[rcode] ?? `RCODE${rcode}`;

/** 'name TTL type data' of each answer, of the first hundred if there are more; `end`: where the question ends. Empty where it cannot be read, or nobody would. */
export function answerTexts(reply: Buffer, end: number): string[] {
  const count = reply.readUInt16BE(6);
  const records: WireRecord[] = [];
  if (count > MAX_RECORDS || walkRecords(reply, end, count, (record) => records.push(record)) < 0) return [];
  const budget: NameBudget = { bytes: NAME_BYTES };
  const name = (offset: number): string => nameText(nameKey(reply, offset, budget));
  const texts = records.slice(0, SHOWN).map((record) => `${name(record.owner)} ${record.ttl} ${typeText(record.type)} ${dataText(reply, record, name)}`);
  return records.length > SHOWN ? [...texts, `and ${records.length - SHOWN} more`] : texts;
}

function dataText(reply: Buffer, { type, data, length }: WireRecord, name: (offset: number) => string): string {
  const bytes = reply.subarray(data, data + length);
  if ((type === TYPE.A && length === 4) || (type === TYPE.AAAA && length === 16)) return bytesToIp(bytes);
  if (type === TYPE.CNAME || type === TYPE.PTR || type === TYPE.NS || type === TYPE.DNAME) return name(data);
  if (type === TYPE.MX && length > 2) return `${bytes.readUInt16BE(0)} ${name(data + 2)}`;
  if (type === TYPE.SRV && length > 6) return `${bytes.readUInt16BE(0)} ${bytes.readUInt16BE(2)} ${bytes.readUInt16BE(4)} ${name(data + 6)}`;
  if (type === TYPE.TXT) return JSON.stringify(strings(bytes));
  // RFC 3597 §5.
  return `\\# ${length} ${bytes.toString('hex')}`;
}

/** Character strings in a row (RFC 1035 §3.3.14), put together. */
function strings(bytes: Buffer): string {
  const parts: Buffer[] = [];
  for (let at = 0; at < bytes.length; at += 1 + bytes[at]!) parts.push(bytes.subarray(at + 1, at + 1 + bytes[at]!));
  return Buffer.concat(parts).toString();
}

/** From its wire form; what is no plain character is written as its number (RFC 1035 §5.1). */
function nameText(wire: string | undefined): string {
  if (wire === undefined) return '(malformed)';
  const labels: string[] = [];
  for (let at = 0; wire.charCodeAt(at) > 0; at += 1 + wire.charCodeAt(at)) {
    labels.push(wire.slice(at + 1, at + 1 + wire.charCodeAt(at)).replaceAll(/[^!-~]|[.\\]/g, (each) => `\\${String(each.charCodeAt(0)).padStart(3, '0')}`));
  }
  return labels.join('.') || '.';
}
