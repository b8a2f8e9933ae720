/** Addresses and numbers that follow from a node's number, the same on every node. */

/** VNI of the routed tunnel between the nodes; networks come after it. Swarm's start at 4096. */
export const INGRESS_VNI = 0x800000;
/** VXLAN over IPv4: outer IPv4 (20), UDP (8), VXLAN (8), inner Ethernet (14) (RFC 7348 §5). */
export const VXLAN_OVERHEAD = 50;
export const NODE_PREFIX = '10.255.0.0/16';

/** What a backend sees where the host itself is the client. */
export const nodeAddress = (number: number): string => `10.255.${number >> 8}.${number & 255}`;
export const nodeMac = (number: number): string => `02:77:66:00:${hex(number >> 8)}:${hex(number & 255)}`;
/** Connections that came in through this node are marked with it, and answered through it. */
export const nodeMark = (number: number): number => 0x48000000 + number;
/** Routing table whose default route leads to that node. */
export const nodeTable = (number: number): number => 100_000 + number;

const hex = (value: number): string => value.toString(16).padStart(2, '0');
