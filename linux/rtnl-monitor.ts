/**
 * What changes in a namespace's links, addresses, routes, neighbours and rules. Events of one turn of the event loop
 * are handed over together, and of those that speak of one thing only the last.
 */
import { monitor } from './netlink-monitor.ts';
import { RTM_DELADDR, RTM_NEWADDR } from './rtnl-addresses.ts';
import { AF_UNSPEC, RTM_DELLINK, RTM_NEWLINK, decodeLink, isLinkUp } from './rtnl-links.ts';
import { RTM_DELQDISC, RTM_DELTFILTER } from './rtnl-filters.ts';
import { RTM_DELNEIGH, RTM_NEWNEIGH } from './rtnl-neighbours.ts';
import { RTM_DELROUTE, RTM_NEWROUTE, routeDevice } from './rtnl-routes.ts';
import { RTM_DELRULE, RTM_NEWRULE } from './rtnl-rules.ts';
import type { Netns, RtnlEvent } from './types.ts';

const NETLINK_ROUTE = 0;
/** RTNLGRP_LINK, NEIGH, TC, IPV4_IFADDR, IPV4_ROUTE, IPV4_RULE, IPV6_IFADDR, IPV6_ROUTE, IPV6_RULE (linux/rtnetlink.h) */
const GROUPS = [1, 3, 4, 5, 7, 8, 9, 11, 19].reduce((mask, group) => mask | (1 << (group - 1)), 0);

type Plain = Exclude<RtnlEvent['type'], 'link' | 'lost'>;
const PLAIN = new Map<number, { type: Plain; gone: boolean }>([
  [RTM_NEWADDR, { type: 'address', gone: false }], [RTM_DELADDR, { type: 'address', gone: true }],
  [RTM_NEWROUTE, { type: 'route', gone: false }], [RTM_DELROUTE, { type: 'route', gone: true }],
  [RTM_NEWNEIGH, { type: 'neighbour', gone: false }], [RTM_DELNEIGH, { type: 'neighbour', gone: true }],
  [RTM_NEWRULE, { type: 'rule', gone: false }], [RTM_DELRULE, { type: 'rule', gone: true }],
  [RTM_DELQDISC, { type: 'filter', gone: true }], [RTM_DELTFILTER, { type: 'filter', gone: true }],
]);
const LOST: RtnlEvent = { type: 'lost' };

/**
 * One socket for all who watch the namespace by it, open while there are any: an event is decoded once. A handler that
 * throws is reported as a process warning and goes on being called. A watch returns the way to stop it.
 */
export function createRtnlWatch(netns: Netns): (handler: (event: RtnlEvent) => void) => () => void {
  const handlers = new Set<{ handle(event: RtnlEvent): void }>();
  /** By what they speak of: of one thing only the last is told, and only that is decoded. */
  const waiting = new Map<string, () => RtnlEvent>();
  let close: (() => void) | undefined;

  function deliver(): void {
    const events = [...waiting.values()];
    waiting.clear();
    for (const decode of events) {
      const event = decode();
      for (const { handle } of handlers) {
        try {
          handle(event);
        } catch (error) {
          process.emitWarning(error instanceof Error ? error : String(error));
        }
      }
    }
  }

  function add(key: string, decode: () => RtnlEvent): void {
    if (waiting.size === 0) setImmediate(deliver);
    // The last one's place is behind what came before it.
    waiting.delete(key);
    waiting.set(key, decode);
  }

  function addPlain({ type, gone }: { type: Plain; gone: boolean }, body: Buffer): void {
    if (type === 'rule') return add(`${type} ${gone}`, () => ({ type, gone }));
    // struct ifaddrmsg, struct ndmsg and struct tcmsg have the link's index at one place.
    const dev = type === 'route' ? routeDevice(body) : body.readUInt32LE(4);
    add(`${type} ${gone} ${dev}`, () => ({ type, gone, dev }));
  }

  const open = (): (() => void) => monitor({
    netns,
    protocol: NETLINK_ROUTE,
    groups: GROUPS,
    onMessages: (messages) => {
      for (const { type, body } of messages) {
        const plain = PLAIN.get(type);
        if (plain) addPlain(plain, body);
        // AF_BRIDGE messages speak of a bridge's port: there, RTM_DELLINK means that it left the bridge.
        else if ((type === RTM_NEWLINK || type === RTM_DELLINK) && body[0] === AF_UNSPEC) {
          // To be set down is a thing of its own, also where the link is up again by now: its routes went meanwhile, and nobody tells of that.
          add(`link ${body.readInt32LE(4)} ${type} ${isLinkUp(body)}`, () => ({ type: 'link', link: decodeLink(body), gone: type === RTM_DELLINK }));
        }
      }
    },
    onLost: () => add(LOST.type, () => LOST),
  });

  return (handle) => {
    close ??= open();
    const watcher = { handle };
    handlers.add(watcher);
    return () => {
      if (!handlers.delete(watcher) || handlers.size > 0) return;
      close?.();
      close = undefined;
    };
  };
}
