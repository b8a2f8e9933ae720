/** eBPF programs at the ingress of a link: the clsact queueing discipline and its filters (linux/pkt_cls.h, tc-bpf(8)). */
import { nested, parseAttributes, readText, text, u32 } from './attributes.ts';
import { TCA, TC_HEADER, redirect, tcHeader } from './rtnl-queues.ts';
import type { Turn } from './types.ts';

export const RTM_NEWQDISC = 36;
export const RTM_DELQDISC = 37;
export const RTM_NEWTFILTER = 44;
export const RTM_DELTFILTER = 45;
export const RTM_GETTFILTER = 46;

const CLSACT = 0xfffffff1;
const CLSACT_HANDLE = 0xffff0000;
const CLSACT_INGRESS = 0xfffffff2;
const CLSACT_EGRESS = 0xfffffff3;
const BPF = { ACT: 1, FD: 6, NAME: 7, FLAGS: 8 } as const;
/** What the program returns is what becomes of the packet. */
const DIRECT_ACTION = 1;
/** For packets of all protocols: ETH_P_ALL in network order. */
const ALL = 0x0300;
const FIRST = 1;
const SECOND = 2;
/** After all that others attach without saying where (the kernel counts down from 0xc000 for them). */
const LAST = 0xc001;
const HANDLE = 1;

export const encodeClsact = (index: number): Buffer => Buffer.concat([tcHeader(index, CLSACT_HANDLE, CLSACT), text(TCA.KIND, 'clsact')]);

const PRIORITY: Record<Turn, number> = { first: FIRST, last: LAST };
/** struct tcmsg's tcm_info. */
const info = (priority: number): number => ((priority << 16) | ALL) >>> 0;

export const encodeIngressProgram = (index: number, turn: Turn, fd: number, name: string): Buffer => Buffer.concat([
  tcHeader(index, HANDLE, CLSACT_INGRESS, info(PRIORITY[turn])),
  text(TCA.KIND, 'bpf'),
  nested(TCA.OPTIONS, u32(BPF.FD, fd), text(BPF.NAME, name), u32(BPF.FLAGS, DIRECT_ACTION)),
]);

/** After the first program has let it pass. `fd`: a program that takes everything. */
export const encodeIngressRedirect = (index: number, fd: number, to: number): Buffer => Buffer.concat([
  tcHeader(index, HANDLE, CLSACT_INGRESS, info(SECOND)),
  text(TCA.KIND, 'bpf'),
  nested(TCA.OPTIONS, redirect(BPF.ACT, to), u32(BPF.FD, fd), text(BPF.NAME, redirectName(to))),
]);

/** How a redirection is known again. */
const redirectName = (to: number): string => `to-${to}`;

export const ingressQuery = (index: number): Buffer => tcHeader(index, 0, CLSACT_INGRESS);
export const egressQuery = (index: number): Buffer => tcHeader(index, 0, CLSACT_EGRESS);
export const ingressProgramOf = (index: number, turn: Turn): Buffer => tcHeader(index, HANDLE, CLSACT_INGRESS, info(PRIORITY[turn]));

/** The name of the program that has this turn; undefined for filters of others. */
export const decodeIngressProgram = (body: Buffer, turn: Turn): string | undefined => decodeName(body, PRIORITY[turn]);
export const isIngressRedirect = (body: Buffer, to: number): boolean => decodeName(body, SECOND) === redirectName(to);

function decodeName(body: Buffer, priority: number): string | undefined {
  if (body.readUInt32LE(8) !== HANDLE || body.readUInt32LE(16) !== info(priority)) return undefined;
  const attributes = parseAttributes(body.subarray(TC_HEADER));
  return readText(attributes.get(TCA.KIND)) === 'bpf' ? readText(parseAttributes(attributes.get(TCA.OPTIONS) ?? Buffer.alloc(0)).get(BPF.NAME)) : undefined;
}
