/** Reads a query: one question and, where there is one, the client's EDNS record. Never throws, whatever the bytes. */
import { FLAG, HEADER, MAX_LABEL, MAX_NAME, OPCODE_MASK, RCODE, TYPE, walkRecords } from './message.ts';

/** What a client without EDNS takes over UDP (RFC 1035 §4.2.1); smaller EDNS sizes count as this (RFC 6891 §6.2.3). */
const PLAIN_UDP_SIZE = 512;
const DOT = 0x2e;

export interface Query {
  /** Lower case, without the final dot. undefined where a label contains a dot: such a name has no unambiguous text and is none of ours. */
  name: string | undefined;
  type: number;
  class: number;
  /** Offset just behind the question. */
  end: number;
  edns: boolean;
  /** Largest answer that the client takes over UDP. */
  udpSize: number;
}

/** Why a query cannot be looked at: an rcode to answer with, or silence (it is no query at all). */
export type Rejection = { rcode: number } | 'silence';

const UPPER_A = 0x41;
const UPPER_Z = 0x5a;
const CASE_BIT = 0x20;
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
      text[length++] = byte >= UPPER_A && byte <= UPPER_Z ? byte | CASE_BIT : byte;
    }
  }
  const end = offset + 4;
  if (end > message.length) return { rcode: RCODE.FORMERR };
  const query: Query = {
    // DNS leaves the case of other letters alone (RFC 4343); the names that Docker takes do not need them to differ.
    name: dotInLabel ? undefined : ascii ? text.toString('latin1', 0, length) : text.toString('utf8', 0, length).toLowerCase(),
    type: message.readUInt16BE(offset), class: message.readUInt16BE(offset + 2), end, edns: false, udpSize: PLAIN_UDP_SIZE,
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
    version = (record.ttl >>> 16) & 0xff;
  });
  if (end < 0 || options > 1 || malformed) return { rcode: RCODE.FORMERR };
  return version > 0 ? { rcode: RCODE.BADVERS } : query;
}
