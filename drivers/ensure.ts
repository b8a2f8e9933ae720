/** Level-triggered pieces: each compares one thing with the kernel, mends the difference and says what it found. */
import type { Repair } from '../cnm/driver.ts';
import { writeSysctl } from '../linux/sysctl.ts';
import type { FdbEntry, IngressProgram, Link, LinkSpec, Neighbour, Netns, Route, Rtnl, Turn } from '../linux/types.ts';

export interface LinkState { mtu?: number; mac?: string; master?: number; up: boolean }

/** Returns the link's index. `make` is called where it is missing. */
export function ensureLink(rtnl: Rtnl, name: string, state: LinkState, make: () => void, found: Repair[]): number {
  const present = rtnl.link(name);
  if (!present) {
    make();
    found.push({ what: `link ${name} was missing` });
  }
  const link = present ?? rtnl.link(name)!;
  alignLink(rtnl, link, state, present ? found : []);
  return link.index;
}

/** `link` is as it was read in this turn. */
export function alignLink(rtnl: Rtnl, link: Link, state: LinkState, found: Repair[]): void {
  const changes = {
    ...(state.mtu !== undefined && link.mtu !== state.mtu && { mtu: state.mtu }),
    ...(state.mac !== undefined && link.mac !== state.mac && { mac: state.mac }),
    ...(state.master !== undefined && link.master !== state.master && { master: state.master }),
    ...(link.up !== state.up && { up: state.up }),
  };
  const wrong = Object.keys(changes);
  if (wrong.length === 0) return;
  rtnl.setLink(link.index, changes);
  found.push({ what: `link ${link.name} had another ${wrong.join(', ')}` });
}

/** A device born with wrong data (another VNI or VTEP) cannot be changed: it is made again. */
export async function removeUnless(rtnl: Rtnl, name: string, isRight: (link: Link) => boolean): Promise<void> {
  const link = rtnl.link(name);
  if (link && !isRight(link)) await rtnl.deleteLink(link.index);
}

/** What a program's name has after a slash every start of weftd makes another one, of which there is nothing to say. */
export function ensureProgram(rtnl: Rtnl, { index }: Pick<Link, 'index'>, program: IngressProgram, found: Repair[], what: string, turn: Turn = 'first'): void {
  const present = rtnl.ingressProgram(index, turn);
  if (present === program.name) return;
  rtnl.setIngressProgram(index, program, turn);
  if (present?.split('/')[0] !== program.name.split('/')[0]) found.push({ what });
}

/** `protocol` is entered with an address that was missing. */
export function ensureAddress(rtnl: Rtnl, index: number, address: string, found: Repair[], protocol?: number): void {
  if (rtnl.addresses(index).some((each) => each.address === address)) return;
  rtnl.addAddress(index, address, protocol);
  found.push({ what: `address ${address} was missing` });
}

/** Links have it from the namespace's own setting; somebody may have taken it away since. */
export const forward = (netns: Netns, link: string): void => void writeSysctl(netns, `net/ipv4/conf/${link}/forwarding`, '1');

const RTPROT_KERNEL = 2;

/** Of a table, what a route replaces. */
export const destinationKey = ({ dst, table = 254, metric = 0 }: Route): string => `${table} ${dst} ${metric}`;
export const routeKey = (route: Route): string => [route.dst, route.via ?? '', route.dev ?? '', route.src ?? '', route.table ?? 254, route.metric ?? 0].join(' ');

/** `present` is what is there now and ours alone (the IPv6 routes that the kernel makes for a link aside): what of it is not wanted goes. */
export function ensureRoutes(rtnl: Rtnl, wanted: readonly Route[], present: readonly Route[], found: Repair[]): void {
  const own = present.filter(({ dst, protocol }) => !(dst.includes(':') && protocol === RTPROT_KERNEL));
  const has = new Set(own.map(routeKey));
  const right = new Set(wanted.map(routeKey));
  const missing = wanted.filter((route) => !has.has(routeKey(route)));
  // A destination that is wanted otherwise has been replaced.
  const replaced = new Set(missing.map(destinationKey));
  const surplus = own.filter((route) => !right.has(routeKey(route)) && !replaced.has(destinationKey(route)));
  rtnl.replaceRoutes(missing);
  rtnl.deleteRoutes(surplus);
  if (missing.length > 0) found.push({ what: `${missing.length} routes were missing (${missing[0]!.dst})` });
  if (surplus.length > 0) found.push({ what: `${surplus.length} routes were stale (${surplus[0]!.dst})` });
}

/** A device's forwarding entries and neighbours, exactly. */
export function ensureForwarding(rtnl: Rtnl, dev: number, fdb: readonly FdbEntry[], neighbours: readonly Neighbour[], found: Repair[]): void {
  const fdbKey = (entry: FdbEntry): string => `${entry.mac} ${entry.vtep} ${entry.master ?? false}`;
  const neighbourKey = (entry: Neighbour): string => `${entry.ip} ${entry.mac}`;
  const { missing: noFdb, surplus: staleFdb } = difference(rtnl.fdb(dev), fdb, fdbKey);
  const { missing: noNeighbour, surplus: staleNeighbour } = difference(rtnl.neighbours(dev), neighbours, neighbourKey);
  const kept = new Set(fdb.map(({ mac }) => mac));
  const keptIps = new Set(neighbours.map(({ ip }) => ip));
  rtnl.replaceFdb(noFdb);
  rtnl.deleteFdb(staleFdb.filter(({ mac }) => !kept.has(mac)));
  rtnl.replaceNeighbours(noNeighbour);
  rtnl.deleteNeighbours(staleNeighbour.filter(({ ip }) => !keptIps.has(ip)));
  if (noFdb.length > 0) found.push({ what: `${noFdb.length} forwarding entries were missing or wrong (${noFdb[0]!.mac})` });
  if (staleFdb.length > 0) found.push({ what: `${staleFdb.length} forwarding entries were stale (${staleFdb[0]!.mac})` });
  if (noNeighbour.length > 0) found.push({ what: `${noNeighbour.length} neighbours were missing or wrong (${noNeighbour[0]!.ip})` });
  if (staleNeighbour.length > 0) found.push({ what: `${staleNeighbour.length} neighbours were stale (${staleNeighbour[0]!.ip})` });
}

function difference<T>(present: readonly T[], wanted: readonly T[], key: (item: T) => string): { missing: T[]; surplus: T[] } {
  const has = new Set(present.map(key));
  const right = new Set(wanted.map(key));
  return { missing: wanted.filter((item) => !has.has(key(item))), surplus: present.filter((item) => !right.has(key(item))) };
}

/** Only the fields that a spec has. */
export const linkMaker = (rtnl: Rtnl, spec: LinkSpec) => (): void => void rtnl.addLink(spec);

/**
 * What a crash left behind: links with names of ours that belong to nothing. They are listed before the first wait, so
 * `known` must be as fresh as the call.
 */
export async function removeStrangers(rtnl: Rtnl, ours: RegExp, known: readonly string[], found: Repair[]): Promise<void> {
  const names = new Set(known);
  await deleteLinks(rtnl, ({ name }) => {
    const isStranger = ours.test(name) && !names.has(name);
    if (isStranger) found.push({ what: `link ${name} belonged to nothing` });
    return isStranger;
  });
}

/** All at once, which takes the kernel hardly longer than one; throws the first failure after the last attempt. */
export async function deleteLinks(rtnl: Rtnl, which: (link: Link) => boolean): Promise<void> {
  const results = await Promise.allSettled(rtnl.links().filter(which).map(({ index }) => rtnl.deleteLink(index)));
  for (const result of results) if (result.status === 'rejected') throw result.reason;
}
