/** Reads a query: one question and, where there is one, the client's EDNS record. Never throws, whatever the bytes. */
import { CLASS_IN, FLAG, HEADER, lowerCase, MAX_LABEL, MAX_NAME, OPCODE_MASK, RCODE, TYPE, walkRecords, type WireRecord } from './message.ts';

/** What a client without EDNS takes over UDP (RFC 1035 §4.2.1); smaller EDNS sizes count as this (RFC 6891 §6.2.3). */
const PLAIN_UDP_SIZE = 512;
const DOT = 0x2e;

export interface Query {
  /** Lower case, without the final dot. undefined where a label contains a dot: such a name has no unambiguous text and is none of ours. */
  name: string | undefined;
  /** The name's bytes as latin1, with the case of ASCII letters alone left out (RFC 4343): what is another name for others has another key. */
  key: string;
  type: number;
  class: number;
  /** Offset just behind the question. */
  end: number;
  edns: boolean;
  /** Largest answer that the client takes over UDP. */
  udpSize: number;
  /** The client wants signatures, too (RFC 3225). */
  dnssecOk: boolean;
  /** It has EDNS options that are for whoever answers in the end, such as a client subnet. */
  hasOptions: boolean;
}

/** Why a query cannot be looked at: an rcode to answer with, or silence (it is no query at all). */
export type Rejection = { rcode: number } | 'silence';

/** Between a client and the server that it asks, and nobody else: cookies, keep-alive, padding (RFC 7873, 7828, 7830). */
const HOP_OPTIONS = new Set([10, 11, 12]);
const DNSSEC_OK = 0x8000;
/** The name's text while it is put together. */
const text = Buffer.alloc(MAX_NAME);

export function parseQuery(message: Buffer): Query | Rejection {
  if (message.length < HEADER) return 'silence';
  const flags = message.readUInt16BE(2);
  if (flags & FLAG.QR) return 'silence';
  if (flags & OPCODE_MASK) return { rcode: RCODE.NOTIMP };
  if (message.readUInt16BE(4) !== 1) return { rcode: RCODE.FORMERR };

  let offset = HEADER;
  let length = 0;
  let dotInLabel = false;
  let ascii = true;
  for (;;) {
    const labelLength = message[offset++];
    if (labelLength === undefined || labelLength > MAX_LABEL || offset + labelLength - HEADER > MAX_NAME) return { rcode: RCODE.FORMERR };
    if (labelLength === 0) break;
    if (length > 0) text[length++] = DOT;
    for (const end = offset + labelLength; offset < end; offset++) {
      const byte = message[offset];
      if (byte === undefined) return { rcode: RCODE.FORMERR };
      if (byte === DOT) dotInLabel = true;
      if (byte > 127) ascii = false;
      text[length++] = lowerCase(byte);
    }
  }
  const end = offset + 4;
  if (end > message.length) return { rcode: RCODE.FORMERR };
  const key = text.toString('latin1', 0, length);
  const query: Query = {
    key,
    // DNS leaves the case of other letters alone; the names that Docker takes do not need them to differ.
    name: dotInLabel ? undefined : ascii ? key : text.toString('utf8', 0, length).toLowerCase(),
    type: message.readUInt16BE(offset), class: message.readUInt16BE(offset + 2), end, edns: false, udpSize: PLAIN_UDP_SIZE, dnssecOk: false, hasOptions: false,
  };
  return readEdns(message, query);
}

/** RFC 6891 §6.1.1: at most one OPT record, owned by the root; its class is the client's UDP size, the second byte of its TTL the version. */
function readEdns(message: Buffer, query: Query): Query | Rejection {
  const before = message.readUInt16BE(6) + message.readUInt16BE(8);
  const additional = message.readUInt16BE(10);
  if (before + additional === 0) return query;
  let options = 0;
  let version = 0;
  let malformed = false;
  const start = walkRecords(message, query.end, before, () => {});
  const end = start < 0 ? -1 : walkRecords(message, start, additional, (record) => {
    if (record.type !== TYPE.OPT) return;
    options++;
    if (message[record.owner] !== 0) malformed = true;
    query.edns = true;
    query.udpSize = Math.max(record.class, PLAIN_UDP_SIZE);
    query.dnssecOk = (record.ttl & DNSSEC_OK) !== 0;
    version = (record.ttl >>> 16) & 0xff;
    if (!walkOptions(message, record, (code) => void (query.hasOptions ||= !HOP_OPTIONS.has(code)))) malformed = true;
  });
  if (end < 0 || options > 1 || malformed) return { rcode: RCODE.FORMERR };
  return version > 0 ? { rcode: RCODE.BADVERS } : query;
}

/** Calls with the code of each option of an OPT record (RFC 6891 §6.1.2); false where they do not fill it. */
function walkOptions(message: Buffer, { data, length }: WireRecord, visit: (code: number) => void): boolean {
  const end = data + length;
  let offset = data;
  while (offset + 4 <= end) {
    visit(message.readUInt16BE(offset));
    offset += 4 + message.readUInt16BE(offset + 2);
  }
  return offset === end;
}

/** Why a readable query is not answered: the rcode to say so with. Other classes than the Internet's, and copies of whole zones, are not ours to give. */
export const refusalOf = (query: Query): number | undefined =>
  (query.class !== CLASS_IN || query.type === TYPE.AXFR || query.type === TYPE.IXFR ? RCODE.REFUSED : undefined);
