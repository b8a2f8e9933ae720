import { deleteFlows } from '../linux/conntrack.ts';
import type { Netns } from '../linux/types.ts';
import { RESOLVER_ADDRESS } from './sockets.ts';

/**
 * Forgets which resolver a sandbox's clients were turned to. Their flows would keep it for as long as they ask: a
 * client that keeps its socket (nginx, c-ares) would never come to us, or not let go of a port that nobody listens on.
 */
export const forgetResolverFlows = (netns: Netns): void =>
  deleteFlows(netns, { protocol: 'udp', originalDestination: RESOLVER_ADDRESS, originalDestinationPort: 53 });
