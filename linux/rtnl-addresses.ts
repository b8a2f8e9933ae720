/** Addresses of links: encoded and decoded (rtnetlink(7), linux/if_addr.h). */
import { bytesToIp, ipToBytes } from '../base/ip.ts';
import { attribute, optional, parseAttributes, u32 } from './attributes.ts';
import { AF_INET, AF_INET6 } from './rtnl-links.ts';
import type { Address } from './types.ts';

export const RTM_NEWADDR = 20;
export const RTM_DELADDR = 21;
export const RTM_GETADDR = 22;

const HEADER = 8;
const IFA = { ADDRESS: 1, LOCAL: 2, FLAGS: 8, PROTO: 11 } as const;
const IFA_F_NODAD = 2;

/** struct ifaddrmsg */
function header(family: number, length: number, index: number): Buffer {
  const bytes = Buffer.alloc(HEADER);
  bytes.set([family, length]);
  bytes.writeUInt32LE(index, 4);
  return bytes;
}

/** One link's addresses, or all. */
export const addressQuery = (index = 0): Buffer => header(0, 0, index);

/** `address` is 'ip/length'. IPv6 is usable at once: whoever hands out addresses has made sure that there is no duplicate. */
export function encodeAddress(index: number, address: string, protocol?: number): Buffer {
  const [ip = '', length] = address.split('/');
  const bytes = ipToBytes(ip);
  const v4 = bytes.length === 4;
  return Buffer.concat([
    header(v4 ? AF_INET : AF_INET6, length === undefined ? bytes.length * 8 : Number(length), index),
    attribute(IFA.LOCAL, bytes), attribute(IFA.ADDRESS, bytes),
    ...(v4 ? [] : [u32(IFA.FLAGS, IFA_F_NODAD)]),
    ...optional(protocol, (value) => attribute(IFA.PROTO, Buffer.from([value]))),
  ]);
}

export function decodeAddress(body: Buffer): Address[] {
  const attributes = parseAttributes(body.subarray(HEADER));
  const ip = attributes.get(IFA.LOCAL) ?? attributes.get(IFA.ADDRESS);
  return ip ? [{ index: body.readUInt32LE(4), address: `${bytesToIp(ip)}/${body.readUInt8(1)}`, scope: body.readUInt8(3), protocol: attributes.get(IFA.PROTO)?.readUInt8() ?? 0 }] : [];
}
