/** Addresses and numbers that follow from a node's number, the same on every node. */
import { formatIp4, parsePrefix4, size4 } from '../../base/ip.ts';

/** VNI of the routed tunnel between the nodes; networks come after it. Swarm's start at 4096. */
export const INGRESS_VNI = 0x800000;
/** Two bytes of each node's MAC address. */
const LAST_NUMBER = 0xfffe;
/** VXLAN over IPv4: outer IPv4 (20), UDP (8), VXLAN (8), inner Ethernet (14) (RFC 7348 §5). */
export const VXLAN_OVERHEAD = 50;

/** What a backend sees where the host itself is the client. `prefix`: of all nodes' addresses, the same everywhere. */
export const nodeAddress = (prefix: string, number: number): string => formatIp4(parsePrefix4(prefix)!.base + number);
/** The last number that has an address in the prefix. */
export const lastNodeNumber = (prefix: string): number => Math.min(LAST_NUMBER, size4(parsePrefix4(prefix)!) - 2);
export const nodeMac = (number: number): string => `02:77:66:00:${hex(number >> 8)}:${hex(number & 255)}`;
/** Connections that came in through this node are marked with it, and answered through it. */
export const nodeMark = (number: number): number => 0x48000000 + number;
/** Routing table whose default route leads to that node. */
export const nodeTable = (number: number): number => 100_000 + number;

const hex = (value: number): string => value.toString(16).padStart(2, '0');
