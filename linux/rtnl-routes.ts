/** Routes, and how a packet would leave: encoded and decoded (rtnetlink(7), linux/rtnetlink.h). */
import { bytesToIp, ipToBytes } from '../base/ip.ts';
import { attribute, optional, parseAttributes, readU32, u32, type Attributes } from './attributes.ts';
import { AF_INET, AF_INET6, AF_UNSPEC } from './rtnl-links.ts';
import type { Route, RouteAnswer } from './types.ts';

export const RTM_NEWROUTE = 24;
export const RTM_DELROUTE = 25;
export const RTM_GETROUTE = 26;

const HEADER = 12;
const RTA = { DST: 1, OIF: 4, GATEWAY: 5, PRIORITY: 6, PREFSRC: 7, METRICS: 8, MULTIPATH: 9, TABLE: 15, VIA: 18 } as const;
const RTAX_MTU = 2;
const RTN_UNICAST = 1;
const RTN_LOCAL = 2;
const RTPROT_STATIC = 4;
const RTNH_F_ONLINK = 4;
const RT_TABLE_COMPAT = 252;
const RT_TABLE_MAIN = 254;
const SCOPES = { universe: 0, link: 253, host: 254 } as const;
const RT_SCOPE_NOWHERE = 255;

interface Fields { family: number; length?: number; table?: number; protocol?: number; scope?: number; type?: number; flags?: number }

/** struct rtmsg; its table is one byte, so that larger ones travel as an attribute. */
function header({ family, length = 0, table = 0, protocol = 0, scope = 0, type = 0, flags = 0 }: Fields): Buffer {
  const bytes = Buffer.alloc(HEADER);
  bytes.set([family, length, 0, 0, table > 255 ? RT_TABLE_COMPAT : table, protocol, scope, type]);
  bytes.writeUInt32LE(flags, 8);
  return bytes;
}

const familyOf = (address: Uint8Array): number => (address.length === 4 ? AF_INET : AF_INET6);

export const routeQuery = ({ table, dev }: { table?: number; dev?: number }): Buffer =>
  Buffer.concat([header({ family: AF_UNSPEC }), ...optional(table, (value) => u32(RTA.TABLE, value)), ...optional(dev, (value) => u32(RTA.OIF, value))]);

export function encodeRoute(route: Route): Buffer {
  const scope = SCOPES[route.scope ?? (route.via === undefined ? 'link' : 'universe')];
  return encode(route, { protocol: route.protocol ?? RTPROT_STATIC, scope, type: RTN_UNICAST });
}

/** Scope, protocol and type are left open: whatever is there under that destination goes. */
export const encodeRouteDeletion = (route: Route): Buffer => encode(route, { scope: RT_SCOPE_NOWHERE });

function encode({ dst, via, dev, src, table = RT_TABLE_MAIN, onlink, metric }: Route, fields: Omit<Fields, 'family'>): Buffer {
  const [ip, length] = dst === 'default' ? [undefined, '0'] : dst.split('/');
  const destination = ip === undefined ? undefined : ipToBytes(ip);
  const gateway = via === undefined ? undefined : ipToBytes(via);
  const known = destination ?? gateway;
  const bits = length === undefined ? (destination?.length ?? 0) * 8 : Number(length);
  return Buffer.concat([
    header({ ...fields, family: known ? familyOf(known) : AF_INET, length: bits, table, flags: onlink ? RTNH_F_ONLINK : 0 }),
    u32(RTA.TABLE, table),
    ...optional(bits === 0 ? undefined : destination, (value) => attribute(RTA.DST, value)),
    ...optional(gateway, (value) => attribute(RTA.GATEWAY, value)),
    ...optional(dev, (value) => u32(RTA.OIF, value)),
    ...optional(src, (value) => attribute(RTA.PREFSRC, ipToBytes(value))),
    ...optional(metric, (value) => u32(RTA.PRIORITY, value)),
  ]);
}

/** A route with several next hops comes out once for each; what is not unicast (local, broadcast, unreachable …) is left out. */
export function decodeRoute(body: Buffer): Route[] {
  const family = body.readUInt8(0);
  if (body.readUInt8(7) !== RTN_UNICAST || (family !== AF_INET && family !== AF_INET6)) return [];
  const attributes = parseAttributes(body.subarray(HEADER));
  const dst = attributes.get(RTA.DST);
  const src = attributes.get(RTA.PREFSRC);
  const metric = readU32(attributes.get(RTA.PRIORITY));
  const scope = body.readUInt8(6);
  return hops(body, attributes).map(({ via, dev, onlink }) => ({
    dst: dst ? `${bytesToIp(dst)}/${body.readUInt8(1)}` : 'default',
    ...(via !== undefined && { via }),
    ...(dev !== undefined && { dev }),
    ...(src && { src: bytesToIp(src) }),
    table: readU32(attributes.get(RTA.TABLE)) ?? body.readUInt8(4),
    onlink,
    scope: scope === SCOPES.link ? 'link' : scope === SCOPES.host ? 'host' : 'universe',
    ...(metric !== undefined && { metric }),
    protocol: body.readUInt8(5),
  }));
}

/** The link that a route of one hop leads to. */
export const routeDevice = (body: Buffer): number | undefined => readU32(parseAttributes(body.subarray(HEADER)).get(RTA.OIF));

interface Hop { via: string | undefined; dev: number | undefined; onlink: boolean }

function hops(body: Buffer, attributes: Attributes): Hop[] {
  const several = attributes.get(RTA.MULTIPATH);
  if (!several) return [{ via: gatewayOf(attributes), dev: readU32(attributes.get(RTA.OIF)), onlink: (body.readUInt32LE(8) & RTNH_F_ONLINK) !== 0 }];
  const found: Hop[] = [];
  // struct rtnexthop: length (2), flags (1), weight (1), link (4), then attributes of its own.
  for (let offset = 0; offset + 8 <= several.length;) {
    const length = several.readUInt16LE(offset);
    if (length < 8 || offset + length > several.length) break;
    const via = gatewayOf(parseAttributes(several.subarray(offset + 8, offset + length)));
    found.push({ via, dev: several.readInt32LE(offset + 4), onlink: (several.readUInt8(offset + 2) & RTNH_F_ONLINK) !== 0 });
    offset += (length + 3) & ~3;
  }
  return found;
}

/** RTA_VIA (an address family, then the address) is an IPv4 route's gateway that speaks IPv6. */
function gatewayOf(attributes: Attributes): string | undefined {
  const gateway = attributes.get(RTA.GATEWAY) ?? attributes.get(RTA.VIA)?.subarray(2);
  return gateway && bytesToIp(gateway);
}

export function encodeRouteQuestion(ip: string): Buffer {
  const dst = ipToBytes(ip);
  return Buffer.concat([header({ family: familyOf(dst), length: dst.length * 8 }), attribute(RTA.DST, dst)]);
}

/** `mtu` is undefined where the route has none of its own; undefined as a whole where the packet would not leave. */
export function decodeRouteAnswer(body: Buffer): (Omit<RouteAnswer, 'mtu'> & { mtu: number | undefined }) | undefined {
  const type = body.readUInt8(7);
  const attributes = parseAttributes(body.subarray(HEADER));
  const dev = readU32(attributes.get(RTA.OIF));
  if (dev === undefined || (type !== RTN_UNICAST && type !== RTN_LOCAL)) return undefined;
  const src = attributes.get(RTA.PREFSRC);
  const metrics = parseAttributes(attributes.get(RTA.METRICS) ?? Buffer.alloc(0));
  return { dev, src: src && bytesToIp(src), via: gatewayOf(attributes), mtu: readU32(metrics.get(RTAX_MTU)) };
}
