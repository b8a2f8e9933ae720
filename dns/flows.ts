import { deleteFlows, deleteFlowsBy, type FlowFilter } from '../linux/conntrack.ts';
import type { NetlinkSocket } from '../linux/netlink-socket.ts';
import type { Netns } from '../linux/types.ts';
import { RESOLVER_ADDRESS } from './sockets.ts';

const FLOWS: FlowFilter = { protocol: 'udp', originalDestination: RESOLVER_ADDRESS, originalDestinationPort: 53 };

/**
 * Forgets which resolver a sandbox's clients were turned to. Their flows would keep it for as long as they ask: a
 * client that keeps its socket (nginx, c-ares) would never come to us, or not let go of a port that nobody listens on.
 * `socket`: one of nfnetlink in the namespace, where there is one.
 */
export const forgetResolverFlows = (netns: Netns, socket?: NetlinkSocket): void => (socket ? deleteFlowsBy(socket, netns, FLOWS) : deleteFlows(netns, FLOWS));
