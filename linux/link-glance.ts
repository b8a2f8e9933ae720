/** A link's index and whether it is up, by ioctl (netdevice(7)). */
import { check, sys } from './ffi.ts';
import type { Glance, Netns } from './types.ts';

const AF_INET = 2;
const SOCK_DGRAM = 2;
const SOCK_CLOEXEC = 0o2000000;
/** struct ifreq begins with the link's name, 16 bytes; what is asked for comes behind it. */
const SIOCGIFINDEX = 0x8933;
const SIOCGIFFLAGS = 0x8913;
const IFREQ_SIZE = 40;
const NAME_SIZE = 16;
const IFF_UP = 1;

export interface Glances {
  look(name: string): Glance | undefined;
  close(): void;
}

/**
 * For paths that must not wait: rtnetlink asks for its lock even to read a link, and Docker's moves and the kernel's removals of namespaces keep it
 * for tens of milliseconds.
 */
export function openGlances(netns: Netns): Glances {
  let fd: number | undefined;
  return {
    look: (name) => {
      fd ??= netns.run(() => check('open a socket', sys.socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)));
      if (name.length >= NAME_SIZE) return undefined;
      const request = Buffer.alloc(IFREQ_SIZE);
      request.write(name);
      if (sys.ioctl(fd, SIOCGIFINDEX, request) < 0) return undefined;
      const index = request.readInt32LE(NAME_SIZE);
      if (sys.ioctl(fd, SIOCGIFFLAGS, request) < 0) return undefined;
      return { index, up: (request.readUInt16LE(NAME_SIZE) & IFF_UP) !== 0 };
    },
    close: () => {
      if (fd !== undefined) sys.close(fd);
      fd = undefined;
    },
  };
}
