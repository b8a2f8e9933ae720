import type { Clock } from '../base/clock.ts';
import { openRtnl } from '../linux/rtnl.ts';
import type { Link, Netns } from '../linux/types.ts';

/** Docker connects a container to a network of its own without a word to us: it is found out no later than this. */
const RECHECK_MS = 1_000;

/** What engines move into a container; whatever else there is the container has made for itself, and leads to nobody's network. */
const KINDS_OF_ENGINES: ReadonlySet<string | undefined> = new Set(['veth', 'macvlan', 'ipvlan']);

/**
 * Whether a namespace has more interfaces in use than networks of ours lead to it: then it is on networks of others, too, and whose names are
 * known there we cannot know. Looked at again once a second at most, and only when it is asked for. undefined: it cannot be looked at now.
 */
export function watchOtherLinks(netns: Netns, ours: () => number, clock: Clock): () => boolean | undefined {
  let seenAt = -Infinity;
  let links: number | undefined;
  return () => {
    if (clock.now() - seenAt >= RECHECK_MS) {
      seenAt = clock.now();
      links = countLinks(netns);
    }
    return links === undefined ? undefined : links > ours();
  };
}

function countLinks(netns: Netns): number | undefined {
  try {
    const rtnl = openRtnl(netns);
    try {
      return rtnl.links().filter(leadsOut).length;
    } finally {
      rtnl.close();
    }
  } catch {
    return undefined;
  }
}

/** Without ports of a bridge in the container, which may run an engine of its own. */
const leadsOut = ({ up, kind, master }: Link): boolean => up && KINDS_OF_ENGINES.has(kind) && master === undefined;
