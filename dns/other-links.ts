import type { Clock } from '../base/clock.ts';
import { openRtnl } from '../linux/rtnl.ts';
import type { Netns } from '../linux/types.ts';

/** Docker connects a container to a network of its own without a word to us: it is found out no later than this. */
const RECHECK_MS = 1_000;

/**
 * Whether a namespace has more interfaces in use than networks of ours lead to it: then it is on networks of others, too, and whose names are
 * known there we cannot know. Looked at again once a second at most, and only when it is asked for.
 */
export function watchOtherLinks(netns: Netns, ours: () => number, clock: Clock): () => boolean {
  let seenAt = -Infinity;
  let links = 0;
  return () => {
    if (clock.now() - seenAt >= RECHECK_MS) {
      seenAt = clock.now();
      links = countLinks(netns);
    }
    return links > ours();
  };
}

/** Short of descriptors we cannot know: as if there were others, then. */
function countLinks(netns: Netns): number {
  try {
    const rtnl = openRtnl(netns);
    try {
      return rtnl.links().filter(({ name, up }) => up && name !== 'lo').length;
    } finally {
      rtnl.close();
    }
  } catch {
    return Infinity;
  }
}
