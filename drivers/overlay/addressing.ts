/** Addresses and numbers that follow from a node's number, the same on every node. */
import { createHash } from 'node:crypto';
import { bytesToIp, formatIp4, parsePrefix4, size4 } from '../../base/ip.ts';
import type { Family } from '../../base/prefix.ts';

/** VNI of the routed tunnel between the nodes; networks come after it. Swarm's start at 4096. */
export const INGRESS_VNI = 0x800000;
/** Two bytes of each node's MAC address. */
const LAST_NUMBER = 0xfffe;
/** VXLAN, by the family of the nodes' addresses: outer IPv4 (20) or IPv6 (40), UDP (8), VXLAN (8), inner Ethernet (14) (RFC 7348 §5). */
export const VXLAN_OVERHEAD = { 4: 50, 6: 70 } as const;
/** WireGuard: outer IPv4 (20) or IPv6 (40), UDP (8), header (16), authentication tag (16) (wireguard.com/papers/wireguard.pdf §5.4.6). */
export const WIREGUARD_OVERHEAD = { 4: 60, 6: 80 } as const;
/** What an encrypted network's frames take of a packet between the nodes: inside of WireGuard, VXLAN is IPv4's. */
export const sealedOverhead = (family: Family): number => WIREGUARD_OVERHEAD[family] + VXLAN_OVERHEAD[4];
/**
 * Of the nodes' ends of the WireGuard link, which are inside of it and nowhere else: of a prefix that nobody has (RFC 1112 §4),
 * so that neither a container nor a host can mean something else by one, and no router takes a packet that went astray.
 */
export const SEALED_PREFIX = '240.0.0.0/16';
export const sealedAddress = (number: number): string => nodeAddress(SEALED_PREFIX, number);

/** What a backend sees where the host itself is the client. `prefix`: of all nodes' addresses, the same everywhere. */
export const nodeAddress = (prefix: string, number: number): string => formatIp4(parsePrefix4(prefix)!.base + number);
/** The last number that has an address in the prefix. */
export const lastNodeNumber = (prefix: string): number => Math.min(LAST_NUMBER, size4(parsePrefix4(prefix)!) - 2);
/**
 * The same of IPv6: a unique local prefix (RFC 4193) whose global id is a hash of the IPv4 prefix, so that it is the same
 * everywhere without being agreed on, and another one where that one is.
 */
export function nodeAddress6(prefix: string, number: number): string {
  const bytes = new Uint8Array(16);
  bytes[0] = 0xfd;
  bytes.set(createHash('sha256').update(`weft nodes ${prefix}`).digest().subarray(0, 5), 1);
  bytes.set([number >> 8, number & 255], 14);
  return bytesToIp(bytes);
}
/** Next hop on weft-in: of the node's end of it. */
export const nodeLinkLocal = (number: number): string => `fe80::${number.toString(16)}`;
export const nodeMac = (number: number): string => `02:77:66:00:${hex(number >> 8)}:${hex(number & 255)}`;
/** Connections that came in through this node are marked with it, and answered through it. */
export const nodeMark = (number: number): number => 0x48000000 + number;
/** The same for those that came through it by way of the WireGuard link. */
export const sealedMark = (number: number): number => nodeMark(0x10000 + number);
/** Routing table whose default route leads to that node. */
export const nodeTable = (number: number): number => 100_000 + number;
/** The same by way of the WireGuard link. */
export const sealedTable = (number: number): number => 200_000 + number;

const hex = (value: number): string => value.toString(16).padStart(2, '0');
