/** The loopback link of a namespace. */
import { check, sys } from './ffi.ts';
import { openRtnl } from './rtnl.ts';
import type { Netns } from './types.ts';

const AF_INET = 2;
const SOCK_DGRAM = 2;
const SOCK_CLOEXEC = 0o2000000;
/** netdevice(7): struct ifreq begins with the link's name, 16 bytes, and has the flags behind it. */
const SIOCGIFFLAGS = 0x8913;
const IFREQ_SIZE = 40;
const FLAGS_AT = 16;
const IFF_UP = 1;
const NAME = 'lo';

/**
 * Sets it up unless it is. Looks by ioctl: rtnetlink would wait for its lock, which Docker keeps for some 20 ms while it
 * moves a link into the namespace, just when this is asked. Throws KernelError.
 */
export function raiseLoopback(netns: Netns): void {
  if (isUp(netns)) return;
  const rtnl = openRtnl(netns);
  try {
    const link = rtnl.link(NAME);
    if (link) rtnl.setLink(link.index, { up: true });
  } finally {
    rtnl.close();
  }
}

function isUp(netns: Netns): boolean {
  const fd = netns.run(() => check('open a socket', sys.socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)));
  try {
    const request = Buffer.alloc(IFREQ_SIZE);
    request.write(NAME);
    check('read the flags of the loopback link', sys.ioctl(fd, SIOCGIFFLAGS, request));
    return (request.readUInt16LE(FLAGS_AT) & IFF_UP) !== 0;
  } finally {
    sys.close(fd);
  }
}
