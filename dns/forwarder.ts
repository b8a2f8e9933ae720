/** What the two ways of asking another resolver have in common. */
import type { Clock } from '../base/clock.ts';
import type { Random } from '../base/random.ts';
import { FLAG, HEADER, lowerCase, TYPE } from './message.ts';
import type { Query } from './query.ts';

export const FORWARD_TIMEOUT_MS = 4000;
export type Transport = 'udp' | 'tcp';

/** Nobody listens there; nobody answered in time; too many questions at once; we are leaving, and nobody else is to be asked. */
export type Failure = 'absent' | 'timeout' | 'busy' | 'closed';

export interface Forwarder {
  /** Asks for a client. `end` is where the question ends. The reply carries the client's id and question; never rejects. */
  ask(message: Buffer, end: number, transport: Transport): Promise<Buffer | Failure>;
  /** Everything under way, and everything asked from now on, is 'closed'. */
  close(): void;
}

export interface ForwarderOptions { clock: Clock; random: Random }

/** What fits into one packet nearly everywhere, so that answers are not lost in fragments (DNS flag day 2020). */
const UDP_BYTES = 1232;
const OPT_LENGTH = 11;
const DNSSEC_OK = 0x8000;

/** The question as we ask it ourselves: with EDNS, and with nothing of the client's but what changes the answer. Its id is 0. */
export function composeQuery(message: Buffer, query: Query): Buffer {
  const out = Buffer.alloc(query.end + OPT_LENGTH);
  message.copy(out, HEADER, HEADER, query.end);
  out.writeUInt16BE(FLAG.RD | (message.readUInt16BE(2) & (FLAG.AD | FLAG.CD)), 2);
  out.writeUInt16BE(1, 4);
  out.writeUInt16BE(1, 10);
  out.writeUInt16BE(TYPE.OPT, query.end + 1);
  out.writeUInt16BE(UDP_BYTES, query.end + 3);
  out.writeUInt16BE(query.dnssecOk ? DNSSEC_OK : 0, query.end + 7);
  return out;
}

/** A copy of the query under an id that nobody can guess. */
export function disguise(message: Buffer, random: Random): Buffer {
  const copy = Buffer.from(message);
  copy.set(random.bytes(2), 0);
  return copy;
}

const LOWER_A = 0x61;
const LOWER_Z = 0x7a;
const CASE_BIT = 0x20;

/** Turns letters of the question at random into capitals, in place: whoever forges an answer has to guess these, too (draft-vixie-dnsext-dns0x20). */
export function mixCase(query: Buffer, end: number, random: Random): void {
  const bits = random.bytes((end + 7) >>> 3);
  for (let i = HEADER; i < end - 4; i++) {
    const letter = lowerCase(query[i]!);
    if (letter >= LOWER_A && letter <= LOWER_Z) query[i] = bits[i >>> 3]! & (1 << (i & 7)) ? letter ^ CASE_BIT : letter;
  }
}

/** Gives a reply the id and, where it has one, the question that the client knows. */
export function addressed(reply: Buffer, message: Buffer, end: number): Buffer {
  message.copy(reply, 0, 0, 2);
  if (reply.readUInt16BE(4) === 1) message.copy(reply, HEADER, HEADER, end);
  return reply;
}
