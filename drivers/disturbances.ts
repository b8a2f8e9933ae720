/** Events in the kernel after which something of ours may have to be mended. */
import type { Clock, TimerHandle } from '../base/clock.ts';
import { watchNft } from '../linux/nft-monitor.ts';
import type { Link, Netns, Rtnl } from '../linux/types.ts';
import { MADE_BY_WEFT, NETWORK_LINKS, UPLINK } from './names.ts';

/** Tunnels have neighbours and forwarding entries from us, ports the addresses behind them. Elsewhere they are the kernel's own, and a container's stop takes some away. */
const WITH_NEIGHBOURS = /^(weft-in|weft-in-wg|wv-.*|we-.*|wu-.*)$/;
const isOurs = ({ name, group }: Link): boolean => NETWORK_LINKS.test(name) || name === UPLINK.fabric || group === MADE_BY_WEFT;
/** Ours, and those whose FORWARD chains have our accepts. */
const TABLES = /^(inet weft.*|ip6? filter)$/;

/**
 * What was of a link goes with it when a container stops or Docker moves the link to a sandbox, and its end is told some
 * milliseconds after theirs. So this long is waited before something counts as taken away.
 */
const LINK_FOLLOWS_MS = 100;

/** For the host and for the fabric. Our own changes of links and routes are told as well. Returns the way to stop. */
export function watchDisturbances(rtnl: Rtnl, netns: Netns, clock: Clock, onDisturbance: () => void): () => void {
  const stops = [
    watchLinks(rtnl, clock, onDisturbance),
    watchNft(netns, (change) => {
      if (!change || TABLES.test(`${change.family} ${change.table}`)) onDisturbance();
    }),
  ];
  return () => stops.forEach((stop) => stop());
}

/** For a namespace without rules. */
export function watchLinks(rtnl: Rtnl, clock: Clock, onDisturbance: () => void): () => void {
  const names = (): Map<number, string> => new Map(rtnl.links().map(({ index, name }) => [index, name]));
  let there = names();
  const losers = new Set<number>();
  let timer: TimerHandle;

  const decide = (): void => {
    timer = undefined;
    if ([...losers].some((dev) => there.has(dev))) onDisturbance();
    losers.clear();
  };
  const stop = rtnl.watch((event) => {
    if (event.type === 'link') {
      if (event.gone) there.delete(event.link.index);
      else there.set(event.link.index, event.link.name);
      if (isOurs(event.link) && (event.gone || !event.link.up)) onDisturbance();
    } else if (event.type === 'lost') {
      there = names();
      onDisturbance();
    } else {
      if (event.type === 'rule' || event.dev === undefined) return onDisturbance();
      if (event.type === 'neighbour' && !WITH_NEIGHBOURS.test(there.get(event.dev) ?? '')) return;
      losers.add(event.dev);
      timer ??= clock.setTimeout(decide, LINK_FOLLOWS_MS);
    }
  });
  return () => {
    stop();
    clock.clearTimeout(timer);
  };
}
