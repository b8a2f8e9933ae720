/** Kernel events that may mean that something of ours was broken. */
import type { Netns, Rtnl } from '../linux/types.ts';
import { watchNftDeletions } from '../linux/nft-monitor.ts';

/** Not the ends of veth pairs: they come and go with containers. */
const OURS = /^(weft-up|weft-in|uplink|wbr-|wb-|wv-)/;

/** Calls back for each; most turn out to be our own doing. Returns the way to stop. */
export function watchDisturbances(rtnl: Rtnl, netns: Netns, onDisturbance: () => void): () => void {
  const stops = [
    rtnl.watch((event) => {
      if (event.type === 'lost') onDisturbance();
      else if (event.type === 'link') {
        if (OURS.test(event.link.name) && (event.gone || !event.link.up)) onDisturbance();
      } else if (event.gone) onDisturbance();
    }),
    watchNftDeletions(netns, onDisturbance),
  ];
  return () => stops.forEach((stop) => stop());
}
