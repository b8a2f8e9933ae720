/** IPv6 neighbour discovery (RFC 4861) over Ethernet, as an address's owner tells where it is, and as duplicates of it are looked for (RFC 4862 §5.4). */
import { IP_PROTOCOL } from './ip-protocols.ts';
import { bytesToIp, bytesToMac, ipToBytes, macToBytes } from './ip.ts';

export const ETHERTYPE_IPV6 = 0x86dd;
const NEIGHBOUR_SOLICITATION = 135;
const NEIGHBOUR_ADVERTISEMENT = 136;
/** What the receiver has is replaced (RFC 4861 §4.4). */
const OVERRIDE = 0x20;
const TARGET_LINK_ADDRESS = 2;
const NOBODY = '::';
const ALL_NODES = 'ff02::1';
/** Receivers believe no greater distance than their own link (RFC 4861 §7.1.1, §7.1.2). */
const HOP_LIMIT = 255;
const ETHERNET_HEADER = 14;
const IPV6_HEADER = 40;
/** Type, code, checksum, flags; then the target. */
const MESSAGE_HEADER = 8;
const ADDRESS = 16;

/** The Ethernet address of an IPv6 group (RFC 2464 §7). */
const groupMac = (group: Uint8Array): Buffer => Buffer.concat([Buffer.of(0x33, 0x33), group.subarray(12)]);

/** The group that who has the address listens to (RFC 4291 §2.7.1). */
const solicitedNode = (ip: string): Buffer => Buffer.concat([ipToBytes('ff02::1:ff00:0').subarray(0, 13), ipToBytes(ip).subarray(13)]);

/** Unsolicited, to all nodes of the link: the Ethernet frame. */
export function unsolicitedAdvertisement(mac: string, ip: string): Buffer {
  const hardware = macToBytes(mac);
  return frame(hardware, ipToBytes(ip), ipToBytes(ALL_NODES), Buffer.concat([Buffer.of(NEIGHBOUR_ADVERTISEMENT, 0, 0, 0, OVERRIDE, 0, 0, 0), ipToBytes(ip), Buffer.of(TARGET_LINK_ADDRESS, 1), hardware]));
}

/** "Has anybody this address?", of somebody who has none yet (RFC 4862 §5.4.2): the Ethernet frame. */
export const duplicateProbe = (mac: string, ip: string): Buffer =>
  frame(macToBytes(mac), ipToBytes(NOBODY), solicitedNode(ip), Buffer.concat([Buffer.of(NEIGHBOUR_SOLICITATION, 0, 0, 0, 0, 0, 0, 0), ipToBytes(ip)]));

/** The groups by which answers to such a probe, and rivals' own probes, come: Ethernet addresses. */
export const probeGroups = (ip: string): string[] => [ipToBytes(ALL_NODES), solicitedNode(ip)].map((group) => bytesToMac(groupMac(group)));

/**
 * Who else has the address, or is about to take it, by one frame: he advertises it as his, or probes for it
 * (RFC 4862 §5.4.3, §5.4.4). `own` is the MAC that we send from.
 */
export function ipv6RivalFor(ip: string, own: string, received: Buffer): string | undefined {
  const sender = bytesToMac(received.subarray(6, 12));
  const packet = received.subarray(ETHERNET_HEADER);
  const message = packet.subarray(IPV6_HEADER);
  const isForUs = sender !== own && packet[6] === IP_PROTOCOL.icmpv6 && packet[7] === HOP_LIMIT && message.length >= MESSAGE_HEADER + ADDRESS;
  if (!isForUs || !message.subarray(MESSAGE_HEADER, MESSAGE_HEADER + ADDRESS).equals(ipToBytes(ip))) return undefined;
  const isProbe = message[0] === NEIGHBOUR_SOLICITATION && bytesToIp(packet.subarray(8, 24)) === NOBODY;
  return message[0] === NEIGHBOUR_ADVERTISEMENT || isProbe ? sender : undefined;
}

function frame(mac: Uint8Array, source: Uint8Array, group: Uint8Array, message: Buffer): Buffer {
  const header = Buffer.alloc(8);
  header.writeUInt8(0x60, 0);
  header.writeUInt16BE(message.length, 4);
  header.writeUInt8(IP_PROTOCOL.icmpv6, 6);
  header.writeUInt8(HOP_LIMIT, 7);
  message.writeUInt16BE(checksum(Buffer.concat([source, group, Buffer.of(0, 0, 0, message.length, 0, 0, 0, IP_PROTOCOL.icmpv6), message])), 2);
  return Buffer.concat([groupMac(group), mac, Buffer.of(ETHERTYPE_IPV6 >> 8, ETHERTYPE_IPV6 & 0xff), header, source, group, message]);
}

/** Of an even number of bytes (RFC 1071), the pseudo-header among them (RFC 8200 §8.1). */
function checksum(bytes: Buffer): number {
  let sum = 0;
  for (let at = 0; at < bytes.length; at += 2) sum += bytes.readUInt16BE(at);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return ~sum & 0xffff;
}
