/**
 * Deletes connection tracking entries (linux/netfilter/nfnetlink_conntrack.h). A UDP flow keeps its translation as long
 * as packets come, so it would stick to a backend that is gone.
 */
import { IP_PROTOCOL } from '../base/ip-protocols.ts';
import { ipToBytes } from '../base/ip.ts';
import { familyOf, type Family } from '../base/prefix.ts';
import { type Attributes, attribute, nested, optional, parseAttributes, u16be, u32, u8 } from './attributes.ts';
import { NETLINK_NETFILTER, openNetlink, type NetlinkSocket } from './netlink-socket.ts';
import { nfgenmsg, NFNL_SUBSYS_CTNETLINK } from './nfnetlink.ts';
import { readSysctl } from './sysctl.ts';
import { KernelError, type Netns } from './types.ts';

const GET = (NFNL_SUBSYS_CTNETLINK << 8) | 1;
const DELETE = (NFNL_SUBSYS_CTNETLINK << 8) | 2;
/** NFPROTO_IPV4, NFPROTO_IPV6 of linux/netfilter.h. */
const NFPROTO = { 4: 2, 6: 10 } as const;
const CTA = { TUPLE_ORIG: 1, TUPLE_REPLY: 2, ID: 12, ZONE: 18, FILTER: 25 } as const;
const TUPLE = { IP: 1, PROTO: 2 } as const;
const IP = { 4: { SRC: 1, DST: 2 }, 6: { SRC: 3, DST: 4 } } as const;
const PROTO = { NUM: 1, SRC_PORT: 2, DST_PORT: 3 } as const;
/** CTA_FILTER_FLAG: which fields of a tuple must be equal. */
const EQUAL = { IP_SRC: 1, IP_DST: 2, PROTO_NUM: 8, PROTO_SRC_PORT: 16, PROTO_DST_PORT: 32 } as const;
const WHAT = 'forget flows';

/** What is left out may be anything, but for the family: where no address tells it, it is `family`, or IPv4. */
export interface FlowFilter {
  protocol: 'tcp' | 'udp';
  family?: Family;
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
    if (hasIpv6Address(filter)) deleteOneByOne(netns, socket, filter);
    else socket.request(WHAT, { type: DELETE, flags: 0, body: encodeFilter(filter) });
  } catch (error) {
    if (!(error instanceof KernelError)) throw error;
    if (error.code === 'ENOENT') return;
    // Kernels of before 2024 (6.1, say) filter what they show, but not what they delete.
    if (error.code !== 'EINVAL' && error.code !== 'EOPNOTSUPP') throw error;
    deleteOneByOne(netns, socket, filter);
  } finally {
    socket.close();
  }
}

/** Forgets every flow to a backend, however it was translated. */
export const deleteFlowsTo = (netns: Netns, protocol: FlowFilter['protocol'], ip: string, port: number): void =>
  deleteFlows(netns, { protocol, replySource: ip, replySourcePort: port });

/** To show any, the kernel walks the flows of all namespaces (9 ms with the usual 262,144 buckets): not where there are none, or nobody tracks any. */
function deleteOneByOne(netns: Netns, socket: NetlinkSocket, filter: FlowFilter): void {
  if ((readSysctl(netns, 'net/netfilter/nf_conntrack_count') ?? '0') === '0') return;
  const { originalDestination, replySource, ...withoutAddresses } = filter;
  const asked = hasIpv6Address(filter) ? { ...withoutAddresses, family: 6 as const } : filter;
  const flows = socket.dump(WHAT, GET, encodeFilter(asked)).map(({ body }) => parseAttributes(body.subarray(4)));
  const isAt = (flow: Attributes, tuple: number, address: number, ip: string | undefined): boolean =>
    ip === undefined || inside(inside(flow, tuple), TUPLE.IP).get(address)?.equals(ipToBytes(ip)) === true;
  const { SRC, DST } = IP[familyIn(filter)];
  const matching = flows.filter((flow) => isAt(flow, CTA.TUPLE_ORIG, DST, originalDestination) && isAt(flow, CTA.TUPLE_REPLY, SRC, replySource));
  const deletions = matching.map((attributes) => {
    const same = [CTA.TUPLE_ORIG, CTA.ZONE, CTA.ID].flatMap((type) => optional(attributes.get(type), (payload) => attribute(type, payload)));
    return { type: DELETE, flags: 0, body: Buffer.concat([nfgenmsg(NFPROTO[familyIn(filter)]), ...same]) };
  });
  const failed = socket.batch(WHAT, deletions).find(({ error }) => error.code !== 'ENOENT');
  if (failed) throw failed.error;
}

const inside = (attributes: Attributes, type: number): Attributes => parseAttributes(attributes.get(type) ?? Buffer.alloc(0));

/** The kernel's own filter takes equal IPv6 addresses for different ones (ctnetlink_filter_match_tuple(), as of 6.18), so they are compared here. */
const hasIpv6Address = (filter: FlowFilter): boolean => familyIn(filter) === 6 && (filter.originalDestination ?? filter.replySource) !== undefined;

function familyIn({ family, originalDestination, replySource }: FlowFilter): Family {
  const address = originalDestination ?? replySource;
  return address === undefined ? family ?? 4 : familyOf(address);
}

function encodeFilter(filter: FlowFilter): Buffer {
  const { protocol, originalDestination, originalDestinationPort, replySource, replySourcePort } = filter;
  const family = familyIn(filter);
  const tuple = (type: number, ip: Buffer[], port: Buffer[]): Buffer =>
    nested(type, ...(ip.length > 0 ? [nested(TUPLE.IP, ...ip)] : []), nested(TUPLE.PROTO, u8(PROTO.NUM, IP_PROTOCOL[protocol]), ...port));
  const flags = (...parts: [value: unknown, flag: number][]): number => parts.reduce<number>((mask, [value, bit]) => (value === undefined ? mask : mask | bit), EQUAL.PROTO_NUM);
  return Buffer.concat([
    nfgenmsg(NFPROTO[family]),
    tuple(CTA.TUPLE_ORIG, optional(originalDestination, (ip) => attribute(IP[family].DST, ipToBytes(ip))), optional(originalDestinationPort, (port) => u16be(PROTO.DST_PORT, port))),
    tuple(CTA.TUPLE_REPLY, optional(replySource, (ip) => attribute(IP[family].SRC, ipToBytes(ip))), optional(replySourcePort, (port) => u16be(PROTO.SRC_PORT, port))),
    nested(
      CTA.FILTER,
      u32(1, flags([originalDestination, EQUAL.IP_DST], [originalDestinationPort, EQUAL.PROTO_DST_PORT])),
      u32(2, flags([replySource, EQUAL.IP_SRC], [replySourcePort, EQUAL.PROTO_SRC_PORT])),
    ),
  ]);
}
