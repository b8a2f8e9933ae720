/** What surrounds the messages of a packet inside its envelope: compound, checksum, compression. */
import { crc32 } from 'node:zlib';
import { Refused } from './counters.ts';
import { decompress } from './lzw.ts';
import { TYPE, decodeCompressed } from './messages.ts';

export const MAX_PARTS = 255;
const MAX_NESTING = 4;
const COMPOUND_HEADER = 2;
/** Each message of a compound costs this besides its own bytes. */
export const PART_OVERHEAD = 2;
const CHECKSUM_HEADER = 5;
/** What one packet may unpack to in all, in bytes and messages; an honest peer fits its packet before it compresses it. */
const MAX_UNPACKED = 64 << 10;
const MAX_MESSAGES = 1_024;

/** `07 | count | length u16 × count | bodies`; up to MAX_PARTS. One message is left as it is. */
export function compound(messages: readonly Buffer[]): Buffer {
  if (messages.length === 1) return messages[0]!;
  if (messages.length > MAX_PARTS) throw new RangeError(`a packet takes ${MAX_PARTS} messages`);
  const header = Buffer.alloc(COMPOUND_HEADER + PART_OVERHEAD * messages.length);
  header[0] = TYPE.compound;
  header[1] = messages.length;
  messages.forEach((message, i) => header.writeUInt16BE(message.length, COMPOUND_HEADER + PART_OVERHEAD * i));
  return Buffer.concat([header, ...messages]);
}

export function withChecksum(packet: Buffer): Buffer {
  const head = Buffer.alloc(CHECKSUM_HEADER);
  head[0] = TYPE.crc;
  head.writeUInt32BE(crc32(packet), 1);
  return Buffer.concat([head, packet]);
}

/** Bytes that messages may take in a packet of `packetBytes` in an envelope, each with its PART_OVERHEAD. */
export const roomFor = (packetBytes: number, envelopeOverhead: number): number => packetBytes - COMPOUND_HEADER - CHECKSUM_HEADER - envelopeOverhead;

/** The messages of an opened packet; complete parts of a cut compound count. Throws Refused, RangeError and Incomplete for what makes no sense. */
export const messagesOf = (packet: Buffer): Buffer[] => unwrap(packet, 0, { bytes: MAX_UNPACKED, messages: MAX_MESSAGES });

function unwrap(packet: Buffer, depth: number, budget: { bytes: number; messages: number }): Buffer[] {
  if (packet.length === 0) return [];
  if (depth > MAX_NESTING) throw new RangeError('nested too deeply');
  if (packet[0] === TYPE.crc) {
    if (packet.length < CHECKSUM_HEADER || crc32(packet.subarray(CHECKSUM_HEADER)) !== packet.readUInt32BE(1)) throw new Refused('checksum', 'the checksum is wrong');
    return unwrap(packet.subarray(CHECKSUM_HEADER), depth + 1, budget);
  }
  if (packet[0] === TYPE.compress) {
    const unpacked = decompress(decodeCompressed(packet.subarray(1)), budget.bytes);
    budget.bytes -= unpacked.length;
    return unwrap(unpacked, depth + 1, budget);
  }
  if (packet[0] !== TYPE.compound) {
    if (budget.messages-- === 0) throw new RangeError('too many messages in one packet');
    return [packet];
  }
  const count = packet[1] ?? 0;
  const messages: Buffer[] = [];
  let at = COMPOUND_HEADER + PART_OVERHEAD * count;
  for (let i = 0; i < count && at <= packet.length; i++) {
    const length = packet.readUInt16BE(COMPOUND_HEADER + PART_OVERHEAD * i);
    if (at + length > packet.length) break;
    messages.push(...unwrap(packet.subarray(at, at + length), depth + 1, budget));
    at += length;
  }
  return messages;
}
