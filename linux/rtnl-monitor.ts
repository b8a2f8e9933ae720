/**
 * What changes in a namespace's links, and what is taken away of its addresses, routes, neighbours, filters and rules. Events of one
 * turn of the event loop are handed over together, and of those that speak of one thing only the last.
 */
import { monitor } from './netlink-monitor.ts';
import { RTM_DELADDR } from './rtnl-addresses.ts';
import { AF_UNSPEC, RTM_DELLINK, RTM_NEWLINK, decodeLink, isLinkUp } from './rtnl-links.ts';
import { RTM_DELQDISC, RTM_DELTFILTER } from './rtnl-filters.ts';
import { RTM_DELNEIGH } from './rtnl-neighbours.ts';
import { RTM_DELROUTE, routeDevice } from './rtnl-routes.ts';
import { RTM_DELRULE } from './rtnl-rules.ts';
import type { Netns, RtnlEvent } from './types.ts';

const NETLINK_ROUTE = 0;
/** RTNLGRP_LINK, NEIGH, TC, IPV4_IFADDR, IPV4_ROUTE, IPV4_RULE, IPV6_IFADDR, IPV6_ROUTE, IPV6_RULE (linux/rtnetlink.h) */
const GROUPS = [1, 3, 4, 5, 7, 8, 9, 11, 19].reduce((mask, group) => mask | (1 << (group - 1)), 0);

type Plain = Exclude<RtnlEvent['type'], 'link' | 'lost'>;
/** What is added needs no mending, and there is much of it: each endpoint of another node is some. */
const PLAIN = new Map<number, Plain>([
  [RTM_DELADDR, 'address'], [RTM_DELROUTE, 'route'], [RTM_DELNEIGH, 'neighbour'], [RTM_DELRULE, 'rule'], [RTM_DELQDISC, 'filter'], [RTM_DELTFILTER, 'filter'],
]);
/** AF_BRIDGE messages speak of a bridge's port: there, RTM_DELLINK means that it left the bridge. */
const WANTED = [...[RTM_NEWLINK, RTM_DELLINK].map((type) => ({ type, family: AF_UNSPEC })), ...[...PLAIN.keys()].map((type) => ({ type }))];
const LOST: RtnlEvent = { type: 'lost' };

type Watch = (handler: (event: RtnlEvent) => void) => () => void;
const watches = new WeakMap<Netns, Watch>();

/**
 * One socket for all who watch the namespace, open while there are any: an event is decoded once. A handler that throws is
 * reported as a process warning and goes on being called. A watch returns the way to stop it.
 */
export function watchOf(netns: Netns): Watch {
  const known = watches.get(netns) ?? createWatch(netns);
  watches.set(netns, known);
  return known;
}

function createWatch(netns: Netns): Watch {
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

  function addPlain(type: Plain, body: Buffer): void {
    if (type === 'rule') return add(type, () => ({ type }));
    // struct ifaddrmsg, struct ndmsg and struct tcmsg have the link's index at one place.
    const dev = type === 'route' ? routeDevice(body) : body.readUInt32LE(4);
    add(`${type} ${dev}`, () => ({ type, dev }));
  }

  const open = (): (() => void) => monitor({
    netns,
    protocol: NETLINK_ROUTE,
    groups: GROUPS,
    wanted: WANTED,
    onMessages: (messages) => {
      for (const { type, body } of messages) {
        const plain = PLAIN.get(type);
        if (plain) addPlain(plain, body);
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
