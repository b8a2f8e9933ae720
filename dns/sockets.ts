/**
 * Sockets inside a sandbox's namespace. A socket belongs to the namespace it was made in for good, so it is made and
 * bound inside by plain system calls (Node binds and connects on a later tick, outside), and served from outside.
 */
import { createSocket, type Socket as DatagramSocket } from 'node:dgram';
import { check, sys } from '../linux/ffi.ts';
import { KernelError, type Netns } from '../linux/types.ts';

/** Where containers send their queries; Docker's resolver and ours both listen there, on ports of their own. */
export const RESOLVER_ADDRESS = '127.0.0.11';
/**
 * On this address weftd binds, over UDP, the number of the port it listens on. So one weftd can tell another's
 * listeners from Docker's while one hands over to the next, and two of them never ask each other in a circle.
 */
export const MARK_ADDRESS = '127.0.0.12';

const AF_INET = 2;
const SOCK = { udp: 2, tcp: 1 } as const;
const SOCK_FLAGS = 0o2000000 | 0o4000; // close-on-exec, non-blocking
const SOL_SOCKET = 1;
const SO_REUSEADDR = 2;
const SOL_IP = 0;
const IP_FREEBIND = 15;
const SOCKADDR_LENGTH = 16;
const BACKLOG = 64;
const MSG_DONTWAIT = 0x40;
const ATTEMPTS = 16;

export interface Listeners {
  port: number;
  udp: number;
  tcp: number;
  /** Never read; closed with the others. */
  mark: number;
}

/** One port number of the namespace, on UDP and TCP. All are file descriptors for the caller to close. Throws KernelError. */
export function openListeners(netns: Netns): Listeners {
  return netns.run(() => {
    for (let attempt = 1; ; attempt++) {
      const fds: number[] = [];
      try {
        // The mark first: whoever sees the listeners must see it too.
        const mark = add(fds, boundSocket('udp', MARK_ADDRESS, 0));
        const port = portOf(mark);
        const udp = add(fds, boundSocket('udp', RESOLVER_ADDRESS, port));
        const tcp = add(fds, boundSocket('tcp', RESOLVER_ADDRESS, port));
        check('listen in the sandbox', sys.listen(tcp, BACKLOG));
        return { port, udp, tcp, mark };
      } catch (error) {
        for (const fd of fds) sys.close(fd);
        if (!(error instanceof KernelError && error.code === 'EADDRINUSE') || attempt === ATTEMPTS) throw error;
      }
    }
  });
}

/**
 * A socket of the namespace, for asking. UDP is bound here already: libuv allows every socket it is given to share its
 * port, and the kernel would then choose the same one for several of them.
 */
export const openClient = (netns: Netns, protocol: keyof typeof SOCK): number =>
  netns.run(() => (protocol === 'udp' ? boundSocket('udp', '127.0.0.1', 0) : newSocket('tcp')));

/** Takes the descriptor over: closing the socket closes it, and so does a failure. */
export function datagramSocket(fd: number): DatagramSocket {
  // Without a lookup of our own every send goes through dns.lookup.
  const socket = createSocket({ type: 'udp4', lookup: (host, _, done) => done(null, host, 4) });
  try {
    return socket.bind({ fd, exclusive: true });
  } catch (error) {
    sys.close(fd);
    throw error;
  }
}

/**
 * Sends from a descriptor at once, by a plain system call: Node's own way costs more than the call does. false where the kernel does not take it
 * now. Valid for as long as the descriptor is.
 */
export function directSender(fd: number): (data: Buffer, length: number, port: number, address: string) => boolean {
  const target = socketAddress('0.0.0.0', 0);
  let targetAddress = '';
  return (data, length, port, address) => {
    if (address !== targetAddress) {
      target.set(address.split('.').map(Number), 4);
      targetAddress = address;
    }
    target[2] = port >>> 8;
    target[3] = port & 255;
    return Number(sys.sendto(fd, data, length, MSG_DONTWAIT, target, SOCKADDR_LENGTH)) === length;
  };
}

const newSocket = (protocol: keyof typeof SOCK): number => check('open a socket in the sandbox', sys.socket(AF_INET, SOCK[protocol] | SOCK_FLAGS, 0));

/** An address and port of the host's, over UDP and TCP. `absent`: nobody may have the address yet. Both are for the caller to close. Throws KernelError, leaving nothing open. */
export function openServer(ip: string, port: number, { absent = false } = {}): { udp: number; tcp: number } {
  const fds: number[] = [];
  try {
    const udp = add(fds, boundSocket('udp', ip, port, { absent }));
    const tcp = add(fds, boundSocket('tcp', ip, port, { absent }));
    check(`listen at ${ip}:${port}`, sys.listen(tcp, BACKLOG));
    return { udp, tcp };
  } catch (error) {
    for (const fd of fds) sys.close(fd);
    throw error;
  }
}

/** Call it inside the namespace. */
export function boundSocket(protocol: keyof typeof SOCK, ip: string, port: number, { absent = false } = {}): number {
  const fd = newSocket(protocol);
  try {
    if (absent) check('prepare a socket', sys.setsockopt(fd, SOL_IP, IP_FREEBIND, Buffer.from([1, 0, 0, 0]), 4));
    if (protocol === 'tcp') check('prepare a socket in the sandbox', sys.setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, Buffer.from([1, 0, 0, 0]), 4));
    check(`bind ${ip}:${port} in the sandbox`, sys.bind(fd, socketAddress(ip, port), SOCKADDR_LENGTH));
    return fd;
  } catch (error) {
    sys.close(fd);
    throw error;
  }
}

const add = (fds: number[], fd: number): number => {
  fds.push(fd);
  return fd;
};

/** struct sockaddr_in: family in host order, port and address in network order. */
function socketAddress(ip: string, port: number): Buffer {
  const bytes = Buffer.alloc(SOCKADDR_LENGTH);
  bytes.writeUInt16LE(AF_INET, 0);
  bytes.writeUInt16BE(port, 2);
  bytes.set(ip.split('.').map(Number), 4);
  return bytes;
}

function portOf(fd: number): number {
  const bytes = Buffer.alloc(SOCKADDR_LENGTH);
  check('read the port of a socket', sys.getsockname(fd, bytes, [bytes.length]));
  return bytes.readUInt16BE(2);
}
