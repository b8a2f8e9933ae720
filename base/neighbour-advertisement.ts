/** The one message of IPv6 neighbour discovery that we send: an address's owner tells where it is (RFC 4861 §7.2.6). */
import { IP_PROTOCOL } from './ip-protocols.ts';
import { ipToBytes, macToBytes } from './ip.ts';

export const ETHERTYPE_IPV6 = 0x86dd;
const NEIGHBOUR_ADVERTISEMENT = 136;
/** What the receiver has is replaced (RFC 4861 §4.4). */
const OVERRIDE = 0x20;
const TARGET_LINK_ADDRESS = 2;
const ALL_NODES = 'ff02::1';
const ALL_NODES_MAC = '33:33:00:00:00:01';

/** Unsolicited, to all nodes of the link: the Ethernet frame. */
export function unsolicitedAdvertisement(mac: string, ip: string): Buffer {
  const [hardware, source, destination] = [macToBytes(mac), ipToBytes(ip), ipToBytes(ALL_NODES)];
  const message = Buffer.concat([Buffer.of(NEIGHBOUR_ADVERTISEMENT, 0, 0, 0, OVERRIDE, 0, 0, 0), source, Buffer.of(TARGET_LINK_ADDRESS, 1), hardware]);
  const header = Buffer.alloc(8);
  header.writeUInt8(0x60, 0);
  header.writeUInt16BE(message.length, 4);
  header.writeUInt8(IP_PROTOCOL.icmpv6, 6);
  // Receivers believe no greater distance than their own link (RFC 4861 §7.1.2).
  header.writeUInt8(255, 7);
  message.writeUInt16BE(checksum(Buffer.concat([source, destination, Buffer.of(0, 0, 0, message.length, 0, 0, 0, IP_PROTOCOL.icmpv6), message])), 2);
  return Buffer.concat([macToBytes(ALL_NODES_MAC), hardware, Buffer.of(ETHERTYPE_IPV6 >> 8, ETHERTYPE_IPV6 & 0xff), header, source, destination, message]);
}

/** Of an even number of bytes (RFC 1071), the pseudo-header among them (RFC 8200 §8.1). */
function checksum(bytes: Buffer): number {
  let sum = 0;
  for (let at = 0; at < bytes.length; at += 2) sum += bytes.readUInt16BE(at);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return ~sum & 0xffff;
}
