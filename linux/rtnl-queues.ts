/** A token bucket as the queue of a link, and what comes in by a link sent through the queue of another one first (tc-tbf(8), tc-mirred(8), linux/pkt_sched.h). */
import { attribute, nested, parseAttributes, readText, text, u32 } from './attributes.ts';
import type { TokenBucket } from './types.ts';

export const RTM_GETQDISC = 38;

/** Size of struct tcmsg. */
export const TC_HEADER = 20;
const ROOT = 0xffffffff;
const BUCKET_HANDLE = 0x00010000;
export const TCA = { KIND: 1, OPTIONS: 2 } as const;
const TBF = { PARAMETERS: 1, RATE64: 4, BURST: 6 } as const;
/** struct tc_tbf_qopt: two of tc_ratespec (12 bytes), limit, buffer, mtu. */
const TBF_PARAMETERS_SIZE = 36;
const TBF_LIMIT = 24;
const RATE_OFFSET = 8;
/** With it the kernel reckons with rates and bursts itself, and needs no table of them. */
const LINKLAYER_ETHERNET = 1;
const LARGEST_U32 = 0xffffffff;
const ACT = { KIND: 1, OPTIONS: 2 } as const;
const MIRRED_PARAMETERS = 2;
const TC_ACT_STOLEN = 4;
const EGRESS_REDIRECT = 1;

/** struct tcmsg */
export function tcHeader(index: number, handle: number, parent: number, info = 0): Buffer {
  const bytes = Buffer.alloc(TC_HEADER);
  bytes.writeInt32LE(index, 4);
  bytes.writeUInt32LE(handle, 8);
  bytes.writeUInt32LE(parent, 12);
  bytes.writeUInt32LE(info, 16);
  return bytes;
}

export function encodeTokenBucket(index: number, { bytesPerSecond, burst, limit }: TokenBucket): Buffer {
  const parameters = Buffer.alloc(TBF_PARAMETERS_SIZE);
  parameters.writeUInt8(LINKLAYER_ETHERNET, 1);
  parameters.writeUInt32LE(Math.min(bytesPerSecond, LARGEST_U32), RATE_OFFSET);
  parameters.writeUInt32LE(limit, TBF_LIMIT);
  const rate = Buffer.alloc(8);
  rate.writeBigUInt64LE(BigInt(bytesPerSecond));
  return Buffer.concat([
    tcHeader(index, BUCKET_HANDLE, ROOT), text(TCA.KIND, 'tbf'),
    nested(TCA.OPTIONS, attribute(TBF.PARAMETERS, parameters), u32(TBF.BURST, burst), ...(bytesPerSecond >= LARGEST_U32 ? [attribute(TBF.RATE64, rate)] : [])),
  ]);
}

export const rootQueueQuestion = (index: number): Buffer => tcHeader(index, 0, ROOT);

/** Bytes per second; undefined where the link's queue is another one. */
export function decodeTokenBucketRate(body: Buffer): number | undefined {
  const attributes = parseAttributes(body.subarray(TC_HEADER));
  if (readText(attributes.get(TCA.KIND)) !== 'tbf') return undefined;
  const options = parseAttributes(attributes.get(TCA.OPTIONS) ?? Buffer.alloc(0));
  const large = options.get(TBF.RATE64);
  return large ? Number(large.readBigUInt64LE(0)) : options.get(TBF.PARAMETERS)?.readUInt32LE(RATE_OFFSET);
}

/** What a filter does with a packet: it goes on as if it were sent by the link `to` (struct tc_mirred). */
export function redirect(type: number, to: number): Buffer {
  const parameters = Buffer.alloc(28);
  parameters.writeInt32LE(TC_ACT_STOLEN, 8);
  parameters.writeInt32LE(EGRESS_REDIRECT, 20);
  parameters.writeUInt32LE(to, 24);
  return nested(type, nested(1, text(ACT.KIND, 'mirred'), nested(ACT.OPTIONS, attribute(MIRRED_PARAMETERS, parameters))));
}
