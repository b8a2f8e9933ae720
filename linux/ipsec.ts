/** Whether a namespace has policies of IPsec: the kernel's Security Policy Database (linux/xfrm.h; RFC 4301 §4.4.1). */
import { openNetlink } from './netlink-socket.ts';
import { KernelError, type Netns } from './types.ts';
import { parseAttributes } from './attributes.ts';

const NETLINK_XFRM = 6;
const XFRM_MSG_GETSPDINFO = 37;
const XFRMA_SPD_INFO = 1;
/** Flags, which the kernel wants and does not read. */
const QUESTION_BYTES = 4;
/** struct xfrmu_spdinfo: those of packets that come in, leave and are forwarded, and three times those of sockets. */
const DIRECTIONS = 3;
/** The kernel has no IPsec. */
const WITHOUT = new Set(['EPROTONOSUPPORT', 'EOPNOTSUPP']);

/** Throws KernelError. */
export function hasIpsecPolicies(netns: Netns): boolean {
  try {
    const socket = openNetlink(netns, NETLINK_XFRM);
    try {
      const [reply] = socket.request('count IPsec policies', { type: XFRM_MSG_GETSPDINFO, flags: 0, body: Buffer.alloc(QUESTION_BYTES) });
      const counts = reply && parseAttributes(reply.body.subarray(QUESTION_BYTES)).get(XFRMA_SPD_INFO);
      return counts !== undefined && Array.from({ length: DIRECTIONS }, (_, i) => counts.readUInt32LE(4 * i)).some((count) => count > 0);
    } finally {
      socket.close();
    }
  } catch (error) {
    if (error instanceof KernelError && WITHOUT.has(error.code)) return false;
    throw error;
  }
}
