/** What nodes ask each other through weft-in to learn which sizes arrive. Frames without IP: no rule and no route but the underlay's decides about them. */
import { macToBytes } from '../../base/ip.ts';
import { nodeMac } from './addressing.ts';

/** For local experiments (IEEE 802, "Local Experimental EtherType 2"); that of tunnel-probe.ts is the first. */
export const ETHER_TYPE = 0x88b6;
const HEADER = 14;
/** The shortest frame that Ethernet has, without its checksum. */
const FRAME_BYTES = 60;
const KINDS = { question: 1, answer: 2 } as const;

/** `node`: the other one's number. `size`: of the question, without its header, as an MTU counts. */
export interface PathFrame { kind: keyof typeof KINDS; node: number; round: number; size: number }

/** Of nodes' MAC addresses; their numbers follow. */
const MAC_PREFIX = Buffer.from(macToBytes(nodeMac(0)).subarray(0, 4));
/** A link carries no more. */
const LARGEST = 65_535;
const scratch = Buffer.alloc(HEADER + LARGEST);

/** A question is as large as it says, an answer small. The frame is good until the next one is made: there are many. */
export function encodePathFrame(own: number, { kind, node, round, size }: PathFrame): Buffer {
  MAC_PREFIX.copy(scratch, 0);
  scratch.writeUInt16BE(node, 4);
  MAC_PREFIX.copy(scratch, 6);
  scratch.writeUInt16BE(own, 10);
  scratch.writeUInt16BE(ETHER_TYPE, 12);
  scratch.writeUInt8(KINDS[kind], HEADER);
  scratch.writeUInt32BE(round, HEADER + 1);
  scratch.writeUInt16BE(size, HEADER + 5);
  return scratch.subarray(0, Math.max(FRAME_BYTES, kind === 'question' ? HEADER + size : 0));
}

/** undefined where it is for somebody else, or nothing of this kind. */
export function decodePathFrame(own: number, frame: Buffer): PathFrame | undefined {
  if (frame.length < FRAME_BYTES || MAC_PREFIX.compare(frame, 0, 4) !== 0 || frame.readUInt16BE(4) !== own || MAC_PREFIX.compare(frame, 6, 10) !== 0) return undefined;
  const code = frame.readUInt8(HEADER);
  const kind = code === KINDS.question ? 'question' : code === KINDS.answer ? 'answer' : undefined;
  return kind && { kind, node: frame.readUInt16BE(10), round: frame.readUInt32BE(HEADER + 1), size: frame.readUInt16BE(HEADER + 5) };
}
