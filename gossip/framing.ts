/** What surrounds messages: compounds and checksums in packets, the sealed frame of a stream. */
import { crc32 } from 'node:zlib';
import type { Random } from '../base/random.ts';
import type { Keyring } from './keyring.ts';
import { MAX_USER_BYTES, TYPE } from './messages.ts';
import { Incomplete } from './msgpack.ts';

const MAX_PARTS = 255;
const MAX_NESTING = 4;
const COMPOUND_HEADER = 2;
const PART_HEADER = 2;
const FRAME_HEADER = 5;
export const COMPOUND_OVERHEAD = COMPOUND_HEADER;
export const PART_OVERHEAD = PART_HEADER;
const NOTHING = Buffer.alloc(0);

/** `07 | count | length u16 × count | bodies`; up to 255 parts. One message is left as it is. */
export function compound(messages: readonly Buffer[]): Buffer {
  if (messages.length === 1) return messages[0]!;
  if (messages.length > MAX_PARTS) throw new RangeError(`a packet takes ${MAX_PARTS} messages`);
  const header = Buffer.alloc(COMPOUND_HEADER + PART_HEADER * messages.length);
  header[0] = TYPE.compound;
  header[1] = messages.length;
  messages.forEach((message, i) => header.writeUInt16BE(message.length, COMPOUND_HEADER + PART_HEADER * i));
  return Buffer.concat([header, ...messages]);
}

export function withChecksum(packet: Buffer): Buffer {
  const head = Buffer.alloc(5);
  head[0] = TYPE.crc;
  head.writeUInt32BE(crc32(packet), 1);
  return Buffer.concat([head, packet]);
}

/** The messages of an opened packet. Throws RangeError on a bad checksum and on what is nested too deeply; complete parts of a cut compound count. */
export function messagesOf(packet: Buffer, depth = 0): Buffer[] {
  if (packet.length === 0) return [];
  if (depth > MAX_NESTING) throw new RangeError('nested too deeply');
  if (packet[0] === TYPE.crc) {
    if (packet.length < 5 || crc32(packet.subarray(5)) !== packet.readUInt32BE(1)) throw new RangeError('the checksum is wrong');
    return messagesOf(packet.subarray(5), depth + 1);
  }
  if (packet[0] !== TYPE.compound) return [packet];
  const count = packet[1] ?? 0;
  const messages: Buffer[] = [];
  let at = COMPOUND_HEADER + PART_HEADER * count;
  for (let i = 0; i < count && COMPOUND_HEADER + PART_HEADER * (i + 1) <= packet.length; i++) {
    const length = packet.readUInt16BE(COMPOUND_HEADER + PART_HEADER * i);
    if (at + length > packet.length) break;
    messages.push(...messagesOf(packet.subarray(at, at + length), depth + 1));
    at += length;
  }
  return messages;
}

export const sealPacket = (packet: Buffer, keyring: Keyring | undefined, random: Random): Buffer => (keyring ? keyring.seal(packet, NOTHING, random) : packet);
export const openPacket = (packet: Buffer, keyring: Keyring | undefined): Buffer | undefined => (keyring ? keyring.open(packet, NOTHING) : packet);

/** `0a | length u32 | sealed`: the header is what the seal is bound to. */
export function sealStream(message: Buffer, keyring: Keyring | undefined, random: Random, overhead: number): Buffer {
  if (!keyring) return message;
  const header = Buffer.alloc(FRAME_HEADER);
  header[0] = TYPE.encrypt;
  header.writeUInt32BE(message.length + overhead, 1);
  return Buffer.concat([header, keyring.seal(message, header, random)]);
}

/** The message of a stream so far. Throws Incomplete until all of a sealed frame is there, RangeError for what is not acceptable. */
export function openStream(data: Buffer, keyring: Keyring | undefined): Buffer {
  if (data.length === 0) throw new Incomplete();
  if (!keyring) {
    if (data[0] === TYPE.encrypt) throw new RangeError('the stream is encrypted, and no key is configured');
    return data;
  }
  if (data[0] !== TYPE.encrypt) throw new RangeError('the stream is not encrypted');
  if (data.length < FRAME_HEADER) throw new Incomplete();
  const length = data.readUInt32BE(1);
  if (length > MAX_USER_BYTES + (1 << 20)) throw new RangeError('a frame of that size is refused');
  if (data.length < FRAME_HEADER + length) throw new Incomplete();
  const opened = keyring.open(data.subarray(FRAME_HEADER, FRAME_HEADER + length), data.subarray(0, FRAME_HEADER));
  if (!opened) throw new RangeError('no key opens the stream');
  return opened;
}
