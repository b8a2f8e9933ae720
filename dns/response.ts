/** Writes responses into a buffer that the caller reuses. */
import { ipToBytes } from '../base/ip.ts';
import { CLASS_IN, FLAG, HEADER, MAX_LABEL, MAX_NAME, OPCODE_MASK, RCODE_MASK, TYPE } from './message.ts';
import type { ServiceTarget } from './lookup.ts';
import type { Query } from './query.ts';

/** Bytes of an OPT record without options. */
export const OPT_LENGTH = 11;
const DNSSEC_OK = 0x8000;
/** What we take over UDP; nothing larger reaches us on a loopback. */
const OUR_UDP_SIZE = 4096;
/** A record's bytes between its owner's name and its data. */
const RECORD_FIXED = 10;
const POINTER_LENGTH = 2;
const POINTER_TO_QUESTION = 0xc000 | HEADER;

/** Fixed part of a SRV record's data. */
const SRV_FIXED = 6;
/** What a pointer can point at (RFC 1035 §4.1.4). */
const POINTER_LIMIT = 0x4000;

/** A name that leads to another one. */
export interface Alias { target: string; ttl: number }

/** `owner`: a whole name; without it the name that was asked for, or what it is an alias of. */
export interface ResponseRecord { owner?: Uint8Array; type: number; ttl: number; data: Uint8Array }

/**
 * What is answered: addresses, beginning with the one at `first`, of which the first `near` take turns, or all; the name behind an address; who listens on a port, in turn like
 * addresses; records of any kind; or that the name exists without such records. All of it may be found at the end of some `aliases`. TTLs in seconds.
 */
export type Answer = (
  | { kind: 'addresses'; ips: readonly string[]; first: number; near?: number; ttl: number }
  | { kind: 'pointer'; name: string; ttl: number }
  | { kind: 'services'; targets: readonly ServiceTarget[]; first: number; near: number; ttl: number }
  | { kind: 'records'; records: readonly ResponseRecord[]; first: number }
  | { kind: 'nodata' }
) & { aliases?: readonly Alias[] };

/**
 * Response to a parsed query. `limit` is the size the client takes: records that do not fit are left out and TC is
 * set. Returns the length written. `out` must hold `limit` bytes, and 512 at least.
 */
export function encodeResponse(out: Buffer, message: Buffer, query: Query, rcode: number, answer: Answer | undefined, limit: number): number {
  message.copy(out, 0, 0, query.end);
  const records = new RecordWriter(out, query.end, limit - (query.edns ? OPT_LENGTH : 0));
  const owner = answer?.aliases ? writeAliases(records, answer.aliases) : POINTER_TO_QUESTION;
  let additional = 0;
  if (answer?.kind === 'addresses') {
    const { ips, first, near = ips.length, ttl } = answer;
    for (let i = 0; i < ips.length && !records.full; i++) records.address(owner, ips[placeIn(i, first, near)]!, ttl);
  } else if (answer?.kind === 'pointer') {
    const name = encodeName(answer.name);
    // A name that DNS cannot carry is no answer: the address is known, its name cannot be told.
    if (name) records.add(owner, TYPE.PTR, answer.ttl, name);
  } else if (answer?.kind === 'services') {
    additional = writeServices(records, answer, owner);
  } else if (answer?.kind === 'records') {
    for (let i = 0; i < answer.records.length && !records.full; i++) {
      const { owner: whole, type, ttl, data } = answer.records[(answer.first + i) % answer.records.length]!;
      records.add(whole ?? owner, type, ttl, data);
    }
  }
  writeHeader(out, message, rcode, records.full);
  out.writeUInt16BE(1, 4);
  out.writeUInt16BE(records.count - additional, 6);
  out.writeUInt16BE(0, 8);
  out.writeUInt16BE(additional + (query.edns ? 1 : 0), 10);
  return query.edns ? writeOpt(out, records.offset, rcode, query.dnssecOk) : records.offset;
}

/** Which one of several comes at this place. */
const placeIn = (i: number, first: number, near: number): number => (i < near ? (first + i) % near : i);

/** Records one behind the other, for as long as there is room for whole ones. */
class RecordWriter {
  readonly #out: Buffer;
  readonly #end: number;
  offset: number;
  count = 0;
  /** Something did not fit. */
  full = false;

  constructor(out: Buffer, offset: number, end: number) {
    this.#out = out;
    this.offset = offset;
    this.#end = end;
  }

  /** `owner`: a pointer, or a whole name. Whether there was room for it. */
  add(owner: number | Uint8Array, type: number, ttl: number, data: Uint8Array): boolean {
    const out = this.#out;
    let { offset } = this;
    const ownerLength = typeof owner === 'number' ? POINTER_LENGTH : owner.length;
    if (offset + ownerLength + RECORD_FIXED + data.length > this.#end) {
      this.full = true;
      return false;
    }
    if (typeof owner === 'number') out.writeUInt16BE(owner, offset);
    else out.set(owner, offset);
    offset += ownerLength;
    offset = out.writeUInt16BE(type, offset);
    offset = out.writeUInt16BE(CLASS_IN, offset);
    offset = out.writeUInt32BE(ttl, offset);
    offset = out.writeUInt16BE(data.length, offset);
    out.set(data, offset);
    this.offset = offset + data.length;
    this.count++;
    return true;
  }

  address(owner: number, ip: string, ttl: number): boolean {
    const data = ipToBytes(ip);
    return this.add(owner, data.length === 4 ? TYPE.A : TYPE.AAAA, ttl, data);
  }
}

/** Returns the pointer to the last one's target: there are few, so all of them lie where pointers reach. */
function writeAliases(records: RecordWriter, aliases: readonly Alias[]): number {
  let owner = POINTER_TO_QUESTION;
  for (const { target, ttl } of aliases) {
    const start = records.offset + POINTER_LENGTH + RECORD_FIXED;
    if (!records.add(owner, TYPE.CNAME, ttl, encodeName(target)!)) break;
    owner = 0xc000 | start;
  }
  return owner;
}

/** Each target with its addresses, where there is room for these (RFC 2782: a client asks for those that are left out). Returns how many of these there are. */
function writeServices(records: RecordWriter, { targets, first, near, ttl }: Extract<Answer, { kind: 'services' }>, owner: number): number {
  const written: { name: number; addresses: readonly string[] }[] = [];
  for (let i = 0; i < targets.length && !records.full; i++) {
    const { target, port, priority, addresses } = targets[placeIn(i, first, near)]!;
    const name = encodeName(target);
    const data = Buffer.concat([Buffer.alloc(SRV_FIXED), name ?? Buffer.alloc(0)]);
    data.writeUInt16BE(priority, 0);
    // Weight 0: those of one priority are the same.
    data.writeUInt16BE(port, 4);
    const start = records.offset + POINTER_LENGTH + RECORD_FIXED + SRV_FIXED;
    if (name && records.add(owner, TYPE.SRV, ttl, data) && start < POINTER_LIMIT) written.push({ name: start, addresses });
  }
  const before = records.count;
  const { full } = records;
  for (const { name, addresses } of written) for (const ip of addresses) if (!records.full) records.address(0xc000 | name, ip, ttl);
  records.full = full;
  return records.count - before;
}

/** Response to what could not be parsed: a header alone, or with an OPT record where the rcode needs its upper bits there. */
export function encodeRejection(out: Buffer, message: Buffer, rcode: number): number {
  writeHeader(out, message, rcode, false);
  out.fill(0, 4, HEADER);
  if (rcode <= RCODE_MASK) return HEADER;
  out.writeUInt16BE(1, 10);
  return writeOpt(out, HEADER, rcode);
}

/** Opcode, RD and CD are copied (RFC 1035 §4.1.1, RFC 4035 §3.2.2), RA set, AA never: the answers Docker's resolver gives look the same. */
function writeHeader(out: Buffer, message: Buffer, rcode: number, truncated: boolean): void {
  message.copy(out, 0, 0, 2);
  const asked = message.readUInt16BE(2) & (OPCODE_MASK | FLAG.RD | FLAG.CD);
  out.writeUInt16BE(FLAG.QR | asked | FLAG.RA | (truncated ? FLAG.TC : 0) | (rcode & RCODE_MASK), 2);
}

/** Without options. Returns where it ends. */
export function writeOpt(out: Buffer, offset: number, rcode: number, dnssecOk = false): number {
  out[offset] = 0;
  offset = out.writeUInt16BE(TYPE.OPT, offset + 1);
  offset = out.writeUInt16BE(OUR_UDP_SIZE, offset);
  // The rcode's upper eight bits; version 0; the client's wish for signatures comes back (RFC 3225 §3).
  offset = out.writeUInt32BE(((rcode >>> 4) << 24) | (dnssecOk ? DNSSEC_OK : 0), offset);
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

/** Turns a query over UDP into the advice to ask over TCP, without anything of the answer (RFC 2181 §9). */
export function encodeTruncation(message: Buffer, query: Query): Buffer {
  const out = encodeFailure(message, query, 0);
  out.writeUInt16BE(out.readUInt16BE(2) | FLAG.TC, 2);
  return out;
}
