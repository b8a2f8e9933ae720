/**
 * Deleting links. The kernel takes 20–35 ms for one, nearly all of it waiting, and hardly more for many of one group,
 * so what waits for its turn is put into a group and goes together.
 */
import type { SlowLane } from './netlink-slow.ts';
import type { Message } from './netlink-message.ts';
import type { NetlinkSocket } from './netlink-socket.ts';
import { RTM_DELLINK, RTM_SETLINK, encodeDelete, encodeDeleteGroup, encodeSetLink } from './rtnl-links.ts';
import { KernelError, type Link } from './types.ts';

/** Ours alone: whatever is in this group was to be deleted. */
const DOOMED_GROUP = 0x77656674;
/** The kernel holds its lock for the whole of one request, and everybody else's requests wait for it. */
const MOST_AT_ONCE = 32;
/** Bridges take 17 ms each in a group as well; a link without a kind cannot be deleted and would keep the others from it. */
const goesWithOthers = ({ kind }: Link): boolean => kind !== undefined && kind !== 'bridge';

/** Links that are gone already are not an error. */
export function linkDeleter(socket: NetlinkSocket, slow: SlowLane): (link: Link) => Promise<void> {
  let waiting: { links: Link[]; done: Promise<void> } | undefined;

  function deletion(links: readonly Link[]): Message {
    if (links.length === 1) return { type: RTM_DELLINK, flags: 0, body: encodeDelete(links[0]!.index) };
    const changes = links.map(({ index }) => ({ type: RTM_SETLINK, flags: 0, body: encodeSetLink(index, { group: DOOMED_GROUP }) }));
    const refused = socket.batch('delete links', changes).find(({ error }) => error.code !== 'ENODEV');
    if (refused) throw refused.error;
    return { type: RTM_DELLINK, flags: 0, body: encodeDeleteGroup(DOOMED_GROUP) };
  }

  async function deleteLinks(links: readonly Link[]): Promise<void> {
    const what = `delete link ${links[0]!.name}`;
    try {
      await slow.request(what, () => {
        if (waiting?.links === links) waiting = undefined;
        return deletion(links);
      });
    } catch (error) {
      if (!(error instanceof KernelError && error.code === 'ENODEV')) throw error;
    }
  }

  return (link) => {
    if (!goesWithOthers(link)) return deleteLinks([link]);
    if (!waiting || waiting.links.length >= MOST_AT_ONCE) {
      const links = [link];
      waiting = { links, done: deleteLinks(links) };
    } else waiting.links.push(link);
    return waiting.done;
  };
}
