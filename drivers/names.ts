import { createHash } from 'node:crypto';

/** Names of the links that belong to a network or an endpoint: a prefix and the first 11 digits of its id (a link's name has at most 15 characters). */
const DIGITS = 11;

export const hostEnd = (endpointId: string): string => `wc-${endpointId.slice(0, DIGITS)}`;
export const bridgeEnd = (endpointId: string): string => `we-${endpointId.slice(0, DIGITS)}`;
/** What holds back what an endpoint sends. */
export const limiter = (endpointId: string): string => `wl-${endpointId.slice(0, DIGITS)}`;
export const overlayBridge = (networkId: string): string => `wb-${networkId.slice(0, DIGITS)}`;
export const overlayTunnel = (networkId: string): string => `wv-${networkId.slice(0, DIGITS)}`;
/** Of a bridge network: the host's link on it, its bridge, and the bridge's port towards the host. */
export const hostBridge = (networkId: string): string => `wbr-${networkId.slice(0, DIGITS)}`;
/** Matches the host's links on all of them. */
export const HOST_BRIDGES = 'wbr-*';
export const apartBridge = (networkId: string): string => `wb-${networkId.slice(0, DIGITS)}`;
export const apartUplink = (networkId: string): string => `wu-${networkId.slice(0, DIGITS)}`;

/** The two ends of the link between the host and the fabric. */
export const UPLINK = { host: 'weft-up', fabric: 'uplink' } as const;

/** Links of networks that stand on an interface of the host's. */
export interface StackedNames {
  /** An endpoint's link while it is the host's. */
  endpoint(endpointId: string): string;
  /** The host's own link on a network. */
  hostAccess(networkId: string): string;
  /** What a network without an interface stands on. */
  isolatedParent(networkId: string): string;
  /** Matches all of them. */
  readonly pattern: RegExp;
}
const stackedNames = (letters: string): StackedNames => ({
  endpoint: (endpointId) => `${letters}-${endpointId.slice(0, DIGITS)}`,
  hostAccess: (networkId) => `${letters}h-${networkId.slice(0, DIGITS)}`,
  isolatedParent: (networkId) => `${letters}p-${networkId.slice(0, DIGITS)}`,
  pattern: new RegExp(`^${letters}[hp]?-`),
});
export const MACVLAN_NAMES = stackedNames('wm');
export const IPVLAN_NAMES = stackedNames('wi');

/** Matches the fabric's links, and those of networks. Not what comes and goes with an endpoint. */
export const NETWORK_LINKS = /^(weft-(up|in|in-wg|wg)$|w(b|br|u|v|[im][hp])-)/;

/** Of links whose name is the user's, although we made them (an 802.1Q sub-interface, a bridge): their link group. */
export const MADE_BY_WEFT = 0x77656d64;

/** The digits of the endpoint that a bridge's end of a veth pair belongs to. */
export const endpointDigits = (linkName: string): string | undefined => (linkName.startsWith('we-') ? linkName.slice(3) : undefined);

/**
 * A network's gateway has the same MAC on every node, and keeps it: a bridge without one of its own takes that of a port,
 * and changes it as containers come and go, under the feet of everybody's ARP cache.
 */
export function gatewayMac(networkId: string): string {
  const hash = createHash('sha256').update(networkId).digest('hex');
  return `02:77:65:${hash.slice(0, 2)}:${hash.slice(2, 4)}:${hash.slice(4, 6)}`;
}
