/** Addresses, routes and rules: encoded and decoded (rtnetlink(7), linux/rtnetlink.h, linux/fib_rules.h). */
import { bytesToIp, ipToBytes } from '../base/ip.ts';
import { attribute, parseAttributes, readText, readU32, text, u32 } from './attributes.ts';
import type { Address, Route, RouteAnswer, Rule } from './types.ts';

export const RTM_NEWADDR = 20;
export const RTM_DELADDR = 21;
export const RTM_GETADDR = 22;
export const RTM_NEWROUTE = 24;
export const RTM_DELROUTE = 25;
export const RTM_GETROUTE = 26;
export const RTM_NEWRULE = 32;
export const RTM_DELRULE = 33;
export const RTM_GETRULE = 34;

const AF_INET = 2;
const AF_INET6 = 10;
const IFA = { ADDRESS: 1, LOCAL: 2 } as const;
const RTA = { DST: 1, OIF: 4, GATEWAY: 5, PRIORITY: 6, PREFSRC: 7, METRICS: 8, TABLE: 15 } as const;
const RTAX_MTU = 2;
const RTN_UNICAST = 1;
const RTPROT_STATIC = 4;
const RTNH_F_ONLINK = 4;
const RT_TABLE_MAIN = 254;
const RT_TABLE_COMPAT = 252;
const SCOPES = { universe: 0, link: 253, host: 254 } as const;
const FRA = { IIFNAME: 3, PRIORITY: 6, FWMARK: 10, TABLE: 15, FWMASK: 16 } as const;
const FR_ACT_TO_TBL = 1;

const familyOf = (bytes: Uint8Array): number => (bytes.length === 4 ? AF_INET : AF_INET6);

/** struct ifaddrmsg; `address` is 'ip/length'. */
export function encodeAddress(index: number, address: string): Buffer {
  const [ip = '', length] = address.split('/');
  const bytes = ipToBytes(ip);
  const header = Buffer.alloc(8);
  header.writeUInt8(familyOf(bytes), 0);
  header.writeUInt8(length === undefined ? bytes.length * 8 : Number(length), 1);
  header.writeUInt32LE(index, 4);
  return Buffer.concat([header, attribute(IFA.LOCAL, bytes), attribute(IFA.ADDRESS, bytes)]);
}

export function decodeAddress(body: Buffer): Address {
  const attributes = parseAttributes(body.subarray(8));
  const ip = attributes.get(IFA.LOCAL) ?? attributes.get(IFA.ADDRESS);
  return { index: body.readUInt32LE(4), address: `${ip ? bytesToIp(ip) : ''}/${body.readUInt8(1)}`, scope: body.readUInt8(3) };
}

/** struct rtmsg */
function routeHeader(family: number, dstLength: number, table: number, protocol: number, scope: number, type: number, flags: number): Buffer {
  const header = Buffer.alloc(12);
  header.writeUInt8(family, 0);
  header.writeUInt8(dstLength, 1);
  header.writeUInt8(table > 255 ? RT_TABLE_COMPAT : table, 4);
  header.writeUInt8(protocol, 5);
  header.writeUInt8(scope, 6);
  header.writeUInt8(type, 7);
  header.writeUInt32LE(flags, 8);
  return header;
}

export function encodeRoute(route: Route): Buffer {
  const [ip, length] = route.dst === 'default' ? [undefined, '0'] : (route.dst.split('/') as [string, string?]);
  const dst = ip === undefined ? undefined : ipToBytes(ip);
  const via = route.via === undefined ? undefined : ipToBytes(route.via);
  const family = dst ?? via;
  const table = route.table ?? RT_TABLE_MAIN;
  const scope = SCOPES[route.scope ?? (via ? 'universe' : 'link')];
  return Buffer.concat([
    routeHeader(family ? familyOf(family) : AF_INET, Number(length ?? (dst ? dst.length * 8 : 0)), table, route.protocol ?? RTPROT_STATIC, scope, RTN_UNICAST, route.onlink ? RTNH_F_ONLINK : 0),
    u32(RTA.TABLE, table),
    ...(dst && length !== '0' ? [attribute(RTA.DST, dst)] : []),
    ...(via ? [attribute(RTA.GATEWAY, via)] : []),
    ...(route.dev === undefined ? [] : [u32(RTA.OIF, route.dev)]),
    ...(route.src === undefined ? [] : [attribute(RTA.PREFSRC, ipToBytes(route.src))]),
    ...(route.metric === undefined ? [] : [u32(RTA.PRIORITY, route.metric)]),
  ]);
}

/** undefined for what is not a unicast route (local, broadcast, multicast). */
export function decodeRoute(body: Buffer): Route | undefined {
  if (body.readUInt8(7) !== RTN_UNICAST) return undefined;
  const attributes = parseAttributes(body.subarray(12));
  const dst = attributes.get(RTA.DST);
  const length = body.readUInt8(1);
  const scope = body.readUInt8(6);
  const via = attributes.get(RTA.GATEWAY);
  const dev = readU32(attributes.get(RTA.OIF));
  const src = attributes.get(RTA.PREFSRC);
  const metric = readU32(attributes.get(RTA.PRIORITY));
  return {
    dst: length === 0 ? 'default' : `${bytesToIp(dst!)}/${length}`,
    ...(via && { via: bytesToIp(via) }),
    ...(dev !== undefined && { dev }),
    ...(src && { src: bytesToIp(src) }),
    table: readU32(attributes.get(RTA.TABLE)) ?? body.readUInt8(4),
    onlink: (body.readUInt32LE(8) & RTNH_F_ONLINK) !== 0,
    scope: scope === SCOPES.link ? 'link' : scope === SCOPES.host ? 'host' : 'universe',
    ...(metric !== undefined && { metric }),
    protocol: body.readUInt8(5),
  };
}

export const routesHeader = (family = AF_INET): Buffer => routeHeader(family, 0, 0, 0, 0, 0, 0);

export function encodeRouteQuery(ip: string): Buffer {
  const dst = ipToBytes(ip);
  return Buffer.concat([routeHeader(familyOf(dst), dst.length * 8, 0, 0, 0, 0, 0), attribute(RTA.DST, dst)]);
}

/** The route's own MTU where it has one; else 0, and the link's counts. */
export function decodeRouteAnswer(body: Buffer): RouteAnswer {
  const attributes = parseAttributes(body.subarray(12));
  const via = attributes.get(RTA.GATEWAY);
  const src = attributes.get(RTA.PREFSRC);
  const metrics = attributes.get(RTA.METRICS);
  return {
    dev: readU32(attributes.get(RTA.OIF)) ?? 0,
    src: src && bytesToIp(src),
    via: via && bytesToIp(via),
    mtu: (metrics && readU32(parseAttributes(metrics).get(RTAX_MTU))) ?? 0,
  };
}

/** struct fib_rule_hdr */
export function encodeRule(rule: Rule): Buffer {
  const header = Buffer.alloc(12);
  header.writeUInt8(AF_INET, 0);
  header.writeUInt8(rule.table > 255 ? 0 : rule.table, 4);
  header.writeUInt8(FR_ACT_TO_TBL, 7);
  return Buffer.concat([
    header,
    u32(FRA.PRIORITY, rule.priority), u32(FRA.TABLE, rule.table),
    ...(rule.iif === undefined ? [] : [text(FRA.IIFNAME, rule.iif)]),
    ...(rule.fwmark === undefined ? [] : [u32(FRA.FWMARK, rule.fwmark), u32(FRA.FWMASK, rule.fwmask ?? 0xffffffff)]),
  ]);
}

export function decodeRule(body: Buffer): Rule {
  const attributes = parseAttributes(body.subarray(12));
  const iif = readText(attributes.get(FRA.IIFNAME));
  const fwmark = readU32(attributes.get(FRA.FWMARK));
  return {
    priority: readU32(attributes.get(FRA.PRIORITY)) ?? 0,
    table: readU32(attributes.get(FRA.TABLE)) ?? body.readUInt8(4),
    ...(iif !== undefined && { iif }),
    ...(fwmark !== undefined && { fwmark, fwmask: readU32(attributes.get(FRA.FWMASK)) ?? 0xffffffff }),
  };
}

export const rulesHeader = (): Buffer => {
  const header = Buffer.alloc(12);
  header.writeUInt8(AF_INET, 0);
  return header;
};
