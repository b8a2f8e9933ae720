/** Neighbours (ARP, ND) and forwarding entries (FDB): both are RTM_NEWNEIGH (linux/neighbour.h, bridge(8)). */
import { bytesToIp, bytesToMac, ipToBytes, macToBytes } from '../base/ip.ts';
import { attribute, parseAttributes, readU32, u32 } from './attributes.ts';
import { AF_BRIDGE } from './rtnl-links.ts';
import type { FdbEntry, Neighbour } from './types.ts';

export const RTM_NEWNEIGH = 28;
export const RTM_DELNEIGH = 29;
export const RTM_GETNEIGH = 30;

const AF_INET = 2;
const AF_INET6 = 10;
const NDA = { DST: 1, LLADDR: 2, IFINDEX: 8, MASTER: 9 } as const;
const NUD_REACHABLE = 0x02;
const NUD_NOARP = 0x40;
const NUD_PERMANENT = 0x80;
const NTF_SELF = 0x02;
const NTF_MASTER = 0x04;

/** struct ndmsg */
function header(family: number, index: number, state: number, flags: number): Buffer {
  const bytes = Buffer.alloc(12);
  bytes.writeUInt8(family, 0);
  bytes.writeInt32LE(index, 4);
  bytes.writeUInt16LE(state, 8);
  bytes.writeUInt8(flags, 10);
  return bytes;
}

export function encodeNeighbour({ dev, ip, mac }: Neighbour): Buffer {
  const address = ipToBytes(ip);
  return Buffer.concat([
    header(address.length === 4 ? AF_INET : AF_INET6, dev, NUD_PERMANENT, 0), attribute(NDA.DST, address), attribute(NDA.LLADDR, macToBytes(mac)),
  ]);
}

/** Only the permanent ones: the others are the kernel's own findings. */
export function decodeNeighbour(body: Buffer): Neighbour | undefined {
  const attributes = parseAttributes(body.subarray(12));
  const ip = attributes.get(NDA.DST);
  const mac = attributes.get(NDA.LLADDR);
  if (!(body.readUInt16LE(8) & NUD_PERMANENT) || !ip || !mac) return undefined;
  return { dev: body.readInt32LE(4), ip: bytesToIp(ip), mac: bytesToMac(mac) };
}

/**
 * Static (reachable, no ARP), not permanent: in a bridge a permanent entry is one of its own addresses, and its frames
 * are swallowed. One message fills the device's table and, with `master`, its bridge's.
 */
export function encodeFdb({ dev, mac, vtep, master }: FdbEntry): Buffer {
  return Buffer.concat([
    header(AF_BRIDGE, dev, NUD_REACHABLE | NUD_NOARP, NTF_SELF | (master ? NTF_MASTER : 0)),
    attribute(NDA.LLADDR, macToBytes(mac)), attribute(NDA.DST, ipToBytes(vtep)),
  ]);
}

/** The socket checks strictly: the device goes into an attribute. */
export const fdbQuery = (index: number): Buffer => Buffer.concat([header(AF_BRIDGE, 0, 0, 0), u32(NDA.IFINDEX, index)]);

export const neighboursHeader = (): Buffer => header(0, 0, 0, 0);

export interface RawFdb { dev: number; mac: string; vtep: string | undefined; master: number | undefined; static: boolean }

export function decodeFdb(body: Buffer): RawFdb | undefined {
  const attributes = parseAttributes(body.subarray(12));
  const mac = attributes.get(NDA.LLADDR);
  if (!mac) return undefined;
  const vtep = attributes.get(NDA.DST);
  return {
    dev: body.readInt32LE(4), mac: bytesToMac(mac), vtep: vtep && bytesToIp(vtep), master: readU32(attributes.get(NDA.MASTER)),
    static: (body.readUInt16LE(8) & NUD_NOARP) !== 0,
  };
}
