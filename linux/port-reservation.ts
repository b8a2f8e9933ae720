/**
 * A published port is held on the host by a socket that is bound but does not listen: a program that wants the port is
 * told so, one that has it is found out, and should our rules be gone, clients are refused instead of served by us.
 * Without SO_REUSEADDR, on purpose: with it the kernel would let others bind as well.
 */
import { ipToBytes } from '../base/ip.ts';
import { check, sys } from './ffi.ts';
import { KernelError, type Netns } from './types.ts';

const AF_INET = 2;
const SOCK_STREAM = 1;
const SOCK_DGRAM = 2;
const SOCK_CLOEXEC = 0o2000000;

export interface Reservation { release(): void }

/**
 * `ip` 0.0.0.0 stands for every address of the host: undefined when something of the host's has the port there. Throws
 * KernelError EADDRNOTAVAIL when the host has no such address.
 */
export function reservePort(host: Netns, protocol: 'tcp' | 'udp', port: number, ip = '0.0.0.0'): Reservation | undefined {
  const address = Buffer.alloc(16);
  address.writeUInt16LE(AF_INET, 0);
  address.writeUInt16BE(port, 2);
  address.set(ipToBytes(ip), 4);
  return host.run(() => {
    const fd = check('open a socket', sys.socket(AF_INET, (protocol === 'tcp' ? SOCK_STREAM : SOCK_DGRAM) | SOCK_CLOEXEC, 0));
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
