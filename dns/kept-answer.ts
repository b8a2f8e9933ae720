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
 * name round, so that clients spread. Where the client cannot take it all (`limit`), the first answers, and TC: clients without TCP (musl before
 * 1.2.4) use what they get, the others ask again (RFC 2181 §9). Returns the length.
 */
export function writeKept(out: Buffer, client: Buffer, query: Query, { message, survey }: KeptAnswer, { seconds, ttl }: Age, shift: number, limit: number): number {
  const flags = message.readUInt16BE(2);
  const asked = client.readUInt16BE(2);
  const room = limit - (query.edns ? OPT_LENGTH : 0);
  const fits = message.length <= room;
  const first = fits ? undefined : firstAnswers(message, survey, query.end, room);
  const length = first?.end ?? message.length;
  message.copy(out, 0, 0, length);
  client.copy(out, 0, 0, 2);
  client.copy(out, HEADER, HEADER, query.end);
  // Authenticated data is for those that understand it (RFC 6840 §5.8).
  const authentic = query.dnssecOk || asked & FLAG.AD ? flags & FLAG.AD : 0;
  out.writeUInt16BE(FLAG.QR | FLAG.RA | (asked & (FLAG.RD | FLAG.CD)) | authentic | (fits ? flags & FLAG.TC : FLAG.TC) | (flags & RCODE_MASK), 2);
  out.writeUInt16BE(1, 4);
  const records = first?.count ?? survey.ttls.length;
  for (let i = 0; i < records; i++) {
    const at = survey.ttls[i]!;
    out.writeUInt32BE(ttl ?? Math.max(0, message.readUInt32BE(at) - seconds), at);
  }
  rotate(out, message, survey.rotation, shift, length);
  if (first) {
    out.fill(0, 6, HEADER);
    out.writeUInt16BE(first.count, 6);
  }
  if (!query.edns) return length;
  out.writeUInt16BE((fits ? survey.additional : 0) + 1, 10);
  return writeOpt(out, length, 0, query.dnssecOk);
}

/** How many answers there is room for, and where the last of them ends. */
function firstAnswers(message: Buffer, { ttls }: Survey, questionEnd: number, room: number): { count: number; end: number } {
  const answers = message.readUInt16BE(6);
  let end = questionEnd;
  let count = 0;
  for (; count < answers; count++) {
    // The data's length stands behind the TTL, and the data behind that.
    const next = ttls[count]! + 6 + message.readUInt16BE(ttls[count]! + 4);
    if (next > room) break;
    end = next;
  }
  return { count, end };
}

/** As far as `end`. */
function rotate(out: Buffer, message: Buffer, rotation: readonly number[], shift: number, end: number): void {
  const count = rotation.length;
  if (count === 0) return;
  const length = message.readUInt16BE(rotation[0]! - 2);
  // With signatures wanted the order is as free: it is the set that is signed (RFC 4034 §6.3).
  for (let i = 0; i < count && rotation[i]! < end; i++) {
    const from = rotation[(i + shift) % count]!;
    message.copy(out, rotation[i]!, from, from + length);
  }
}
