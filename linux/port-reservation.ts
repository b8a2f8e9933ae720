/**
 * A published port is held on the host by a socket that is bound but does not listen: a program that wants the port is
 * told so, one that has it is found out, and should our rules be gone, clients are refused instead of served by us.
 * Without SO_REUSEADDR, on purpose: with it the kernel would let others bind as well.
 */
import { IP_PROTOCOL } from '../base/ip-protocols.ts';
import { ipToBytes } from '../base/ip.ts';
import { familyOf } from '../base/prefix.ts';
import { check, sys } from './ffi.ts';
import { KernelError, type Netns } from './types.ts';

const AF_INET = 2;
const AF_INET6 = 10;
const SOCK_STREAM = 1;
const SOCK_DGRAM = 2;
const SOCK_CLOEXEC = 0o2000000;
/** linux/in6.h. A socket of :: would take the port of IPv4, too. */
const IPV6_V6ONLY = 26;
export const EVERY_ADDRESS = { 4: '0.0.0.0', 6: '::' } as const;
const SOCKETS = { tcp: [SOCK_STREAM, 0], udp: [SOCK_DGRAM, 0], sctp: [SOCK_STREAM, IP_PROTOCOL.sctp] } as const;

export interface Reservation { release(): void }

interface Held { port: number; ip: string }
/** SCTP ports where the kernel has no SCTP sockets: no program can have one, but reservations exclude each other as ever. */
const withoutSockets = new WeakMap<Netns, Set<Held>>();

/** struct sockaddr_in, sockaddr_in6. */
function socketAddress(ip: string, port: number): Buffer {
  const isIpv4 = familyOf(ip) === 4;
  const address = Buffer.alloc(isIpv4 ? 16 : 28);
  address.writeUInt16LE(isIpv4 ? AF_INET : AF_INET6, 0);
  address.writeUInt16BE(port, 2);
  address.set(ipToBytes(ip), isIpv4 ? 4 : 8);
  return address;
}

/**
 * `ip` 0.0.0.0 stands for every IPv4 address of the host, :: for every IPv6 one: undefined when something of the host's has the port
 * there. Throws KernelError EADDRNOTAVAIL when the host has no such address, EAFNOSUPPORT when it has no IPv6.
 */
export function reservePort(host: Netns, protocol: 'tcp' | 'udp' | 'sctp', port: number, ip: string): Reservation | undefined {
  const address = socketAddress(ip, port);
  return host.run(() => {
    const [type, number] = SOCKETS[protocol];
    const isIpv4 = familyOf(ip) === 4;
    let fd: number;
    try {
      fd = check('open a socket', sys.socket(isIpv4 ? AF_INET : AF_INET6, type | SOCK_CLOEXEC, number));
    } catch (error) {
      if (protocol === 'sctp' && error instanceof KernelError && error.code === 'EPROTONOSUPPORT') return reserveWithoutSocket(host, { port, ip });
      throw error;
    }
    try {
      if (!isIpv4) check('separate IPv6 from IPv4', sys.setsockopt(fd, IP_PROTOCOL.ipv6, IPV6_V6ONLY, Buffer.of(1, 0, 0, 0), 4));
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
  const excludes = ({ port, ip }: Held): boolean => port === wanted.port && familyOf(ip) === familyOf(wanted.ip) && (ip === wanted.ip || [ip, wanted.ip].includes(EVERY_ADDRESS[familyOf(ip)]));
  if ([...held].some(excludes)) return undefined;
  held.add(wanted);
  return { release: () => void held.delete(wanted) };
}
