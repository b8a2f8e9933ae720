/**
 * Holds an endpoint to its addresses: an eBPF program at its bridge port lets in what has the endpoint's MAC and IP address as its source, and
 * what says so in ARP and neighbour discovery, and nothing else. It is written for one endpoint, with the addresses as numbers in it: a few
 * comparisons for each packet, and no look-up. The kernel keeps it when weftd ends.
 */
import { createHash } from 'node:crypto';
import { ipToBytes, macToBytes, withoutLength } from '../base/ip.ts';
import type { Endpoint } from '../cnm/model.ts';
import { BpfAssembler } from '../linux/bpf-assembler.ts';
import { CONTEXT, ETHERTYPE, HELPER, PROTOCOL, VERDICT } from '../linux/bpf-packet.ts';
import type { IngressProgram } from '../linux/types.ts';

/** RFC 894, RFC 791 §3.1; RFC 826; RFC 8200 §3; RFC 4861 §4.4: offsets from the frame's start, bytes. */
const ETHERNET = { source: 6, header: 14 } as const;
const IPV4 = { source: 26, end: 34 } as const;
const ARP = { senderMac: 22, senderIp: 28, end: 42 } as const;
const IPV6 = { next: 20, hopLimit: 21, source: 22, destination: 38, end: 54 } as const;
const ICMPV6 = { type: 54, target: 62, end: 78 } as const;
const ROUTER_ADVERTISEMENT = 134;
const NEIGHBOUR_ADVERTISEMENT = 136;
const REDIRECT = 137;
const MULTICAST = 0xff;
/** Neighbour discovery is believed with this hop limit only: nobody has forwarded it (RFC 4861 §7.1). */
const NOT_FORWARDED = 255;

const PULLED = 6;
const DATA = 7;
const END = 8;
const SKB = 9;

/** Without any address: a family that it has none of is kept out. `anyIp`: it may have every address, and speak whatever it likes. */
export interface Source { mac: string; ip?: string; ip6?: string; anyIp?: boolean }

/** What becomes of a frame that is let in, where not the bridge is to have it. */
export interface Onward {
  /** Programs that differ have to have different ones. */
  readonly name: string;
  /** The end of a program. The registers hold the context, and the packet's address and end. */
  write(program: BpfAssembler, registers: Registers): void;
}
export interface Registers { skb: number; data: number; end: number }

/**
 * The same program, by the same name, for the same addresses; it is written when it is asked for, and named at once. Names that differ
 * after a slash alone are of guards with another way onward.
 */
export const sourceGuard = (source: Source, onward?: Onward): IngressProgram => ({
  name: `weft-${digest(Buffer.from(version() + JSON.stringify([source.mac, source.ip, source.ip6, source.anyIp ?? false])))}${onward ? `/${onward.name}` : ''}`,
  get instructions() { return write(source, onward); },
});

const digest = (data: Buffer): string => createHash('sha256').update(data).digest('hex').slice(0, 12);

/** Of the way in which programs are written: those of an earlier one have other names. */
const version = (): string => (known ??= digest(Buffer.concat([write(SAMPLE), write({ ...SAMPLE, anyIp: true })])));
const SAMPLE: Source = { mac: '02:00:00:00:00:01', ip: '192.0.2.1', ip6: '2001:db8::1' };
let known: string | undefined;

function write({ mac, ip, ip6, anyIp = false }: Source, onward?: Onward): Buffer {
  const program = new BpfAssembler();
  program.move(SKB, 1).set(PULLED, 0).label('start').load(DATA, SKB, CONTEXT.data, 4).load(END, SKB, CONTEXT.dataEnd, 4);
  require(program, anyIp ? ETHERNET.header : IPV4.end);
  if (anyIp) {
    same(program, ETHERNET.source, macToBytes(mac), 'drop');
    return finish(program.jump('pass').label('drop').return(VERDICT.drop), onward);
  }
  // What is in a frame with a VLAN's tag cannot be seen from here without looking for it.
  program.load(2, SKB, CONTEXT.vlanPresent, 4).ifNot(2, 0, 'drop');
  same(program, ETHERNET.source, macToBytes(mac), 'drop');
  program.load(2, SKB, CONTEXT.protocol, 4);
  if (ip !== undefined) program.ifEqual(2, ETHERTYPE.ipv4, 'ipv4').ifEqual(2, ETHERTYPE.arp, 'arp');
  if (ip6 !== undefined) program.ifEqual(2, ETHERTYPE.ipv6, 'ipv6');
  program.label('drop').return(VERDICT.drop);
  if (ip !== undefined) ofIpv4(program, macToBytes(mac), ipToBytes(ip));
  if (ip6 !== undefined) ofIpv6(program, ipToBytes(ip6), linkLocal(macToBytes(mac)));
  return finish(program, onward);
}

export const sourceOf = ({ mac, address, addressIpv6 }: Endpoint): Source => ({
  mac, ...(address !== undefined && { ip: withoutLength(address) }), ...(addressIpv6 !== undefined && { ip6: withoutLength(addressIpv6) }),
});

function finish(program: BpfAssembler, onward: Onward | undefined): Buffer {
  program.label('pass');
  if (onward) onward.write(program, { skb: SKB, data: DATA, end: END });
  else program.return(VERDICT.next);
  pull(program);
  return program.assemble();
}

/** Every access has to be shown to lie within the packet. */
const require = (program: BpfAssembler, bytes: number): BpfAssembler => program.move(2, DATA).add(2, bytes).ifMore(2, END, 'pull');

/** Goes on where the bytes at the offset are these, to `otherwise` where not. */
function same(program: BpfAssembler, offset: number, bytes: Uint8Array, otherwise: string): void {
  const view = Buffer.from(bytes);
  for (let at = 0; at < view.length;) {
    const size = view.length - at >= 4 ? 4 : 2;
    program.load(2, DATA, offset + at, size).ifNot(2, size === 4 ? view.readInt32LE(at) : view.readUInt16LE(at), otherwise);
    at += size;
  }
}

/** An ARP probe has no sender's address yet (RFC 5227 §2.1.1). */
function ofIpv4(program: BpfAssembler, mac: Uint8Array, ip: Uint8Array): void {
  program.label('ipv4');
  same(program, IPV4.source, ip, 'drop');
  program.jump('pass').label('arp');
  require(program, ARP.end);
  same(program, ARP.senderMac, mac, 'drop');
  program.load(2, DATA, ARP.senderIp, 4).ifEqual(2, 0, 'pass');
  same(program, ARP.senderIp, ip, 'drop');
  program.jump('pass');
}

/**
 * Its own address, the link-local one that follows from its MAC (RFC 4291 appendix A), or none, towards multicast addresses (RFC 4862 §5.4.2,
 * RFC 3810 §5.2.13). With one's own address one may still advertise a foreign one, or oneself as a router, which is for nobody here but the gateway. Such
 * a message might hide behind extension headers (RFC 7113), so what has some and was not forwarded goes, too; reports of multicast listeners have another hop limit.
 */
function ofIpv6(program: BpfAssembler, ip: Uint8Array, local: Uint8Array): void {
  program.label('ipv6');
  require(program, IPV6.end);
  same(program, IPV6.source, ip, 'link-local');
  program.jump('discovery').label('link-local');
  same(program, IPV6.source, local, 'unspecified');
  program.jump('discovery').label('unspecified');
  same(program, IPV6.source, new Uint8Array(16), 'drop');
  program.load(2, DATA, IPV6.destination, 1).ifNot(2, MULTICAST, 'drop');

  program.label('discovery').load(2, DATA, IPV6.hopLimit, 1).ifNot(2, NOT_FORWARDED, 'pass');
  program.load(2, DATA, IPV6.next, 1).ifEqual(2, PROTOCOL.tcp, 'pass').ifEqual(2, PROTOCOL.udp, 'pass').ifNot(2, PROTOCOL.icmpv6, 'drop');
  require(program, ICMPV6.type + 1);
  program.load(2, DATA, ICMPV6.type, 1).ifEqual(2, ROUTER_ADVERTISEMENT, 'drop').ifEqual(2, REDIRECT, 'drop').ifNot(2, NEIGHBOUR_ADVERTISEMENT, 'pass');
  require(program, ICMPV6.end);
  same(program, ICMPV6.target, ip, 'other target');
  program.jump('pass').label('other target');
  same(program, ICMPV6.target, local, 'drop');
  program.jump('pass');
}

/** A sender may spread a packet's headers over pages: they are gathered once, and the packet looked at again. */
function pull(program: BpfAssembler): void {
  program.label('pull').ifNot(PULLED, 0, 'drop').set(PULLED, 1)
    .load(2, SKB, CONTEXT.length, 4).ifMoreThan(2, ICMPV6.end, 'long').jump('gather')
    .label('long').set(2, ICMPV6.end)
    .label('gather').move(1, SKB).call(HELPER.pullData).jump('start');
}

/** fe80::/64 with the MAC as interface identifier: what a kernel gives a link. */
function linkLocal(mac: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(16);
  bytes.set([0xfe, 0x80]);
  bytes.set([mac[0]! ^ 2, mac[1]!, mac[2]!, 0xff, 0xfe, mac[3]!, mac[4]!, mac[5]!], 8);
  return bytes;
}
