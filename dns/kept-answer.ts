/** A reply as it is kept: without what was for us alone, and made into the answer of any client that asks the same. */
import { FLAG, HEADER, RCODE_MASK } from './message.ts';
import type { Query } from './query.ts';
import { OPT_LENGTH, writeOpt } from './response.ts';
import type { Survey } from './survey.ts';

export interface KeptAnswer {
  /** Header, question and records, without an OPT record. */
  readonly message: Buffer;
  readonly survey: Survey;
}

/** Copies it: the buffer that a reply came in is much larger than the reply. */
export function keep(reply: Buffer, survey: Survey): KeptAnswer {
  const message = Buffer.allocUnsafeSlow(survey.end);
  reply.copy(message, 0, 0, survey.end);
  message.writeUInt16BE(survey.additional, 10);
  return { message, survey };
}

export interface Age {
  /** Seconds since the reply came. */
  seconds: number;
  /** TTL to give instead, in seconds: what is past its time may be used a little longer (RFC 8767 §4). */
  ttl?: number;
}

/** At least as large as what `writeKept` writes. */
export const keptLength = ({ message }: KeptAnswer): number => message.length + OPT_LENGTH;

/**
 * Writes the answer to a client's query: its id, its question letter by letter, TTLs less the time that it was kept. `shift` moves addresses of a
 * name round, so that clients spread. Where the client cannot take it all (`limit`), the question alone, and TC. Returns the length.
 */
export function writeKept(out: Buffer, client: Buffer, query: Query, { message, survey }: KeptAnswer, { seconds, ttl }: Age, shift: number, limit: number): number {
  const flags = message.readUInt16BE(2);
  const asked = client.readUInt16BE(2);
  const fits = message.length + (query.edns ? OPT_LENGTH : 0) <= limit;
  const length = fits ? message.length : query.end;
  message.copy(out, 0, 0, length);
  client.copy(out, 0, 0, 2);
  client.copy(out, HEADER, HEADER, query.end);
  // Authenticated data is for those that understand it (RFC 6840 §5.8).
  const authentic = query.dnssecOk || asked & FLAG.AD ? flags & FLAG.AD : 0;
  out.writeUInt16BE(FLAG.QR | FLAG.RA | (asked & (FLAG.RD | FLAG.CD)) | authentic | (fits ? flags & FLAG.TC : FLAG.TC) | (flags & RCODE_MASK), 2);
  out.writeUInt16BE(1, 4);
  if (fits) {
    for (const at of survey.ttls) out.writeUInt32BE(ttl ?? Math.max(0, message.readUInt32BE(at) - seconds), at);
    rotate(out, message, survey.rotation, shift);
  } else {
    out.fill(0, 6, HEADER);
  }
  if (!query.edns) return length;
  out.writeUInt16BE((fits ? survey.additional : 0) + 1, 10);
  return writeOpt(out, length, 0, query.dnssecOk);
}

function rotate(out: Buffer, message: Buffer, rotation: readonly number[], shift: number): void {
  const count = rotation.length;
  if (count === 0) return;
  const length = message.readUInt16BE(rotation[0]! - 2);
  // With signatures wanted the order is as free: it is the set that is signed (RFC 4034 §6.3).
  for (let i = 0; i < count; i++) {
    const from = rotation[(i + shift) % count]!;
    message.copy(out, rotation[i]!, from, from + length);
  }
}
