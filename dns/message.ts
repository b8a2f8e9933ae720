/** What all DNS messages have in common (RFC 1035 §4, RFC 6891). Offsets that come out as -1 mean: malformed. */

export const HEADER = 12;
export const TYPE = { A: 1, NS: 2, CNAME: 5, SOA: 6, PTR: 12, MX: 15, TXT: 16, AAAA: 28, SRV: 33, DNAME: 39, OPT: 41, IXFR: 251, AXFR: 252, ANY: 255 } as const;
export const CLASS_IN = 1;
export const RCODE = { NOERROR: 0, FORMERR: 1, SERVFAIL: 2, NXDOMAIN: 3, NOTIMP: 4, REFUSED: 5, BADVERS: 16 } as const;

/** Bits of the third and fourth byte, as one number. */
export const FLAG = { QR: 0x8000, AA: 0x0400, TC: 0x0200, RD: 0x0100, RA: 0x0080, AD: 0x0020, CD: 0x0010 } as const;
export const OPCODE_MASK = 0x7800;
export const RCODE_MASK = 0x000f;

export const MAX_NAME = 255;
export const MAX_LABEL = 63;
/** Of a reply, in all sections: far more than any honest one has, and what can be read without keeping others waiting. */
export const MAX_RECORDS = 512;
/** Fixed part of a resource record behind its owner's name: type, class, TTL, length. */
const RECORD_FIXED = 10;
const POINTER = 0xc0;

/** Where the name at an offset ends. A pointer ends it (RFC 1035 §4.1.4), and is not followed: nobody here needs the target. */
export function skipName(message: Buffer, offset: number): number {
  for (const start = offset; offset < message.length && offset - start < MAX_NAME;) {
    const length = message[offset]!;
    if (length === 0) return offset + 1;
    if (length >= POINTER) return offset + 2 <= message.length ? offset + 2 : -1;
    if (length > MAX_LABEL) return -1;
    offset += 1 + length;
  }
  return -1;
}

/** What the names of one message may cost altogether, in bytes: records can point at one long name thousands of times. */
export interface NameBudget { bytes: number }

const UPPER_A = 0x41;
const UPPER_Z = 0x5a;
const CASE_BIT = 0x20;
/** ASCII letters alone have a case in DNS (RFC 4343). */
export const lowerCase = (byte: number): number => (byte >= UPPER_A && byte <= UPPER_Z ? byte | CASE_BIT : byte);

const key = Buffer.alloc(MAX_NAME);

/**
 * The name at an offset for comparing: its uncompressed wire form in lower case, as latin1. Pointers must lead backwards, so
 * that they end. undefined: malformed, or the budget is used up.
 */
export function nameKey(message: Buffer, offset: number, budget: NameBudget): string | undefined {
  let length = 0;
  for (let start = offset; ;) {
    const size = message[offset];
    if (size === undefined) return undefined;
    if (size >= POINTER) {
      if (offset + 2 > message.length || (budget.bytes -= 2) < 0) return undefined;
      const target = message.readUInt16BE(offset) & ~(POINTER << 8);
      if (target < HEADER || target >= start) return undefined;
      offset = start = target;
      continue;
    }
    const end = offset + 1 + size;
    if (size > MAX_LABEL || end > message.length || length + 1 + size > MAX_NAME || (budget.bytes -= 1 + size) < 0) return undefined;
    // A label's length is below every letter.
    while (offset < end) key[length++] = lowerCase(message[offset++]!);
    if (size === 0) return key.toString('latin1', 0, length);
  }
}

/** One resource record; `owner` and `data` are offsets. */
export interface WireRecord { owner: number; type: number; class: number; ttl: number; data: number; length: number }

/** Walks over records from an offset and returns where they end. A record takes 11 bytes or more, so the message's length bounds the work. */
export function walkRecords(message: Buffer, offset: number, count: number, visit: (record: WireRecord) => void): number {
  for (let i = 0; i < count; i++) {
    const owner = offset;
    const fixed = skipName(message, owner);
    if (fixed < 0 || fixed + RECORD_FIXED > message.length) return -1;
    const length = message.readUInt16BE(fixed + 8);
    const data = fixed + RECORD_FIXED;
    if (data + length > message.length) return -1;
    visit({ owner, type: message.readUInt16BE(fixed), class: message.readUInt16BE(fixed + 2), ttl: message.readUInt32BE(fixed + 4), data, length });
    offset = data + length;
  }
  return offset;
}
