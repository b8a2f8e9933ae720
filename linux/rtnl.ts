/** rtnetlink in one namespace: what linux/types.ts promises of it, on a synchronous socket. */
import { loadTcProgram } from './bpf.ts';
import { BpfAssembler } from './bpf-assembler.ts';
import { sys } from './ffi.ts';
import { openGlances } from './link-glance.ts';
import { NLM_F_CREATE, NLM_F_ECHO, NLM_F_EXCL, NLM_F_REPLACE, type Message } from './netlink-message.ts';
import { readLarge } from './netlink-large.ts';
import { openSlowLane } from './netlink-slow.ts';
import { openNetlink } from './netlink-socket.ts';
import { RTM_DELADDR, RTM_GETADDR, RTM_NEWADDR, addressQuery, decodeAddress, encodeAddress } from './rtnl-addresses.ts';
import { linkDeleter } from './rtnl-deletion.ts';
import {
  RTM_DELLINK, RTM_GETLINK, RTM_NEWLINK, RTM_SETLINK, decodeLink, encodeBridge, encodeBridgePort, encodeDelete, encodeHomelessLink, encodeMove, encodeNewLink, encodeSetLink, linkQuery,
} from './rtnl-links.ts';
import {
  RTM_DELQDISC, RTM_DELTFILTER, RTM_GETTFILTER, RTM_NEWQDISC, RTM_NEWTFILTER, decodeIngressProgram, egressQuery, encodeClsact, encodeIngressProgram, encodeIngressRedirect, ingressProgramOf,
  ingressQuery, isIngressRedirect,
} from './rtnl-filters.ts';
import { RTM_GETQDISC, decodeTokenBucketRate, encodeTokenBucket, rootQueueQuestion } from './rtnl-queues.ts';
import { watchOf } from './rtnl-monitor.ts';
import {
  FdbDump, RTM_DELNEIGH, RTM_GETNEIGH, RTM_NEWNEIGH, decodeNeighbour, decodePortMac, encodeFdb, encodeFdbOfBridge, encodeFdbOfDevice, encodeNeighbour, encodePortMac, fdbQuery,
  fdbQuestion, neighbourQuery,
} from './rtnl-neighbours.ts';
import {
  RTM_DELROUTE, RTM_GETROUTE, RTM_NEWROUTE, decodeRoute, decodeRouteAnswer, encodeRoute, encodeRouteDeletion, encodeRouteQuestion, routeQuery,
} from './rtnl-routes.ts';
import { RTM_DELRULE, RTM_GETRULE, RTM_NEWRULE, decodeRule, encodeRule, ruleQuery } from './rtnl-rules.ts';
import { KernelError, type FdbEntry, type Link, type LinkChange, type LinkSpec, type Netns, type Rtnl } from './types.ts';

const NETLINK_ROUTE = 0;
const FAMILIES = [4, 6] as const;
/** What the kernel calls a thing that is not there, be it a link, an address, a route or a neighbour. */
const MISSING = new Set(['ENODEV', 'ENXIO', 'EADDRNOTAVAIL', 'ESRCH', 'ENOENT']);
const EXISTS = new Set(['EEXIST']);
const NO_ROUTE = new Set(['ENETUNREACH', 'EHOSTUNREACH', 'EACCES', 'EINVAL']);
/** EOPNOTSUPP: the device is no port of a bridge, by now. */
const NOT_IN_A_BRIDGE = new Set([...MISSING, 'EOPNOTSUPP']);
/** A program of tc-bpf(8) that matches each packet. */
const EVERYTHING = new BpfAssembler().return(-1).assemble();
const NO_FILTERS = new Set(['EINVAL']);
const NOTHING: ReadonlySet<string> = new Set();

interface Change { what: string; message: Message; tolerated: ReadonlySet<string> }

export function openRtnl(netns: Netns): Rtnl {
  const socket = openNetlink(netns, NETLINK_ROUTE);
  const slow = openSlowLane(netns, NETLINK_ROUTE);
  const glances = openGlances(netns);
  const deleteLink = linkDeleter(socket, slow);

  const ask = (what: string, type: number, body: Buffer, flags = 0): Buffer[] => socket.request(what, { type, flags, body }).map((reply) => reply.body);
  const list = (what: string, type: number, query: Buffer): Buffer[] =>
    tolerate(MISSING, () => socket.dump(what, type, query).map((reply) => reply.body)) ?? [];

  /** One message for each thing; returns those that were there to be changed. Throws the first failure that is not tolerated. */
  function batch<T>(verb: string, things: readonly T[], message: (thing: T) => Message, tolerated = NOTHING): T[] {
    const refused = socket.batch(verb, things.map(message));
    const failures = refused.filter(({ error }) => !tolerated.has(error.code));
    const [first] = failures;
    if (first) {
      const others = failures.length > 1 ? `, and ${failures.length - 1} others` : '';
      throw new KernelError(`${verb} ${JSON.stringify(things[first.index])} (${first.index + 1} of ${things.length}${others})`, first.error.code, first.error.detail);
    }
    const missed = new Set(refused.map(({ index }) => index));
    return things.filter((_, index) => !missed.has(index));
  }

  function link(nameOrIndex: string | number): Link | undefined {
    const [body] = tolerate(MISSING, () => ask(`read link ${nameOrIndex}`, RTM_GETLINK, linkQuery(nameOrIndex))) ?? [];
    return body && decodeLink(body);
  }

  /** While several are made together: what has been asked for so far, and what is to be done when it was sent. */
  let gathered: { changes: Change[]; after: (() => void)[] } | undefined;

  function change(what: string, type: number, body: Buffer, flags = 0, tolerated = NOTHING): void {
    const message = { type, flags, body };
    if (gathered) gathered.changes.push({ what, message, tolerated });
    else tolerate(tolerated, () => socket.request(what, message));
  }

  function together(work: () => void): void {
    const { changes, after } = (gathered = { changes: [] as Change[], after: [] as (() => void)[] });
    try {
      work();
      const refused = socket.batch('make changes', changes.map(({ message }) => message)).find(({ index, error }) => !changes[index]!.tolerated.has(error.code));
      if (refused) throw new KernelError(changes[refused.index]!.what, refused.error.code, refused.error.detail);
    } finally {
      gathered = undefined;
      for (const each of after) each();
    }
  }

  /** A large table; an empty one where it is not there. */
  async function read(what: string, type: number, body: Buffer, take: (body: Buffer) => void): Promise<void> {
    try {
      await readLarge(netns, NETLINK_ROUTE, what, { type, body }, take);
    } catch (error) {
      if (!(error instanceof KernelError && MISSING.has(error.code))) throw error;
    }
  }

  async function collect<T>(what: string, type: number, query: Buffer, decode: (body: Buffer) => T | T[]): Promise<T[]> {
    const found: T[] = [];
    await read(what, type, query, (body) => void found.push(...[decode(body)].flat() as T[]));
    return found;
  }

  const setLink = (index: number, to: LinkChange): void => change(`change link ${index}`, RTM_SETLINK, encodeSetLink(index, to));

  /** The kernel looks for the kind before it looks at what else is said. */
  function hasLinkKind(kind: string): boolean {
    try {
      ask(`make a link of kind ${kind}`, RTM_NEWLINK, encodeHomelessLink(kind), NLM_F_CREATE | NLM_F_EXCL);
      return true;
    } catch (error) {
      if (error instanceof KernelError) return error.code !== 'EOPNOTSUPP';
      throw error;
    }
  }

  /** What the message that makes a pair cannot say of the peer. */
  function finishPeer({ name, master, up }: { name: string; master?: number; up?: boolean }, home: Netns): void {
    if (master === undefined && up === undefined) return;
    withRtnl(home, (there) => there.setLink(there.glance(name)!.index, { ...(master !== undefined && { master }), ...(up !== undefined && { up }) }));
  }

  function addLink(spec: LinkSpec): number {
    ask(`add ${spec.kind} link ${spec.name}`, RTM_NEWLINK, encodeNewLink(spec), NLM_F_CREATE | NLM_F_EXCL);
    const home = 'netns' in spec ? spec.netns : undefined;
    const { index } = home ? withRtnl(home, (there) => there.glance(spec.name))! : glances.look(spec.name)!;
    if (spec.kind === 'veth') {
      try {
        finishPeer(spec.peer, spec.peer.netns ?? netns);
      } catch (error) {
        ask(`delete link ${spec.name}`, RTM_DELLINK, encodeDelete(index));
        throw error;
      }
    }
    return index;
  }

  function setFilter(what: string, index: number, instructions: Buffer, encode: (fd: number) => Buffer): void {
    const fd = loadTcProgram(instructions);
    const close = (): void => void sys.close(fd);
    try {
      change(`make link ${index} take programs`, RTM_NEWQDISC, encodeClsact(index), NLM_F_CREATE | NLM_F_EXCL, EXISTS);
      change(what, RTM_NEWTFILTER, encode(fd), NLM_F_CREATE | NLM_F_REPLACE);
    } finally {
      if (gathered) gathered.after.push(close);
      else close();
    }
  }

  /** EINVAL: it has no clsact, so no filters either. */
  const filters = (index: number, query = ingressQuery): Buffer[] => tolerate(NO_FILTERS, () => list(`list filters of link ${index}`, RTM_GETTFILTER, query(index))) ?? [];

  /** An entry that points elsewhere by now is somebody's newer one: it stays, in the bridge as well. */
  function deleteFdb(entries: readonly FdbEntry[]): void {
    const what = 'delete forwarding entry';
    batch(what, entries, (entry) => ({ type: RTM_DELNEIGH, flags: 0, body: encodeFdbOfDevice(entry) }), MISSING);
    // The kernel calls it a success when the entry has another VTEP, so what is still there has to be asked for.
    const inBridge = entries.filter(({ master }) => master);
    const kept = new Set(batch('look up forwarding entry', inBridge, (entry) => ({ type: RTM_GETNEIGH, flags: 0, body: fdbQuestion(entry) }), MISSING));
    const gone = inBridge.filter((entry) => !kept.has(entry));
    batch(what, gone, (entry) => ({ type: RTM_DELNEIGH, flags: 0, body: encodeFdbOfBridge(entry) }), NOT_IN_A_BRIDGE);
  }

  return {
    netns,
    links: () => list('list links', RTM_GETLINK, linkQuery()).map(decodeLink),
    link,
    glance: glances.look,
    addLink,
    hasLinkKind,
    setLink,
    together,
    setBridge: (index, settings) => void ask(`change bridge ${index}`, RTM_NEWLINK, encodeBridge(index, settings)),
    setBridgePort: (index, port) => change(`change bridge port ${index}`, RTM_SETLINK, encodeBridgePort(index, port)),
    ingressProgram: (index, turn = 'first') => filters(index).map((filter) => decodeIngressProgram(filter, turn)).find((name) => name !== undefined),
    setIngressProgram: (index, { name, instructions }, turn = 'first') =>
      setFilter(`attach program ${name} to link ${index}`, index, instructions, (fd) => encodeIngressProgram(index, turn, fd, name)),
    deleteIngressProgram: (index, turn) => {
      if (!filters(index).some((filter) => decodeIngressProgram(filter, turn) !== undefined)) return;
      void tolerate(MISSING, () => ask(`take a program off link ${index}`, RTM_DELTFILTER, ingressProgramOf(index, turn)));
      if (filters(index).length + filters(index, egressQuery).length === 0) void tolerate(MISSING, () => ask(`make link ${index} take no programs`, RTM_DELQDISC, encodeClsact(index)));
    },
    hasIngressRedirect: (index, to) => filters(index).some((filter) => isIngressRedirect(filter, to)),
    setIngressRedirect: (index, to) => setFilter(`send what comes by link ${index} through link ${to}`, index, EVERYTHING, (fd) => encodeIngressRedirect(index, fd, to)),
    // The kernel takes the answer for a notification, of which the one who asked has a copy only if it asks for one.
    tokenBucketRate: (index) => tolerate(MISSING, () => ask(`read the queue of link ${index}`, RTM_GETQDISC, rootQueueQuestion(index), NLM_F_ECHO))?.map(decodeTokenBucketRate)[0],
    setTokenBucket: (index, bucket) => void ask(`limit link ${index}`, RTM_NEWQDISC, encodeTokenBucket(index, bucket), NLM_F_CREATE | NLM_F_REPLACE),
    deleteLink: async (nameOrIndex) => {
      const found = link(nameOrIndex);
      if (found) await deleteLink(found);
    },
    moveLink: (index, to, rename) => slow.request(`move link ${index}`, () => ({ type: RTM_SETLINK, flags: 0, body: encodeMove(index, to, rename) })),

    addresses: (index) => list('list addresses', RTM_GETADDR, addressQuery(index)).flatMap(decodeAddress),
    addAddress: (index, address, protocol) =>
      void tolerate(EXISTS, () => ask(`add address ${address}`, RTM_NEWADDR, encodeAddress(index, address, protocol), NLM_F_CREATE | NLM_F_EXCL)),
    deleteAddress: (index, address) => void tolerate(MISSING, () => ask(`delete address ${address}`, RTM_DELADDR, encodeAddress(index, address))),

    routes: (filter = {}) => list('list routes', RTM_GETROUTE, routeQuery(filter)).flatMap(decodeRoute),
    replaceRoutes: (routes) =>
      void batch('replace route', routes, (route) => ({ type: RTM_NEWROUTE, flags: NLM_F_CREATE | NLM_F_REPLACE, body: encodeRoute(route) })),
    deleteRoutes: (routes) => void batch('delete route', routes, (route) => ({ type: RTM_DELROUTE, flags: 0, body: encodeRouteDeletion(route) }), MISSING),
    routeTo: (ip) => {
      const [body] = tolerate(NO_ROUTE, () => ask(`find the route to ${ip}`, RTM_GETROUTE, encodeRouteQuestion(ip))) ?? [];
      const answer = body && decodeRouteAnswer(body);
      return answer && { ...answer, mtu: answer.mtu ?? link(answer.dev)?.mtu ?? 0 };
    },

    rules: () => FAMILIES.flatMap((family) => list('list rules', RTM_GETRULE, ruleQuery(family)).map(decodeRule)),
    addRule: (rule) => void tolerate(EXISTS, () => ask(`add rule ${rule.priority}`, RTM_NEWRULE, encodeRule(rule), NLM_F_CREATE | NLM_F_EXCL)),
    deleteRule: (rule) => void tolerate(MISSING, () => ask(`delete rule ${rule.priority}`, RTM_DELRULE, encodeRule(rule))),

    neighbours: (index) => list(`list neighbours of link ${index}`, RTM_GETNEIGH, neighbourQuery(index)).flatMap((body) => decodeNeighbour(body) ?? []),
    replaceNeighbours: (entries) =>
      void batch('replace neighbour', entries, (entry) => ({ type: RTM_NEWNEIGH, flags: NLM_F_CREATE | NLM_F_REPLACE, body: encodeNeighbour(entry) })),
    deleteNeighbours: (entries) =>
      void batch('delete neighbour', entries, (entry) => ({ type: RTM_DELNEIGH, flags: 0, body: encodeNeighbour(entry) }), MISSING),
    fdb: (index) => {
      const dump = new FdbDump();
      for (const body of list(`list forwarding entries of link ${index}`, RTM_GETNEIGH, fdbQuery(index))) dump.add(body);
      return [...dump.entries()];
    },
    replaceFdb: (entries) =>
      void batch('replace forwarding entry', entries, (entry) => ({ type: RTM_NEWNEIGH, flags: NLM_F_CREATE | NLM_F_REPLACE, body: encodeFdb(entry) })),
    deleteFdb,
    large: {
      routes: (filter) => collect('list routes', RTM_GETROUTE, routeQuery(filter), decodeRoute),
      neighbours: (index) => collect(`list neighbours of link ${index}`, RTM_GETNEIGH, neighbourQuery(index), (body) => decodeNeighbour(body) ?? []),
      fdb: async (index) => {
        const dump = new FdbDump();
        await read(`list forwarding entries of link ${index}`, RTM_GETNEIGH, fdbQuery(index), (body) => dump.add(body));
        return dump.entries();
      },
    },
    portMacs: (port) => list(`list addresses behind port ${port}`, RTM_GETNEIGH, fdbQuery(port)).flatMap((body) => decodePortMac(body) ?? []),
    addPortMac: (port, mac) => change(`enter ${mac} for port ${port}`, RTM_NEWNEIGH, encodePortMac(port, mac), NLM_F_CREATE | NLM_F_REPLACE),

    watch: watchOf(netns),
    close: () => {
      socket.close();
      slow.close();
      glances.close();
    },
  };
}

/**
 * A short visit to a namespace, whose sockets are closed behind it: open ones would keep a dead namespace alive. Never pass work
 * that returns a promise.
 */
export function withRtnl<T>(netns: Netns, work: (rtnl: Rtnl) => T): T {
  const there = openRtnl(netns);
  try {
    return work(there);
  } finally {
    there.close();
  }
}

/** undefined where the kernel answered with one of the codes. */
function tolerate<T>(codes: ReadonlySet<string>, request: () => T): T | undefined {
  try {
    return request();
  } catch (error) {
    if (error instanceof KernelError && codes.has(error.code)) return undefined;
    throw error;
  }
}
