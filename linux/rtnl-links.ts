/** Links: RTM_NEWLINK and its relatives, encoded and decoded (linux/if_link.h, rtnetlink(7)). */
import { bytesToIp, bytesToMac, ipToBytes, macToBytes } from '../base/ip.ts';
import { attribute, flag, nested, parseAttributes, readText, readU32, text, u16be, u32, u8 } from './attributes.ts';
import type { BridgePort, Link, LinkChange, LinkSpec } from './types.ts';

export const RTM_NEWLINK = 16;
export const RTM_DELLINK = 17;
export const RTM_GETLINK = 18;
export const RTM_SETLINK = 19;

const AF_UNSPEC = 0;
export const AF_BRIDGE = 7;
const IFF_UP = 1;
const IFF_LOWER_UP = 0x10000;

const IFLA = { ADDRESS: 1, IFNAME: 3, MTU: 4, LINK: 5, MASTER: 10, PROTINFO: 12, LINKINFO: 18, GROUP: 27, NET_NS_FD: 28, CARRIER: 33 } as const;
const INFO = { KIND: 1, DATA: 2 } as const;
const VETH_INFO_PEER = 1;
const VXLAN = { ID: 1, LOCAL: 4, LEARNING: 7, PROXY: 11, PORT: 15, LOCAL6: 17, UDP_ZERO_CSUM6_TX: 19, UDP_ZERO_CSUM6_RX: 20 } as const;
const BRIDGE = { AGEING_TIME: 2, MCAST_SNOOPING: 23 } as const;
const PORT = { HAIRPIN: 4, LEARNING: 8, UNICAST_FLOOD: 9, MCAST_FLOOD: 27, NEIGH_SUPPRESS: 32, ISOLATED: 33, BCAST_FLOOD: 30 } as const;

/** struct ifinfomsg */
export function linkHeader(index = 0, flags = 0, change = 0, family = AF_UNSPEC): Buffer {
  const header = Buffer.alloc(16);
  header.writeUInt8(family, 0);
  header.writeInt32LE(index, 4);
  header.writeUInt32LE(flags, 8);
  header.writeUInt32LE(change, 12);
  return header;
}

export function decodeLink(body: Buffer): Link {
  const attributes = parseAttributes(body.subarray(16));
  const flags = body.readUInt32LE(8);
  const info = attributes.has(IFLA.LINKINFO) ? parseAttributes(attributes.get(IFLA.LINKINFO)!) : undefined;
  const kind = readText(info?.get(INFO.KIND));
  const link: Link = {
    index: body.readInt32LE(4),
    name: readText(attributes.get(IFLA.IFNAME)) ?? '',
    kind,
    mac: bytesToMac(attributes.get(IFLA.ADDRESS) ?? Buffer.alloc(0)),
    mtu: readU32(attributes.get(IFLA.MTU)) ?? 0,
    up: (flags & IFF_UP) !== 0,
    // Lower-up is what the driver says; the carrier attribute lags behind it in notifications.
    carrier: (flags & IFF_LOWER_UP) !== 0,
    master: readU32(attributes.get(IFLA.MASTER)),
    group: readU32(attributes.get(IFLA.GROUP)) ?? 0,
  };
  const data = info?.get(INFO.DATA);
  if (kind === 'vxlan' && data) {
    const vxlan = parseAttributes(data);
    const local = vxlan.get(VXLAN.LOCAL) ?? vxlan.get(VXLAN.LOCAL6);
    link.vxlan = { vni: readU32(vxlan.get(VXLAN.ID)) ?? 0, port: vxlan.get(VXLAN.PORT)?.readUInt16BE(0) ?? 0, local: local && bytesToIp(local) };
  }
  return link;
}

function common({ name, mtu, mac, master, group }: { name: string; mtu?: number; mac?: string; master?: number; group?: number }): Buffer {
  return Buffer.concat([
    text(IFLA.IFNAME, name),
    ...(mtu === undefined ? [] : [u32(IFLA.MTU, mtu)]),
    ...(mac === undefined ? [] : [attribute(IFLA.ADDRESS, macToBytes(mac))]),
    ...(master === undefined ? [] : [u32(IFLA.MASTER, master)]),
    ...(group === undefined ? [] : [u32(IFLA.GROUP, group)]),
  ]);
}

/** The device's own data, and the namespace it is born in where that is another one. */
function infoData(spec: LinkSpec): Buffer[] {
  if (spec.kind === 'veth') {
    const { name, mtu, mac, netns } = spec.peer;
    // Neither up nor master: the kernel refuses the first here (ENOTCONN), and the second names a link of the other namespace.
    const peer = common({ name, ...(mtu !== undefined && { mtu }), ...(mac !== undefined && { mac }) });
    return [nested(VETH_INFO_PEER, linkHeader(), peer, ...(netns ? [u32(IFLA.NET_NS_FD, netns.fd)] : []))];
  }
  if (spec.kind === 'vxlan') {
    const local = ipToBytes(spec.local);
    return [
      u32(VXLAN.ID, spec.vni), attribute(local.length === 4 ? VXLAN.LOCAL : VXLAN.LOCAL6, local), flag(VXLAN.LEARNING, false),
      flag(VXLAN.PROXY, spec.proxy ?? false), u16be(VXLAN.PORT, spec.port),
    ];
  }
  // Snooping would flood or hold back multicast by what it learns; there is nothing to learn from in a group of known endpoints.
  if (spec.kind === 'bridge') return [u8(BRIDGE.MCAST_SNOOPING, 0), ...(spec.ageingSeconds === undefined ? [] : [u32(BRIDGE.AGEING_TIME, spec.ageingSeconds * 100)])];
  return [];
}

export function encodeNewLink(spec: LinkSpec): Buffer {
  const bornElsewhere = spec.kind === 'vxlan' ? spec.netns : undefined;
  const data = infoData(spec);
  // A master is an index in the namespace where the link lives: for one born elsewhere it is set there, afterwards.
  const { master: _, ...withoutMaster } = spec;
  return Buffer.concat([
    linkHeader(0, spec.up && !bornElsewhere ? IFF_UP : 0, spec.up && !bornElsewhere ? IFF_UP : 0),
    common(bornElsewhere ? withoutMaster : spec),
    ...(bornElsewhere ? [u32(IFLA.NET_NS_FD, bornElsewhere.fd)] : []),
    nested(IFLA.LINKINFO, text(INFO.KIND, spec.kind), ...(data.length > 0 ? [nested(INFO.DATA, ...data)] : [])),
  ]);
}

export function encodeSetLink(index: number, { name, up, mtu, mac, master, group }: LinkChange): Buffer {
  return Buffer.concat([
    linkHeader(index, up ? IFF_UP : 0, up === undefined ? 0 : IFF_UP),
    ...(name === undefined ? [] : [text(IFLA.IFNAME, name)]),
    ...(mtu === undefined ? [] : [u32(IFLA.MTU, mtu)]),
    ...(mac === undefined ? [] : [attribute(IFLA.ADDRESS, macToBytes(mac))]),
    ...(master === undefined ? [] : [u32(IFLA.MASTER, master ?? 0)]),
    ...(group === undefined ? [] : [u32(IFLA.GROUP, group)]),
  ]);
}

export const encodeMove = (index: number, netnsFd: number, name: string | undefined): Buffer =>
  Buffer.concat([linkHeader(index), u32(IFLA.NET_NS_FD, netnsFd), ...(name === undefined ? [] : [text(IFLA.IFNAME, name)])]);

/** Flags of a bridge port travel in AF_BRIDGE's IFLA_PROTINFO (RTM_SETLINK); the generic form ignores them. */
export function encodeBridgePort(index: number, port: BridgePort): Buffer {
  const flags = [
    [PORT.LEARNING, port.learning], [PORT.NEIGH_SUPPRESS, port.neighSuppress], [PORT.HAIRPIN, port.hairpin], [PORT.ISOLATED, port.isolated],
    [PORT.UNICAST_FLOOD, port.flood], [PORT.MCAST_FLOOD, port.flood], [PORT.BCAST_FLOOD, port.flood],
  ] as const;
  return Buffer.concat([
    linkHeader(index, 0, 0, AF_BRIDGE),
    nested(IFLA.PROTINFO, ...flags.flatMap(([type, value]) => (value === undefined ? [] : [flag(type, value)]))),
  ]);
}

export const encodeByName = (name: string): Buffer => Buffer.concat([linkHeader(), text(IFLA.IFNAME, name)]);
