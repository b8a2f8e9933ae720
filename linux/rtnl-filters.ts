/** eBPF programs at the ingress of a link: the clsact queueing discipline and its filters (linux/pkt_cls.h, tc-bpf(8)). */
import { nested, parseAttributes, readText, text, u32 } from './attributes.ts';

export const RTM_NEWQDISC = 36;
export const RTM_DELQDISC = 37;
export const RTM_NEWTFILTER = 44;
export const RTM_DELTFILTER = 45;
export const RTM_GETTFILTER = 46;

const HEADER = 20;
const CLSACT = 0xfffffff1;
const CLSACT_HANDLE = 0xffff0000;
const CLSACT_INGRESS = 0xfffffff2;
const TCA = { KIND: 1, OPTIONS: 2 } as const;
const BPF = { FD: 6, NAME: 7, FLAGS: 8 } as const;
/** What the program returns is what becomes of the packet. */
const DIRECT_ACTION = 1;
/** First of its link, for packets of all protocols: the priority, and ETH_P_ALL in network order. */
const FIRST_OF_ALL = (1 << 16) | 0x0300;
const HANDLE = 1;

/** struct tcmsg */
function header(index: number, handle: number, parent: number, info = 0): Buffer {
  const bytes = Buffer.alloc(HEADER);
  bytes.writeInt32LE(index, 4);
  bytes.writeUInt32LE(handle, 8);
  bytes.writeUInt32LE(parent, 12);
  bytes.writeUInt32LE(info, 16);
  return bytes;
}

export const encodeClsact = (index: number): Buffer => Buffer.concat([header(index, CLSACT_HANDLE, CLSACT), text(TCA.KIND, 'clsact')]);

export const encodeIngressProgram = (index: number, fd: number, name: string): Buffer => Buffer.concat([
  header(index, HANDLE, CLSACT_INGRESS, FIRST_OF_ALL),
  text(TCA.KIND, 'bpf'),
  nested(TCA.OPTIONS, u32(BPF.FD, fd), text(BPF.NAME, name), u32(BPF.FLAGS, DIRECT_ACTION)),
]);

export const ingressQuery = (index: number): Buffer => header(index, 0, CLSACT_INGRESS);

/** The name of the program that comes first; undefined for filters of others. */
export function decodeIngressProgram(body: Buffer): string | undefined {
  if (body.readUInt32LE(8) !== HANDLE || body.readUInt32LE(16) !== FIRST_OF_ALL) return undefined;
  const attributes = parseAttributes(body.subarray(HEADER));
  return readText(attributes.get(TCA.KIND)) === 'bpf' ? readText(parseAttributes(attributes.get(TCA.OPTIONS) ?? Buffer.alloc(0)).get(BPF.NAME)) : undefined;
}
