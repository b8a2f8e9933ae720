/** ARP for IPv4 over Ethernet (RFC 826), as address conflict detection uses it (RFC 5227). */
import { bytesToIp, bytesToMac, ipToBytes, macToBytes } from './ip.ts';

export const ETHERTYPE_ARP = 0x0806;
const BROADCAST = 'ff:ff:ff:ff:ff:ff';
const NOBODY = '0.0.0.0';
const REQUEST = 1;
/** Hardware type Ethernet, protocol type IPv4, and the lengths of their addresses. */
const ETHERNET_IPV4 = Buffer.from('000108000604', 'hex');
const ETHERNET_HEADER = 14;
const PACKET = 28;

export interface Arp { senderMac: string; senderIp: string; targetIp: string }

function request({ senderMac, senderIp, targetIp }: Arp): Buffer {
  return Buffer.concat([
    macToBytes(BROADCAST), macToBytes(senderMac), Buffer.of(ETHERTYPE_ARP >> 8, ETHERTYPE_ARP & 0xff),
    ETHERNET_IPV4, Buffer.of(0, REQUEST), macToBytes(senderMac), ipToBytes(senderIp), Buffer.alloc(6), ipToBytes(targetIp),
  ]);
}

/** "Who has this address?", of somebody who has none yet and leaves no trace in anybody's cache (RFC 5227 §2.1.1). */
export const arpProbe = (mac: string, ip: string): Buffer => request({ senderMac: mac, senderIp: NOBODY, targetIp: ip });

/** "It is mine": caches that had it elsewhere are corrected (RFC 5227 §2.3). */
export const arpAnnouncement = (mac: string, ip: string): Buffer => request({ senderMac: mac, senderIp: ip, targetIp: ip });

/** A request or an answer, both of which tell of their sender. undefined for what is neither, or not IPv4 over Ethernet. */
export function parseArp(frame: Buffer): Arp | undefined {
  const packet = frame.subarray(ETHERNET_HEADER, ETHERNET_HEADER + PACKET);
  if (packet.length < PACKET || !packet.subarray(0, ETHERNET_IPV4.length).equals(ETHERNET_IPV4)) return undefined;
  return { senderMac: bytesToMac(packet.subarray(8, 14)), senderIp: bytesToIp(packet.subarray(14, 18)), targetIp: bytesToIp(packet.subarray(24, 28)) };
}

/**
 * Who else has the address, or is about to take it, by one packet: it has it as its own, or probes for it
 * (RFC 5227 §2.1.1). `own` is the MAC that we send from.
 */
export function rivalFor(ip: string, own: string, { senderMac, senderIp, targetIp }: Arp): string | undefined {
  if (senderMac === own) return undefined;
  return senderIp === ip || (senderIp === NOBODY && targetIp === ip) ? senderMac : undefined;
}
