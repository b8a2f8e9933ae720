/** Writes responses into a buffer that the caller reuses. */
import { ipToBytes } from '../base/ip.ts';
import { CLASS_IN, FLAG, HEADER, MAX_LABEL, MAX_NAME, RCODE_MASK, TYPE } from './message.ts';
import type { Query } from './query.ts';

/** Records of names change whenever a container does; clients that keep answers must ask again soon. */
const TTL_SECONDS = 5;
const OPT_LENGTH = 11;
/** What we take over UDP; nothing larger reaches us on a loopback. */
const OUR_UDP_SIZE = 4096;
/** A record's bytes before its data, where its name is a pointer. */
const RECORD_LENGTH = 12;
const POINTER_TO_QUESTION = 0xc000 | HEADER;

/** What own records say: addresses, beginning with the one at `first`; the name behind an address; or that the name exists without such records. */
export type Answer =
  | { kind: 'addresses'; ips: readonly string[]; first: number }
  | { kind: 'pointer'; name: string }
  | { kind: 'nodata' };

/**
 * Response to a parsed query. `limit` is the size the client takes: records that do not fit are left out and TC is
 * set. Returns the length written. `out` must hold `limit` bytes, and 512 at least.
 */
export function encodeResponse(out: Buffer, message: Buffer, query: Query, rcode: number, answer: Answer | undefined, limit: number): number {
  message.copy(out, 0, 0, query.end);
  const end = limit - (query.edns ? OPT_LENGTH : 0);
  let offset = query.end;
  let count = 0;
  let truncated = false;
  if (answer?.kind === 'addresses') {
    for (let i = 0; i < answer.ips.length && !truncated; i++) {
      const address = ipToBytes(answer.ips[(answer.first + i) % answer.ips.length]!);
      if (offset + RECORD_LENGTH + address.length > end) truncated = true;
      else {
        offset = writeRecord(out, offset, address.length === 4 ? TYPE.A : TYPE.AAAA, address.length);
        out.set(address, offset);
        offset += address.length;
        count++;
      }
    }
  } else if (answer?.kind === 'pointer') {
    const name = encodeName(answer.name);
    // A name that DNS cannot carry is no answer: the address is known, its name cannot be told.
    if (name && offset + RECORD_LENGTH + name.length > end) truncated = true;
    else if (name) {
      offset = writeRecord(out, offset, TYPE.PTR, name.length);
      offset += name.copy(out, offset);
      count = 1;
    }
  }
  writeHeader(out, message, rcode, truncated);
  out.writeUInt16BE(1, 4);
  out.writeUInt16BE(count, 6);
  out.writeUInt16BE(0, 8);
  out.writeUInt16BE(query.edns ? 1 : 0, 10);
  return query.edns ? writeOpt(out, offset, rcode) : offset;
}

/** Response to what could not be parsed: a header alone, or with an OPT record where the rcode needs its upper bits there. */
export function encodeRejection(out: Buffer, message: Buffer, rcode: number): number {
  writeHeader(out, message, rcode, false);
  out.fill(0, 4, HEADER);
  if (rcode <= RCODE_MASK) return HEADER;
  out.writeUInt16BE(1, 10);
  return writeOpt(out, HEADER, rcode);
}

/** RD is copied, RA set, AA never: the answers Docker's resolver gives look the same. */
function writeHeader(out: Buffer, message: Buffer, rcode: number, truncated: boolean): void {
  message.copy(out, 0, 0, 2);
  const asked = message.readUInt16BE(2) & FLAG.RD;
  out.writeUInt16BE(FLAG.QR | asked | FLAG.RA | (truncated ? FLAG.TC : 0) | (rcode & RCODE_MASK), 2);
}

function writeRecord(out: Buffer, offset: number, type: number, length: number): number {
  offset = out.writeUInt16BE(POINTER_TO_QUESTION, offset);
  offset = out.writeUInt16BE(type, offset);
  offset = out.writeUInt16BE(CLASS_IN, offset);
  offset = out.writeUInt32BE(TTL_SECONDS, offset);
  return out.writeUInt16BE(length, offset);
}

function writeOpt(out: Buffer, offset: number, rcode: number): number {
  out[offset] = 0;
  offset = out.writeUInt16BE(TYPE.OPT, offset + 1);
  offset = out.writeUInt16BE(OUR_UDP_SIZE, offset);
  // The rcode's upper eight bits; version 0, no flags; no options.
  offset = out.writeUInt32BE((rcode >>> 4) << 24, offset);
  return out.writeUInt16BE(0, offset);
}

/** 'c1.web' → its labels on the wire; undefined where DNS has no room for it (RFC 1035 §2.3.4). */
export function encodeName(name: string): Buffer | undefined {
  const labels = name.split('.').map((label) => Buffer.from(label));
  if (labels.some(({ length }) => length === 0 || length > MAX_LABEL)) return undefined;
  const wire = Buffer.concat([...labels.flatMap((label) => [Buffer.of(label.length), label]), Buffer.of(0)]);
  return wire.length <= MAX_NAME ? wire : undefined;
}

/** Turns a query in hand into the failure of forwarding it. */
export function encodeFailure(message: Buffer, query: Query, rcode: number): Buffer {
  const out = Buffer.alloc(Math.max(512, query.end + OPT_LENGTH));
  return out.subarray(0, encodeResponse(out, message, query, rcode, undefined, out.length));
}
