/**
 * Tells an endpoint's neighbours, in its own name, which MAC address its addresses have now: whoever remembers that of a
 * former holder would send into the void until he asks again. Frames go out by the sandbox's own interface, as its kernel would send them.
 */
import { ipToBytes, macToBytes, withoutLength } from '../base/ip.ts';
import { openNetns, isNetns } from '../linux/netns.ts';
import { openPacketSocket } from '../linux/packet-socket.ts';
import { openRtnl } from '../linux/rtnl.ts';
import type { Endpoint } from './model.ts';

const ARP = 0x0806;
const IPV6 = 0x86dd;
const ICMPV6 = 58;
const NEIGHBOUR_ADVERTISEMENT = 136;
/** What the receiver has is replaced (RFC 4861 §4.4). */
const OVERRIDE = 0x20;
const TARGET_LINK_ADDRESS = 2;
const ALL_NODES = 'ff02::1';

/** Nothing where the sandbox or the interface is not there. Throws KernelError. */
export function announce({ sandbox, mac, address, addressIpv6 }: Endpoint): void {
  if (sandbox === undefined || !isNetns(sandbox)) return;
  const netns = openNetns(sandbox);
  try {
    const rtnl = openRtnl(netns);
    const device = rtnl.links().find((link) => link.mac === mac)?.index;
    rtnl.close();
    if (device === undefined) return;
    const frames = [
      ...(address === undefined ? [] : [{ type: ARP, frame: arpAnnouncement(mac, withoutLength(address)) }]),
      ...(addressIpv6 === undefined ? [] : [{ type: IPV6, frame: unsolicitedAdvertisement(mac, withoutLength(addressIpv6)) }]),
    ];
    for (const { type, frame } of frames) {
      const socket = openPacketSocket(netns, device, type);
      try {
        socket.send(frame);
      } finally {
        socket.close();
      }
    }
  } finally {
    netns.close();
  }
}

function ethernet(destination: string, source: Uint8Array, type: number): Buffer {
  const header = Buffer.alloc(14);
  header.set(macToBytes(destination));
  header.set(source, 6);
  header.writeUInt16BE(type, 12);
  return header;
}

/** A request for its own address (RFC 5227 §1.1). */
function arpAnnouncement(mac: string, ip: string): Buffer {
  const [hardware, protocol] = [macToBytes(mac), ipToBytes(ip)];
  // Ethernet (1), IPv4, lengths of their addresses, request (1); RFC 826.
  const fixed = Buffer.from([0, 1, 8, 0, 6, 4, 0, 1]);
  return Buffer.concat([ethernet('ff:ff:ff:ff:ff:ff', hardware, ARP), fixed, hardware, protocol, new Uint8Array(6), protocol]);
}

/** RFC 4861 §7.2.6. */
function unsolicitedAdvertisement(mac: string, ip: string): Buffer {
  const [hardware, source, destination] = [macToBytes(mac), ipToBytes(ip), ipToBytes(ALL_NODES)];
  const message = Buffer.concat([Buffer.from([NEIGHBOUR_ADVERTISEMENT, 0, 0, 0, OVERRIDE, 0, 0, 0]), source, Buffer.from([TARGET_LINK_ADDRESS, 1]), hardware]);
  const header = Buffer.alloc(8);
  header.writeUInt8(0x60, 0);
  header.writeUInt16BE(message.length, 4);
  header.writeUInt8(ICMPV6, 6);
  // Receivers believe no greater distance than their own link (RFC 4861 §7.1.2).
  header.writeUInt8(255, 7);
  message.writeUInt16BE(checksum(Buffer.concat([source, destination, Buffer.from([0, 0, 0, message.length, 0, 0, 0, ICMPV6]), message])), 2);
  return Buffer.concat([ethernet('33:33:00:00:00:01', hardware, IPV6), header, source, destination, message]);
}

/** Of an even number of bytes (RFC 1071), the pseudo-header among them (RFC 8200 §8.1). */
function checksum(bytes: Buffer): number {
  let sum = 0;
  for (let at = 0; at < bytes.length; at += 2) sum += bytes.readUInt16BE(at);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return ~sum & 0xffff;
}
