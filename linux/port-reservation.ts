/**
 * A published port is held on the host by a socket that is bound but does not listen: a program that wants the port is
 * told so, one that has it is found out, and should our rules be gone, clients are refused instead of served by us.
 * Without SO_REUSEADDR, on purpose: with it the kernel would let others bind as well.
 */
import { IP_PROTOCOL } from '../base/ip-protocols.ts';
import { ipToBytes } from '../base/ip.ts';
import { check, sys } from './ffi.ts';
import { KernelError, type Netns } from './types.ts';

const AF_INET = 2;
const SOCK_STREAM = 1;
const SOCK_DGRAM = 2;
const SOCK_CLOEXEC = 0o2000000;
const EVERY_ADDRESS = '0.0.0.0';
const SOCKETS = { tcp: [SOCK_STREAM, 0], udp: [SOCK_DGRAM, 0], sctp: [SOCK_STREAM, IP_PROTOCOL.sctp] } as const;

export interface Reservation { release(): void }

interface Held { port: number; ip: string }
/** SCTP ports where the kernel has no SCTP sockets: no program can have one, but reservations exclude each other as ever. */
const withoutSockets = new WeakMap<Netns, Set<Held>>();

/**
 * `ip` 0.0.0.0 stands for every address of the host: undefined when something of the host's has the port there. Throws
 * KernelError EADDRNOTAVAIL when the host has no such address.
 */
export function reservePort(host: Netns, protocol: 'tcp' | 'udp' | 'sctp', port: number, ip = EVERY_ADDRESS): Reservation | undefined {
  const address = Buffer.alloc(16);
  address.writeUInt16LE(AF_INET, 0);
  address.writeUInt16BE(port, 2);
  address.set(ipToBytes(ip), 4);
  return host.run(() => {
    const [type, number] = SOCKETS[protocol];
    let fd: number;
    try {
      fd = check('open a socket', sys.socket(AF_INET, type | SOCK_CLOEXEC, number));
    } catch (error) {
      if (protocol === 'sctp' && error instanceof KernelError && error.code === 'EPROTONOSUPPORT') return reserveWithoutSocket(host, { port, ip });
      throw error;
    }
    try {
      check(`reserve port ${port}/${protocol}`, sys.bind(fd, address, address.length));
    } catch (error) {
      sys.close(fd);
      if (error instanceof KernelError && error.code === 'EADDRINUSE') return undefined;
      throw error;
    }
    return { release: () => void sys.close(fd) };
  });
}

function reserveWithoutSocket(host: Netns, wanted: Held): Reservation | undefined {
  const held = withoutSockets.get(host) ?? new Set<Held>();
  withoutSockets.set(host, held);
  const excludes = ({ port, ip }: Held): boolean => port === wanted.port && (ip === wanted.ip || ip === EVERY_ADDRESS || wanted.ip === EVERY_ADDRESS);
  if ([...held].some(excludes)) return undefined;
  held.add(wanted);
  return { release: () => void held.delete(wanted) };
}
