/** The loopback link of a namespace. */
import { openGlances } from './link-glance.ts';
import { withRtnl } from './rtnl.ts';
import type { Netns } from './types.ts';

const NAME = 'lo';

/** Sets it up unless it is, without waiting for rtnetlink where it is: Docker moves a link into the namespace just when this is asked. Throws KernelError. */
export function raiseLoopback(netns: Netns): void {
  if (isUp(netns)) return;
  withRtnl(netns, (rtnl) => {
    const link = rtnl.link(NAME);
    if (link) rtnl.setLink(link.index, { up: true });
  });
}

function isUp(netns: Netns): boolean {
  const glances = openGlances(netns);
  try {
    return glances.look(NAME)?.up === true;
  } finally {
    glances.close();
  }
}
