/**
 * Where resolvers listen in a namespace, asked of the kernel's socket diagnostics (linux/inet_diag.h): /proc/net/tcp
 * takes milliseconds on any host, since it walks the table of all connections.
 */
import { IP_PROTOCOL } from '../base/ip-protocols.ts';
import { openNetlink, type NetlinkSocket } from '../linux/netlink-socket.ts';
import type { Netns } from '../linux/types.ts';
import { MARK_ADDRESS, RESOLVER_ADDRESS } from './sockets.ts';

const NETLINK_SOCK_DIAG = 4;
const SOCK_DIAG_BY_FAMILY = 20;
const AF_INET = 2;
/** States as bits: waiting for connections; a UDP socket that is not connected. */
const TCP = { protocol: IP_PROTOCOL.tcp, states: 1 << 10 };
const UDP = { protocol: IP_PROTOCOL.udp, states: 1 << 7 };
const REQUEST_LENGTH = 56;
const SOURCE_PORT = 4;
const SOURCE_ADDRESS = 8;

export interface ResolverPorts { udp: number[]; tcp: number[] }

/** Ports on the resolver's address that are neither ours nor another weftd's. Throws KernelError. */
export function foreignPorts(netns: Netns): ResolverPorts {
  const socket = openNetlink(netns, NETLINK_SOCK_DIAG);
  try {
    const udp = listening(socket, UDP);
    const marked = new Set(udp.filter(({ ip }) => ip === MARK_ADDRESS).map(({ port }) => port));
    const foreign = (sockets: typeof udp): number[] => sockets.filter(({ ip, port }) => ip === RESOLVER_ADDRESS && !marked.has(port)).map(({ port }) => port);
    return { udp: foreign(udp), tcp: foreign(listening(socket, TCP)) };
  } finally {
    socket.close();
  }
}

function listening(socket: NetlinkSocket, { protocol, states }: { protocol: number; states: number }): { ip: string; port: number }[] {
  const request = Buffer.alloc(REQUEST_LENGTH);
  request[0] = AF_INET;
  request[1] = protocol;
  request.writeUInt32LE(states, 4);
  return socket.dump('find the resolvers of a sandbox', SOCK_DIAG_BY_FAMILY, request)
    .map(({ body }) => ({ ip: body.subarray(SOURCE_ADDRESS, SOURCE_ADDRESS + 4).join('.'), port: body.readUInt16BE(SOURCE_PORT) }));
}
