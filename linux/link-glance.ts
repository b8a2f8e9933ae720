/** A link's index and whether it is up, by a socket's options and ioctl (socket(7), netdevice(7)). */
import { check, sys } from './ffi.ts';
import type { Glance, Netns } from './types.ts';

const AF_INET = 2;
const SOCK_DGRAM = 2;
const SOCK_CLOEXEC = 0o2000000;
const SOL_SOCKET = 1;
const SO_BINDTODEVICE = 25;
/** asm-generic/socket.h: the same by index. */
const SO_BINDTOIFINDEX = 62;
/** struct ifreq begins with the link's name, 16 bytes; what is asked for comes behind it. */
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
 * for tens of milliseconds. The index is that of a socket which binds itself to the link: SIOCGIFINDEX, asked for a link that is not there, has the
 * kernel run modprobe for `netdev-NAME` and again for NAME (dev_load, net/core/dev_ioctl.c), and we wait for it.
 */
export function openGlances(netns: Netns): Glances {
  let fd: number | undefined;
  return {
    look: (name) => {
      fd ??= netns.run(() => check('open a socket', sys.socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)));
      if (name.length >= NAME_SIZE) return undefined;
      const request = Buffer.alloc(IFREQ_SIZE);
      request.write(name);
      if (sys.setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, request, NAME_SIZE) < 0) return undefined;
      const bound = Buffer.alloc(4);
      check('read what a socket is bound to', sys.getsockopt(fd, SOL_SOCKET, SO_BINDTOIFINDEX, bound, [bound.length]));
      const index = bound.readInt32LE();
      if (sys.ioctl(fd, SIOCGIFFLAGS, request) < 0) return undefined;
      return { index, up: (request.readUInt16LE(NAME_SIZE) & IFF_UP) !== 0 };
    },
    close: () => {
      if (fd !== undefined) sys.close(fd);
      fd = undefined;
    },
  };
}
