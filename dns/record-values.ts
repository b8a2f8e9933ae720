/** What an operator writes of a record, checked and brought into one form; and its bytes on the wire. */
import { bytesToIp, ipToBytes, parseIp4 } from '../base/ip.ts';
import { parseIp } from '../base/prefix.ts';
import { weftError } from '../base/errors.ts';
import { MAX_LABEL, TYPE } from './message.ts';
import { encodeName } from './response.ts';

export const RECORD_TYPES = ['A', 'AAAA', 'CNAME', 'SRV', 'TXT'] as const;
export type RecordType = typeof RECORD_TYPES[number];

/** In text a name has no length bytes and no root (RFC 1035 §2.3.4). */
const MAX_NAME_TEXT = 253;
/** RFC 2181 §8. Seconds. */
const MAX_TTL = 0x7fffffff;
/** Of one character string (RFC 1035 §3.3); longer texts are several in a row, which readers put together. */
const MAX_STRING = 255;
/** A text that fits into one answer over UDP with EDNS nearly everywhere. */
const MAX_TEXT = 1024;

const LABEL = /^[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?$/;

const malformed = (what: string, detail: string, hint: string): Error => weftError('WEFT-RECORD-MALFORMED', { what, detail, hint });

/** 'DB.Test.' → 'db.test'. With `wildcard` the first label may be `*`. Throws WEFT-RECORD-MALFORMED. */
export function parseRecordName(text: string, { wildcard = false }: { wildcard?: boolean } = {}): string {
  const name = text.replace(/\.$/, '').toLowerCase();
  const labels = name.split('.');
  const what = `the name ${JSON.stringify(text)}`;
  if (name.length > MAX_NAME_TEXT) throw malformed(what, `it has more than ${MAX_NAME_TEXT} characters`, 'choose a shorter one');
  if (/[^\p{ASCII}]/u.test(name)) throw malformed(what, 'it has other letters than a to z', `write it in Punycode (xn--…)`);
  const rest = wildcard && labels[0] === '*' && labels.length > 1 ? labels.slice(1) : labels;
  for (const label of rest) {
    if (label === '*') throw malformed(what, '* stands for something only as the first part of a longer name of a record', 'write it as *.app.test');
    if (label.length > MAX_LABEL) throw malformed(what, `a part of it has more than ${MAX_LABEL} characters`, 'choose a shorter one');
    if (!LABEL.test(label)) throw malformed(what, label === '' ? 'a part of it is empty' : `${JSON.stringify(label)} has other characters than letters, digits, - and _, or begins or ends with -`, 'write it as db.test');
  }
  return name;
}

/** Throws WEFT-RECORD-MALFORMED. */
export function parseRecordType(text: string): RecordType {
  const type = RECORD_TYPES.find((each) => each === text.toUpperCase());
  if (!type) throw malformed(`the type ${JSON.stringify(text)}`, 'there are no records of it', `use one of ${RECORD_TYPES.join(', ')}`);
  return type;
}

/** Seconds. Throws WEFT-RECORD-MALFORMED. */
export function checkTtl(ttl: number): number {
  if (!Number.isInteger(ttl) || ttl < 0 || ttl > MAX_TTL) throw malformed(`the TTL ${ttl}`, 'it is no number of seconds', `give a whole number from 0 to ${MAX_TTL}`);
  return ttl;
}

/** The same value always comes out as the same text. Throws WEFT-RECORD-MALFORMED. */
export function parseRecordValue(type: RecordType, text: string): string {
  const what = `the value ${JSON.stringify(text)}`;
  if (type === 'A') {
    if (parseIp4(text) === undefined) throw malformed(what, 'it is no IPv4 address', parseIp(text) ? 'use the type AAAA' : 'write it as 10.192.4.7');
    return text;
  }
  if (type === 'AAAA') {
    if (parseIp(text)?.family !== 6) throw malformed(what, 'it is no IPv6 address', parseIp(text) ? 'use the type A' : 'write it as fd00::7');
    return bytesToIp(ipToBytes(text));
  }
  if (type === 'CNAME') {
    if (parseIp(text)) throw malformed(what, 'a CNAME leads to a name, and this is an address', 'use the type A or AAAA');
    return parseRecordName(text);
  }
  if (type === 'SRV') {
    const [, priority, weight, port, target] = /^(\d{1,5}) +(\d{1,5}) +(\d{1,5}) +(\S+)$/.exec(text.trim()) ?? [];
    if (target === undefined || [priority, weight, port].some((each) => Number(each) > 0xffff)) throw malformed(what, 'it is no service', 'write it as PRIORITY WEIGHT PORT TARGET, for example 0 5 5060 sip.test');
    return `${Number(priority)} ${Number(weight)} ${Number(port)} ${parseRecordName(target)}`;
  }
  const bytes = Buffer.byteLength(text);
  if (bytes === 0 || bytes > MAX_TEXT) throw malformed(bytes === 0 ? 'an empty text' : `a text of ${bytes} bytes`, 'it does not fit', `give 1 to ${MAX_TEXT} bytes`);
  return text;
}

/** Of a value as `parseRecordValue` returns it. */
export function recordData(type: RecordType, value: string): Uint8Array {
  if (type === 'A' || type === 'AAAA') return ipToBytes(value);
  if (type === 'CNAME') return encodeName(value)!;
  if (type === 'SRV') {
    const [priority, weight, port, target] = value.split(' ');
    const fixed = Buffer.alloc(6);
    [priority, weight, port].forEach((each, i) => fixed.writeUInt16BE(Number(each), 2 * i));
    return Buffer.concat([fixed, encodeName(target!)!]);
  }
  const text = Buffer.from(value);
  const strings: Buffer[] = [];
  for (let at = 0; at < text.length; at += MAX_STRING) {
    const part = text.subarray(at, at + MAX_STRING);
    strings.push(Buffer.of(part.length), part);
  }
  return Buffer.concat(strings);
}

export const RECORD_TYPE_CODES: Readonly<Record<RecordType, number>> = { A: TYPE.A, AAAA: TYPE.AAAA, CNAME: TYPE.CNAME, SRV: TYPE.SRV, TXT: TYPE.TXT };
