/**
 * Deletes connection tracking entries (linux/netfilter/nfnetlink_conntrack.h). A UDP flow keeps its translation as long
 * as packets come, so it would stick to a backend that is gone.
 */
import { IP_PROTOCOL } from '../base/ip-protocols.ts';
import { ipToBytes } from '../base/ip.ts';
import { attribute, nested, optional, parseAttributes, u16be, u32, u8 } from './attributes.ts';
import { NETLINK_NETFILTER, openNetlink, type NetlinkSocket } from './netlink-socket.ts';
import { nfgenmsg, NFNL_SUBSYS_CTNETLINK } from './nfnetlink.ts';
import { readSysctl } from './sysctl.ts';
import { KernelError, type Netns } from './types.ts';

const GET = (NFNL_SUBSYS_CTNETLINK << 8) | 1;
const DELETE = (NFNL_SUBSYS_CTNETLINK << 8) | 2;
const NFPROTO_IPV4 = 2;
const CTA = { TUPLE_ORIG: 1, TUPLE_REPLY: 2, ID: 12, ZONE: 18, FILTER: 25 } as const;
const TUPLE = { IP: 1, PROTO: 2 } as const;
const IP = { SRC: 1, DST: 2 } as const;
const PROTO = { NUM: 1, SRC_PORT: 2, DST_PORT: 3 } as const;
/** CTA_FILTER_FLAG: which fields of a tuple must be equal. */
const EQUAL = { IP_SRC: 1, IP_DST: 2, PROTO_NUM: 8, PROTO_SRC_PORT: 16, PROTO_DST_PORT: 32 } as const;
const WHAT = 'forget flows';

/** IPv4. What is left out may be anything. */
export interface FlowFilter {
  protocol: 'tcp' | 'udp';
  /** Where the first packet was sent, before any translation (a published port). */
  originalDestination?: string;
  originalDestinationPort?: number;
  /** Where answers come from, after translation (a backend). */
  replySource?: string;
  replySourcePort?: number;
}

/** Forgets all flows that match, in all zones: the next packet of each is looked at anew. None is not an error. */
export function deleteFlows(netns: Netns, filter: FlowFilter): void {
  const socket = openNetlink(netns, NETLINK_NETFILTER);
  try {
    deleteFlowsBy(socket, netns, filter);
  } finally {
    socket.close();
  }
}

/** The same by a socket of the namespace that is open already: to make one and to close it takes three times as long as the deletion. */
export function deleteFlowsBy(socket: NetlinkSocket, netns: Netns, filter: FlowFilter): void {
  try {
    socket.request(WHAT, { type: DELETE, flags: 0, body: encodeFilter(filter) });
  } catch (error) {
    if (!(error instanceof KernelError)) throw error;
    if (error.code === 'ENOENT') return;
    // Kernels of before 2024 (6.1, say) filter what they show, but not what they delete.
    if (error.code !== 'EINVAL' && error.code !== 'EOPNOTSUPP') throw error;
    deleteOneByOne(netns, socket, filter);
  }
}

/** Forgets every flow to a backend, however it was translated. */
export const deleteFlowsTo = (netns: Netns, protocol: FlowFilter['protocol'], ip: string, port: number): void =>
  deleteFlows(netns, { protocol, replySource: ip, replySourcePort: port });

/** To show any, the kernel walks the flows of all namespaces (9 ms with the usual 262,144 buckets): not where there are none, or nobody tracks any. */
function deleteOneByOne(netns: Netns, socket: NetlinkSocket, filter: FlowFilter): void {
  if ((readSysctl(netns, 'net/netfilter/nf_conntrack_count') ?? '0') === '0') return;
  const deletions = socket.dump(WHAT, GET, encodeFilter(filter)).map(({ body }) => {
    const attributes = parseAttributes(body.subarray(4));
    const same = [CTA.TUPLE_ORIG, CTA.ZONE, CTA.ID].flatMap((type) => optional(attributes.get(type), (payload) => attribute(type, payload)));
    return { type: DELETE, flags: 0, body: Buffer.concat([nfgenmsg(NFPROTO_IPV4), ...same]) };
  });
  const failed = socket.batch(WHAT, deletions).find(({ error }) => error.code !== 'ENOENT');
  if (failed) throw failed.error;
}

function encodeFilter({ protocol, originalDestination, originalDestinationPort, replySource, replySourcePort }: FlowFilter): Buffer {
  const tuple = (type: number, ip: Buffer[], port: Buffer[]): Buffer =>
    nested(type, ...(ip.length > 0 ? [nested(TUPLE.IP, ...ip)] : []), nested(TUPLE.PROTO, u8(PROTO.NUM, IP_PROTOCOL[protocol]), ...port));
  const flags = (...parts: [value: unknown, flag: number][]): number => parts.reduce<number>((mask, [value, bit]) => (value === undefined ? mask : mask | bit), EQUAL.PROTO_NUM);
  return Buffer.concat([
    nfgenmsg(NFPROTO_IPV4),
    tuple(CTA.TUPLE_ORIG, optional(originalDestination, (ip) => attribute(IP.DST, ipToBytes(ip))), optional(originalDestinationPort, (port) => u16be(PROTO.DST_PORT, port))),
    tuple(CTA.TUPLE_REPLY, optional(replySource, (ip) => attribute(IP.SRC, ipToBytes(ip))), optional(replySourcePort, (port) => u16be(PROTO.SRC_PORT, port))),
    nested(
      CTA.FILTER,
      u32(1, flags([originalDestination, EQUAL.IP_DST], [originalDestinationPort, EQUAL.PROTO_DST_PORT])),
      u32(2, flags([replySource, EQUAL.IP_SRC], [replySourcePort, EQUAL.PROTO_SRC_PORT])),
    ),
  ]);
}
