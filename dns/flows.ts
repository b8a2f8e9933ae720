import { IP_PROTOCOL } from '../base/ip-protocols.ts';
import { ipToBytes } from '../base/ip.ts';
import { attribute, nested, u16be, u32, u8 } from '../linux/attributes.ts';
import { openNetlink } from '../linux/netlink-socket.ts';
import { KernelError, type Netns } from '../linux/types.ts';
import { RESOLVER_ADDRESS } from './sockets.ts';

const NETLINK_NETFILTER = 12;
const CT_DELETE = (1 << 8) | 2;
const AF_INET = 2;
const CTA = { TUPLE_ORIG: 1, FILTER: 25 } as const;
/** CTA_FILTER_FLAG: destination address, protocol, destination port. */
const DESTINATION = 2 | 8 | 32;

/**
 * Forgets which resolver a sandbox's clients were turned to. Their flows would keep it for as long as they ask: a
 * client that keeps its socket (nginx, c-ares) would never come to us, or not let go of a port that nobody listens on.
 */
export function forgetResolverFlows(netns: Netns): void {
  const socket = openNetlink(netns, NETLINK_NETFILTER);
  try {
    socket.request('forget the flows to a resolver', {
      type: CT_DELETE,
      flags: 0,
      body: Buffer.concat([
        Buffer.from([AF_INET, 0, 0, 0]),
        nested(CTA.TUPLE_ORIG, nested(1, attribute(2, ipToBytes(RESOLVER_ADDRESS))), nested(2, u8(1, IP_PROTOCOL.udp), u16be(3, 53))),
        nested(CTA.FILTER, u32(1, DESTINATION), u32(2, 0)),
      ]),
    });
  } catch (error) {
    if (!(error instanceof KernelError && error.code === 'ENOENT')) throw error;
  } finally {
    socket.close();
  }
}
