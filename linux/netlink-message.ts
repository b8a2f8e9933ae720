/** Netlink messages: a header of 16 bytes, then the family's own (linux/netlink.h). */
import { align, parseAttributes, readText } from './attributes.ts';
import { errnoName } from './ffi.ts';
import { KernelError } from './types.ts';

const NLM_F_REQUEST = 1;
export const NLM_F_ACK = 4;
export const NLM_F_ECHO = 8;
/** NLM_F_ROOT and NLM_F_MATCH: the whole table. */
export const NLM_F_DUMP = 0x300;
export const NLM_F_DUMP_INTR = 0x10;
export const NLM_F_REPLACE = 0x100;
export const NLM_F_EXCL = 0x200;
export const NLM_F_CREATE = 0x400;
export const NLM_F_APPEND = 0x800;
const NLM_F_CAPPED = 0x100;
const NLM_F_ACK_TLVS = 0x200;

export const NLMSG_ERROR = 2;
export const NLMSG_DONE = 3;
const NLMSGERR_ATTR_MSG = 1;

const HEADER = 16;

/** What is asked: the request flag, length and sequence number are added when it is sent. */
export interface Message { type: number; flags: number; body: Uint8Array }
export interface ReceivedMessage { type: number; flags: number; sequence: number; body: Buffer }

export function encodeMessage({ type, flags, body }: Message, sequence: number): Buffer {
  const message = Buffer.alloc(align(HEADER + body.length));
  message.writeUInt32LE(HEADER + body.length, 0);
  message.writeUInt16LE(type, 4);
  message.writeUInt16LE(flags | NLM_F_REQUEST, 6);
  message.writeUInt32LE(sequence, 8);
  message.set(body, HEADER);
  return message;
}

/** The messages of one datagram, as views of it. What does not fit its own length ends the list. */
export function parseMessages(datagram: Buffer): ReceivedMessage[] {
  const messages: ReceivedMessage[] = [];
  for (let offset = 0; offset + HEADER <= datagram.length;) {
    const length = datagram.readUInt32LE(offset);
    if (length < HEADER || offset + length > datagram.length) break;
    messages.push({
      type: datagram.readUInt16LE(offset + 4),
      flags: datagram.readUInt16LE(offset + 6),
      sequence: datagram.readUInt32LE(offset + 8),
      body: datagram.subarray(offset + HEADER, offset + length),
    });
    offset += align(length);
  }
  return messages;
}

/**
 * The error an NLMSG_ERROR or NLMSG_DONE carries; undefined for a plain acknowledgement. NLMSG_ERROR is nlmsgerr: errno,
 * then the header of the message at fault (all of the message where it is not capped), then the kernel's explanation.
 */
export function errorOf(what: string, { type, flags, body }: ReceivedMessage): KernelError | undefined {
  const code = body.length >= 4 ? body.readInt32LE(0) : 0;
  if (code >= 0) return undefined;
  const cause = type === NLMSG_DONE ? 0 : flags & NLM_F_CAPPED ? HEADER : align(body.readUInt32LE(4));
  const explained = flags & NLM_F_ACK_TLVS ? parseAttributes(body.subarray(4 + cause)) : undefined;
  return new KernelError(what, errnoName(-code), readText(explained?.get(NLMSGERR_ATTR_MSG)));
}
