/** Links: RTM_NEWLINK and its relatives, encoded and decoded (linux/if_link.h, rtnetlink(7)). */
import { bytesToIp, bytesToMac, ipToBytes, macToBytes } from '../base/ip.ts';
import { attribute, flag, nested, optional, parseAttributes, readText, readU32, text, u16be, u32 } from './attributes.ts';
import { decodeStacked, encodeStacked } from './rtnl-stacked.ts';
import type { BridgePort, BridgeSettings, Link, LinkChange, LinkSpec, Netns } from './types.ts';

export const RTM_NEWLINK = 16;
export const RTM_DELLINK = 17;
export const RTM_GETLINK = 18;
export const RTM_SETLINK = 19;

export const AF_UNSPEC = 0;
export const AF_INET = 2;
export const AF_BRIDGE = 7;
export const AF_INET6 = 10;

const HEADER = 16;
const IFF_UP = 1;
const IFF_LOWER_UP = 0x10000;
const RTEXT_FILTER_SKIP_STATS = 8;
/** Clock ticks a second in what the kernel tells user space (USER_HZ). */
const TICKS = 100;

const IFLA = { ADDRESS: 1, IFNAME: 3, MTU: 4, LINK: 5, MASTER: 10, PROTINFO: 12, LINKINFO: 18, GROUP: 27, NET_NS_FD: 28, EXT_MASK: 29, NUM_TX_QUEUES: 31, NUM_RX_QUEUES: 32 } as const;
const INFO = { KIND: 1, DATA: 2 } as const;
const VETH_INFO_PEER = 1;
const VXLAN = { ID: 1, LOCAL: 4, LEARNING: 7, PROXY: 11, PORT: 15, LOCAL6: 17 } as const;
const BRIDGE = { AGEING_TIME: 4, MCAST_SNOOPING: 23 } as const;
const PORT = { HAIRPIN: 4, LEARNING: 8, UNICAST_FLOOD: 9, MCAST_FLOOD: 27, BCAST_FLOOD: 30, NEIGH_SUPPRESS: 32, ISOLATED: 33, LOCKED: 39 } as const;

/** struct ifinfomsg; `up` undefined leaves the state as it is. */
function header(index: number, up?: boolean, family = AF_UNSPEC): Buffer {
  const bytes = Buffer.alloc(HEADER);
  bytes.writeUInt8(family, 0);
  bytes.writeInt32LE(index, 4);
  bytes.writeUInt32LE(up ? IFF_UP : 0, 8);
  bytes.writeUInt32LE(up === undefined ? 0 : IFF_UP, 12);
  return bytes;
}

/** One link by name or index, or all. */
export const linkQuery = (nameOrIndex: string | number = 0): Buffer => Buffer.concat([
  header(typeof nameOrIndex === 'number' ? nameOrIndex : 0),
  u32(IFLA.EXT_MASK, RTEXT_FILTER_SKIP_STATS),
  ...(typeof nameOrIndex === 'string' ? [text(IFLA.IFNAME, nameOrIndex)] : []),
]);

/** Without decoding the rest. */
export const isLinkUp = (body: Buffer): boolean => (body.readUInt32LE(8) & IFF_UP) !== 0;

export function decodeLink(body: Buffer): Link {
  const attributes = parseAttributes(body.subarray(HEADER));
  const flags = body.readUInt32LE(8);
  const info = parseAttributes(attributes.get(IFLA.LINKINFO) ?? Buffer.alloc(0));
  const kind = readText(info.get(INFO.KIND));
  const data = info.get(INFO.DATA);
  const parent = readU32(attributes.get(IFLA.LINK));
  return {
    index: body.readInt32LE(4),
    name: readText(attributes.get(IFLA.IFNAME)) ?? '',
    kind,
    mac: bytesToMac(attributes.get(IFLA.ADDRESS) ?? Buffer.alloc(0)),
    mtu: readU32(attributes.get(IFLA.MTU)) ?? 0,
    up: isLinkUp(body),
    // The flag, not IFLA_CARRIER: that one is also set on links that are down.
    carrier: (flags & IFF_LOWER_UP) !== 0,
    master: readU32(attributes.get(IFLA.MASTER)),
    group: readU32(attributes.get(IFLA.GROUP)) ?? 0,
    ...(kind === 'vxlan' && data && { vxlan: decodeVxlan(data) }),
    ...(parent !== undefined && parent !== 0 && { parent }),
    ...(data && decodeStacked(kind, data)),
  };
}

function decodeVxlan(data: Buffer): NonNullable<Link['vxlan']> {
  const attributes = parseAttributes(data);
  const local = attributes.get(VXLAN.LOCAL) ?? attributes.get(VXLAN.LOCAL6);
  return { vni: readU32(attributes.get(VXLAN.ID)) ?? 0, port: attributes.get(VXLAN.PORT)?.readUInt16BE(0) ?? 0, local: local && bytesToIp(local) };
}

/** Can never be carried out: a link of a kind that stands on others, on none. */
export const encodeHomelessLink = (kind: string): Buffer => Buffer.concat([header(0), nested(IFLA.LINKINFO, text(INFO.KIND, kind))]);

/** Changes a link that exists. */
export const encodeSetLink = (index: number, change: LinkChange): Buffer => Buffer.concat([header(index, change.up), ...properties(change)]);

const properties = ({ name, mtu, mac, master, group }: LinkChange): Buffer[] => [
  ...optional(name, (value) => text(IFLA.IFNAME, value)),
  ...optional(mtu, (value) => u32(IFLA.MTU, value)),
  ...optional(mac, (value) => attribute(IFLA.ADDRESS, macToBytes(value))),
  ...optional(master, (value) => u32(IFLA.MASTER, value ?? 0)),
  ...optional(group, (value) => u32(IFLA.GROUP, value)),
];

const namespace = (netns: Netns | undefined): Buffer[] => optional(netns, ({ fd }) => u32(IFLA.NET_NS_FD, fd));

/** A link that is born in another namespace finds its master there. */
export function encodeNewLink(spec: LinkSpec): Buffer {
  const data = infoData(spec);
  return Buffer.concat([
    header(0, spec.up),
    ...properties(spec),
    ...('netns' in spec ? namespace(spec.netns) : []),
    ...('parent' in spec ? [u32(IFLA.LINK, spec.parent)] : []),
    ...(spec.kind === 'veth' ? ONE_QUEUE : []),
    nested(IFLA.LINKINFO, text(INFO.KIND, spec.kind), ...(data.length > 0 ? [nested(INFO.DATA, ...data)] : [])),
  ]);
}

/** As many as a veth uses by itself. Unless it is said, the kernel makes one for each CPU, takes all but the first away again, and waits for the CPUs each time. */
const ONE_QUEUE = [u32(IFLA.NUM_TX_QUEUES, 1), u32(IFLA.NUM_RX_QUEUES, 1)];

function infoData(spec: LinkSpec): Buffer[] {
  if (spec.kind === 'bridge') return bridgeData(spec);
  if (spec.kind === 'veth') {
    // Neither up nor master: the kernel refuses the one here (ENOTCONN) and ignores the other.
    const { up: _up, master: _master, netns, ...peer } = spec.peer;
    return [nested(VETH_INFO_PEER, header(0), ...properties(peer), ...namespace(netns), ...ONE_QUEUE)];
  }
  if (spec.kind !== 'vxlan') return 'parent' in spec ? [encodeStacked(spec)] : [];
  const local = ipToBytes(spec.local);
  return [
    u32(VXLAN.ID, spec.vni), attribute(local.length === 4 ? VXLAN.LOCAL : VXLAN.LOCAL6, local), u16be(VXLAN.PORT, spec.port),
    flag(VXLAN.LEARNING, false), flag(VXLAN.PROXY, spec.proxy ?? false),
  ];
}

const bridgeData = ({ ageingSeconds, multicastSnooping }: BridgeSettings): Buffer[] => [
  ...optional(ageingSeconds, (seconds) => u32(BRIDGE.AGEING_TIME, seconds * TICKS)),
  ...optional(multicastSnooping, (value) => flag(BRIDGE.MCAST_SNOOPING, value)),
];

/** For RTM_NEWLINK without a flag: RTM_SETLINK ignores what is special to a kind. */
export const encodeBridge = (index: number, settings: BridgeSettings): Buffer =>
  Buffer.concat([header(index), nested(IFLA.LINKINFO, text(INFO.KIND, 'bridge'), nested(INFO.DATA, ...bridgeData(settings)))]);

export const encodeMove = (index: number, to: Netns, name: string | undefined): Buffer =>
  Buffer.concat([header(index), ...namespace(to), ...optional(name, (value) => text(IFLA.IFNAME, value))]);

export const encodeDelete = (index: number): Buffer => header(index);
/** All links of a group: the kernel waits once for all of them, not once for each. */
export const encodeDeleteGroup = (group: number): Buffer => Buffer.concat([header(0), u32(IFLA.GROUP, group)]);

/** For RTM_SETLINK: the flags of a bridge port are AF_BRIDGE's, and ignored in a plain message. */
export const encodeBridgePort = (index: number, { learning, neighSuppress, hairpin, isolated, flood, multicastFlood, broadcastFlood, locked }: BridgePort): Buffer => Buffer.concat([
  header(index, undefined, AF_BRIDGE),
  nested(
    IFLA.PROTINFO,
    ...optional(learning, (value) => flag(PORT.LEARNING, value)),
    ...optional(neighSuppress, (value) => flag(PORT.NEIGH_SUPPRESS, value)),
    ...optional(hairpin, (value) => flag(PORT.HAIRPIN, value)),
    ...optional(isolated, (value) => flag(PORT.ISOLATED, value)),
    ...optional(flood, (value) => flag(PORT.UNICAST_FLOOD, value)),
    ...optional(multicastFlood, (value) => flag(PORT.MCAST_FLOOD, value)),
    ...optional(broadcastFlood, (value) => flag(PORT.BCAST_FLOOD, value)),
    ...optional(locked, (value) => flag(PORT.LOCKED, value)),
  ),
]);
