/**
 * Deletes connection tracking entries, filtered by the kernel (linux/netfilter/nfnetlink_conntrack.h). A UDP flow keeps
 * its translation as long as packets come, so it would stick to a backend that is gone.
 */
import { ipToBytes } from '../base/ip.ts';
import { attribute, nested, u16be, u32, u8 } from './attributes.ts';
import { openNetlink } from './netlink-socket.ts';
import { KernelError, type Netns } from './types.ts';

const NETLINK_NETFILTER = 12;
const NFNL_SUBSYS_CTNETLINK = 1;
const IPCTNL_MSG_CT_DELETE = 2;
const AF_INET = 2;
const PROTOCOLS = { tcp: 6, udp: 17 } as const;
const CTA = { TUPLE_REPLY: 2, FILTER: 25 } as const;
/** CTA_FILTER_FLAG: source address, protocol, source port. */
const REPLY_SOURCE_AND_PORT = 1 | 8 | 16;

/** Forgets every flow whose replies come from `ip`:`port` (a backend), however it was translated. */
export function deleteFlowsTo(netns: Netns, protocol: keyof typeof PROTOCOLS, ip: string, port: number): void {
  const socket = openNetlink(netns, NETLINK_NETFILTER);
  try {
    socket.request('forget the flows of a backend', {
      type: (NFNL_SUBSYS_CTNETLINK << 8) | IPCTNL_MSG_CT_DELETE,
      flags: 0,
      body: Buffer.concat([
        Buffer.from([AF_INET, 0, 0, 0]),
        nested(CTA.TUPLE_REPLY, nested(1, attribute(1, ipToBytes(ip))), nested(2, u8(1, PROTOCOLS[protocol]), u16be(2, port))),
        nested(CTA.FILTER, u32(1, 0), u32(2, REPLY_SOURCE_AND_PORT)),
      ]),
    });
  } catch (error) {
    if (!(error instanceof KernelError && error.code === 'ENOENT')) throw error;
  } finally {
    socket.close();
  }
}
