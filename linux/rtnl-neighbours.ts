/** Neighbours (ARP, ND) and forwarding entries (FDB): both are RTM_NEWNEIGH (linux/neighbour.h, bridge(8)). */
import { bytesToIp, bytesToMac, ipToBytes, macToBytes } from '../base/ip.ts';
import { attribute, parseAttributes, u32 } from './attributes.ts';
import { AF_BRIDGE, AF_INET, AF_INET6, AF_UNSPEC } from './rtnl-links.ts';
import type { FdbEntry, Neighbour } from './types.ts';

export const RTM_NEWNEIGH = 28;
export const RTM_DELNEIGH = 29;
export const RTM_GETNEIGH = 30;

const HEADER = 12;
const NDA = { DST: 1, LLADDR: 2, IFINDEX: 8 } as const;
const NUD_REACHABLE = 0x02;
const NUD_NOARP = 0x40;
const NUD_PERMANENT = 0x80;
const NTF_SELF = 0x02;
const NTF_MASTER = 0x04;

/** struct ndmsg */
function header(family: number, index: number, state: number, flags: number): Buffer {
  const bytes = Buffer.alloc(HEADER);
  bytes.writeUInt8(family, 0);
  bytes.writeInt32LE(index, 4);
  bytes.writeUInt16LE(state, 8);
  bytes.writeUInt8(flags, 10);
  return bytes;
}

/** The table of one link; a strictly checking socket wants the link as an attribute. */
const query = (family: number, index: number): Buffer => Buffer.concat([header(family, 0, 0, 0), u32(NDA.IFINDEX, index)]);

export const neighbourQuery = (index: number): Buffer => query(AF_UNSPEC, index);
export const fdbQuery = (index: number): Buffer => query(AF_BRIDGE, index);

export function encodeNeighbour({ dev, ip, mac }: Neighbour): Buffer {
  const address = ipToBytes(ip);
  return Buffer.concat([
    header(address.length === 4 ? AF_INET : AF_INET6, dev, NUD_PERMANENT, 0), attribute(NDA.DST, address), attribute(NDA.LLADDR, macToBytes(mac)),
  ]);
}

/** undefined for what the kernel found out itself: only permanent entries are somebody's. */
export function decodeNeighbour(body: Buffer): Neighbour | undefined {
  const attributes = parseAttributes(body.subarray(HEADER));
  const ip = attributes.get(NDA.DST);
  const mac = attributes.get(NDA.LLADDR);
  if (!(body.readUInt16LE(8) & NUD_PERMANENT) || !ip || !mac) return undefined;
  return { dev: body.readInt32LE(4), ip: bytesToIp(ip), mac: bytesToMac(mac) };
}

/**
 * Static (reachable, no ARP), not permanent: in a bridge a permanent entry is one of its own addresses, and its frames
 * are swallowed. One message fills the device's table and, with `master`, its bridge's.
 */
export const encodeFdb = (entry: FdbEntry): Buffer => encodeEntry(entry, NTF_SELF | (entry.master ? NTF_MASTER : 0));

/** For deletion: one table a message, because the kernel leaves the second alone where the first lacks the entry. */
export const encodeFdbOfDevice = (entry: FdbEntry): Buffer => encodeEntry(entry, NTF_SELF);
export const encodeFdbOfBridge = (entry: FdbEntry): Buffer => encodeEntry(entry, NTF_MASTER);

const encodeEntry = ({ dev, mac, vtep }: FdbEntry, flags: number): Buffer =>
  Buffer.concat([header(AF_BRIDGE, dev, NUD_REACHABLE | NUD_NOARP, flags), attribute(NDA.LLADDR, macToBytes(mac)), attribute(NDA.DST, ipToBytes(vtep))]);

/** A bridge's entry for an address behind one of its ports. */
export const encodePortMac = (port: number, mac: string): Buffer =>
  Buffer.concat([header(AF_BRIDGE, port, NUD_REACHABLE | NUD_NOARP, NTF_MASTER), attribute(NDA.LLADDR, macToBytes(mac))]);

/** The static ones of a port's dump: permanent ones are the port's own address, others were learnt. */
export function decodePortMac(body: Buffer): string | undefined {
  const attributes = parseAttributes(body.subarray(HEADER));
  const mac = attributes.get(NDA.LLADDR);
  const state = body.readUInt16LE(8);
  return mac && state & NUD_NOARP && !(state & NUD_PERMANENT) && !attributes.has(NDA.DST) ? bytesToMac(mac) : undefined;
}

/** Whether the device has an entry for the address, whatever it says. */
export const fdbQuestion = ({ dev, mac }: FdbEntry): Buffer => Buffer.concat([header(AF_BRIDGE, dev, 0, NTF_SELF), attribute(NDA.LLADDR, macToBytes(mac))]);

/** One device's dump, body by body: it holds the device's own entries and those of its bridge that point to it, in any order. */
export class FdbDump {
  readonly #entries: FdbEntry[] = [];
  readonly #inBridge = new Set<string>();

  add(body: Buffer): void {
    const attributes = parseAttributes(body.subarray(HEADER));
    const mac = bytesToMac(attributes.get(NDA.LLADDR) ?? Buffer.alloc(0));
    const vtep = attributes.get(NDA.DST);
    if (vtep) this.#entries.push({ dev: body.readInt32LE(4), mac, vtep: bytesToIp(vtep), master: false });
    else if (body.readUInt16LE(8) & NUD_NOARP) this.#inBridge.add(mac);
  }

  /** When all has been added. There may be thousands, to be looked at a few in a turn. */
  * entries(): Generator<FdbEntry> {
    for (const entry of this.#entries) {
      entry.master = this.#inBridge.has(entry.mac);
      yield entry;
    }
  }
}
