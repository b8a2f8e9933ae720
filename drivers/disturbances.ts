/** Events in the kernel after which something of ours may have to be mended. */
import { watchNft } from '../linux/nft-monitor.ts';
import type { Link, Netns, Rtnl } from '../linux/types.ts';
import { MADE_BY_WEFT } from './names.ts';

/** Not the ends of veth pairs: they come and go with containers. */
const LINKS = /^(weft-up|weft-in|uplink|wbr-.*|wb-.*|wu-.*|wv-.*|wmh-.*|wmp-.*)$/;
const isOurs = ({ name, group }: Link): boolean => LINKS.test(name) || group === MADE_BY_WEFT;
/** Ours, and those whose FORWARD chains have our accepts. */
const TABLES = /^(inet weft.*|ip6? filter)$/;

/** For the host and for the fabric. Our own changes of links and routes are told as well. Returns the way to stop. */
export function watchDisturbances(rtnl: Rtnl, netns: Netns, onDisturbance: () => void): () => void {
  const stops = [
    watchLinks(rtnl, onDisturbance),
    watchNft(netns, (change) => {
      if (!change || TABLES.test(`${change.family} ${change.table}`)) onDisturbance();
    }),
  ];
  return () => stops.forEach((stop) => stop());
}

/** For a namespace without rules. */
export const watchLinks = (rtnl: Rtnl, onDisturbance: () => void): (() => void) => rtnl.watch((event) => {
  if (event.type === 'link' ? isOurs(event.link) && (event.gone || !event.link.up) : event.type === 'lost' || event.gone) onDisturbance();
});
