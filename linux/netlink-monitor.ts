/**
 * A netlink socket that only listens to multicast groups, waited for by Node's own event loop. Node opens no netlink
 * sockets, but libuv can wait for any datagram socket (libuv manual, uv_udp_open), so a UDP socket is opened the
 * public way and the netlink socket is put in its place (dup3) before the loop first looks at it. An overflow then
 * comes as an ordinary 'error' event with ENOBUFS.
 */
import { createSocket } from 'node:dgram';
import { check, sys } from './ffi.ts';
import { takeOnly, type Wanted } from './netlink-filter.ts';
import { parseMessages, type ReceivedMessage } from './netlink-message.ts';
import { openSocket } from './netlink-socket.ts';
import type { Netns } from './types.ts';

const AF_INET = 2;
const SOCK_DGRAM = 2;
const O_CLOEXEC = 0o2000000;

export interface MonitorOptions {
  netns: Netns;
  protocol: number;
  /** A bit mask of the groups 1 to 32. */
  groups: number;
  /** All by default; some others may come in the very beginning. */
  wanted?: readonly Wanted[];
  /** One datagram; the bodies are views that belong to the handler. */
  onMessages(messages: ReceivedMessage[]): void;
  /** The kernel dropped some: everything must be read again. */
  onLost(): void;
}

/** Returns the way to stop (idempotent). A monitor alone does not keep the process alive. */
export function monitor({ netns, protocol, groups, wanted, onMessages, onLost }: MonitorOptions): () => void {
  const netlink = openSocket(netns, protocol, groups);
  const fd = sys.socket(AF_INET, SOCK_DGRAM | O_CLOEXEC, 0);
  const socket = createSocket('udp4');
  try {
    if (wanted) takeOnly(netlink, wanted);
    check('open a socket', fd);
    socket.bind({ fd });
    check('put a netlink socket in place', sys.dup3(netlink, fd, O_CLOEXEC));
  } finally {
    sys.close(netlink);
  }
  socket.unref();
  socket.on('message', (datagram) => onMessages(parseMessages(datagram)));
  socket.on('error', () => {
    drain(fd);
    onLost();
  });
  let open = true;
  return () => {
    if (open) socket.close();
    open = false;
  };
}

/**
 * After an overflow the kernel goes on dropping, without a further error, until the queue has once been empty
 * (NETLINK_S_CONGESTED in net/netlink/af_netlink.c). What is thrown away here is read again anyway.
 */
function drain(fd: number): void {
  const scratch = Buffer.allocUnsafe(1);
  while (sys.recv(fd, scratch, scratch.length, 0) >= 0);
}
