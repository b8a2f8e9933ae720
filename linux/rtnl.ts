/** rtnetlink in one namespace: what linux/types.ts promises, on synchronous sockets. */
import { RTM_DELADDR, RTM_DELROUTE, RTM_DELRULE, RTM_GETADDR, RTM_GETROUTE, RTM_GETRULE, RTM_NEWADDR, RTM_NEWROUTE, RTM_NEWRULE, decodeAddress, decodeRoute, decodeRouteAnswer, decodeRule, encodeAddress, encodeRoute, encodeRouteQuery, encodeRule, routesHeader, rulesHeader } from './rtnl-routes.ts';
import { RTM_DELNEIGH, RTM_GETNEIGH, RTM_NEWNEIGH, decodeFdb, decodeNeighbour, encodeFdb, encodeNeighbour, fdbQuery, neighboursHeader } from './rtnl-neighbours.ts';
import { RTM_DELLINK, RTM_GETLINK, RTM_NEWLINK, RTM_SETLINK, decodeLink, encodeBridgePort, encodeByName, encodeMove, encodeNewLink, encodeSetLink, linkHeader } from './rtnl-links.ts';
import { NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE } from './netlink-message.ts';
import { openNetlink } from './netlink-socket.ts';
import { openSlowLane } from './netlink-slow.ts';
import { watchRtnl } from './rtnl-monitor.ts';
import { KernelError, type Link, type LinkSpec, type Netns, type Rtnl } from './types.ts';

const NETLINK_ROUTE = 0;
const GONE = new Set(['ENOENT', 'ESRCH', 'ENODEV', 'EADDRNOTAVAIL']);

export function openRtnl(netns: Netns): Rtnl {
  const socket = openNetlink(netns, NETLINK_ROUTE);
  const slow = openSlowLane(netns, NETLINK_ROUTE);

  function link(nameOrIndex: string | number): Link | undefined {
    const body = typeof nameOrIndex === 'string' ? encodeByName(nameOrIndex) : linkHeader(nameOrIndex);
    try {
      const [reply] = socket.request(`read link ${nameOrIndex}`, { type: RTM_GETLINK, flags: 0, body });
      return reply && decodeLink(reply.body);
    } catch (error) {
      if (error instanceof KernelError && GONE.has(error.code)) return undefined;
      throw error;
    }
  }

  /** Throws the first failure that is not in `tolerated`. */
  function batch(what: string, type: number, flags: number, bodies: readonly Buffer[], tolerated: ReadonlySet<string> = new Set()): void {
    if (bodies.length === 0) return;
    const failure = socket.batch(what, bodies.map((body) => ({ type, flags, body }))).find(({ error }) => !tolerated.has(error.code));
    if (failure) throw new KernelError(`${what} (${failure.index + 1} of ${bodies.length})`, failure.error.code, failure.error.detail);
  }

  function tolerate(tolerated: ReadonlySet<string>, run: () => void): void {
    try {
      run();
    } catch (error) {
      if (!(error instanceof KernelError && tolerated.has(error.code))) throw error;
    }
  }

  /** What a message to this namespace cannot say of a link born in another one is done there. */
  function finishElsewhere(target: Netns, name: string, change: { master?: number; up?: boolean }): number {
    const there = openRtnl(target);
    try {
      const born = there.link(name)!;
      if (change.master !== undefined || change.up) there.setLink(born.index, { ...(change.master !== undefined && { master: change.master }), ...(change.up && { up: true }) });
      return born.index;
    } finally {
      there.close();
    }
  }

  function addLink(spec: LinkSpec): number {
    socket.request(`add ${spec.kind} link ${spec.name}`, { type: RTM_NEWLINK, flags: NLM_F_CREATE | NLM_F_EXCL, body: encodeNewLink(spec) });
    if (spec.kind === 'vxlan' && spec.netns) {
      return finishElsewhere(spec.netns, spec.name, { ...(spec.master !== undefined && { master: spec.master }), ...(spec.up && { up: true }) });
    }
    if (spec.kind === 'veth' && (spec.peer.up || spec.peer.master !== undefined)) {
      const change = { ...(spec.peer.master !== undefined && { master: spec.peer.master }), ...(spec.peer.up && { up: true }) };
      finishElsewhere(spec.peer.netns ?? netns, spec.peer.name, change);
    }
    return link(spec.name)!.index;
  }

  const rtnl: Rtnl = {
    netns,
    links: () => socket.dump('list links', RTM_GETLINK, linkHeader()).map(({ body }) => decodeLink(body)),
    link,
    addLink,
    setLink: (index, change) => void socket.request(`change link ${index}`, { type: RTM_NEWLINK, flags: 0, body: encodeSetLink(index, change) }),
    setBridgePort: (index, port) => void socket.request(`change bridge port ${index}`, { type: RTM_SETLINK, flags: 0, body: encodeBridgePort(index, port) }),
    deleteLink: async (nameOrIndex) => {
      const body = typeof nameOrIndex === 'string' ? encodeByName(nameOrIndex) : linkHeader(nameOrIndex);
      await slow.request(`delete link ${nameOrIndex}`, { type: RTM_DELLINK, flags: 0, body }).catch((error: unknown) => {
        if (!(error instanceof KernelError && error.code === 'ENODEV')) throw error;
      });
    },
    moveLink: (index, to, rename) => slow.request(`move link ${index}`, { type: RTM_NEWLINK, flags: 0, body: encodeMove(index, to.fd, rename) }),

    addresses: (index) => socket.dump('list addresses', RTM_GETADDR, Buffer.alloc(8)).map(({ body }) => decodeAddress(body))
      .filter((address) => index === undefined || address.index === index),
    addAddress: (index, address) => tolerate(new Set(['EEXIST']), () =>
      socket.request(`add address ${address}`, { type: RTM_NEWADDR, flags: NLM_F_CREATE | NLM_F_EXCL, body: encodeAddress(index, address) })),
    deleteAddress: (index, address) => tolerate(GONE, () => socket.request(`delete address ${address}`, { type: RTM_DELADDR, flags: 0, body: encodeAddress(index, address) })),

    routes: (filter) => socket.dump('list routes', RTM_GETROUTE, routesHeader()).flatMap(({ body }) => decodeRoute(body) ?? [])
      .filter((route) => (filter?.table === undefined || route.table === filter.table) && (filter?.dev === undefined || route.dev === filter.dev)),
    replaceRoutes: (routes) => batch('replace routes', RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, routes.map(encodeRoute)),
    deleteRoutes: (routes) => batch('delete routes', RTM_DELROUTE, 0, routes.map(encodeRoute), GONE),
    routeTo: (ip) => {
      try {
        const [reply] = socket.request(`find the route to ${ip}`, { type: RTM_GETROUTE, flags: 0, body: encodeRouteQuery(ip) });
        if (!reply) return undefined;
        const answer = decodeRouteAnswer(reply.body);
        return { ...answer, mtu: answer.mtu || (link(answer.dev)?.mtu ?? 0) };
      } catch (error) {
        if (error instanceof KernelError && (error.code === 'ENETUNREACH' || error.code === 'EHOSTUNREACH')) return undefined;
        throw error;
      }
    },

    rules: () => socket.dump('list rules', RTM_GETRULE, rulesHeader()).map(({ body }) => decodeRule(body)),
    addRule: (rule) => tolerate(new Set(['EEXIST']), () => socket.request('add a rule', { type: RTM_NEWRULE, flags: NLM_F_CREATE | NLM_F_EXCL, body: encodeRule(rule) })),
    deleteRule: (rule) => tolerate(GONE, () => socket.request('delete a rule', { type: RTM_DELRULE, flags: 0, body: encodeRule(rule) })),

    neighbours: (index) => socket.dump('list neighbours', RTM_GETNEIGH, neighboursHeader()).flatMap(({ body }) => decodeNeighbour(body) ?? [])
      .filter((entry) => entry.dev === index),
    replaceNeighbours: (entries) => batch('replace neighbours', RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE, entries.map(encodeNeighbour)),
    deleteNeighbours: (entries) => batch('delete neighbours', RTM_DELNEIGH, 0, entries.map(encodeNeighbour), GONE),
    fdb: (index) => {
      const raw = socket.dump('list forwarding entries', RTM_GETNEIGH, fdbQuery(index)).flatMap(({ body }) => decodeFdb(body) ?? []).filter((entry) => entry.dev === index && entry.static);
      const inBridge = new Set(raw.filter((entry) => entry.vtep === undefined).map(({ mac }) => mac));
      return raw.flatMap(({ dev, mac, vtep }) => (vtep === undefined ? [] : [{ dev, mac, vtep, master: inBridge.has(mac) }]));
    },
    replaceFdb: (entries) => batch('replace forwarding entries', RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE, entries.map(encodeFdb)),
    deleteFdb: (entries) => batch('delete forwarding entries', RTM_DELNEIGH, 0, entries.map(encodeFdb), GONE),
    watch: (handler) => watchRtnl(netns, handler),
    close: () => {
      socket.close();
      slow.close();
    },
  };
  return rtnl;
}
