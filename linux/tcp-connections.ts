/** Ends TCP connections of this host from outside of the program that holds them (linux/inet_diag.h; sock_diag(7)). */
import { IP_PROTOCOL } from '../base/ip-protocols.ts';
import { ipToBytes } from '../base/ip.ts';
import { openNetlink } from './netlink-socket.ts';
import type { Netns } from './types.ts';

const NETLINK_SOCK_DIAG = 4;
const SOCK_DIAG_BY_FAMILY = 20;
const SOCK_DESTROY = 21;
const AF_INET = 2;
const TCP_ESTABLISHED = 1;
const WHAT = 'end connections';
/** struct inet_diag_sockid, after four bytes in requests (struct inet_diag_req_v2, with the states in between) and answers (struct inet_diag_msg). */
const ID_BYTES = 48;
const ID = { request: 8, answer: 4 } as const;
const DESTINATION = { localPort: 0, address: 20 } as const;

function request(id: Uint8Array = Buffer.alloc(ID_BYTES)): Buffer {
  const bytes = Buffer.alloc(ID.request + ID_BYTES);
  bytes.set([AF_INET, IP_PROTOCOL.tcp]);
  bytes.writeUInt32LE(1 << TCP_ESTABLISHED, 4);
  bytes.set(id, ID.request);
  return bytes;
}

/** Resets the established connections over IPv4 that came from `peer` to one of the local ports; both ends see them break. Returns how many. */
export function endConnections(netns: Netns, peer: string, localPorts: readonly number[]): number {
  const socket = openNetlink(netns, NETLINK_SOCK_DIAG);
  try {
    const from = Buffer.from(ipToBytes(peer));
    const ids = socket.dump(WHAT, SOCK_DIAG_BY_FAMILY, request()).map(({ body }) => body.subarray(ID.answer, ID.answer + ID_BYTES))
      .filter((id) => from.equals(id.subarray(DESTINATION.address, DESTINATION.address + 4)) && localPorts.includes(id.readUInt16BE(DESTINATION.localPort)));
    const failed = socket.batch(WHAT, ids.map((id) => ({ type: SOCK_DESTROY, flags: 0, body: request(id) })));
    // It ended by itself meanwhile.
    const other = failed.find(({ error }) => error.code !== 'ENOENT');
    if (other) throw other.error;
    return ids.length;
  } finally {
    socket.close();
  }
}
