/**
 * VXLAN's headers written by the program of the port that a frame came in by, instead of by the tunnel: the packet goes over the uplink in the same
 * moment, marked, and a program at the host's end sends it. On the wire both look the same. To the tunnel goes what is for an address that is not known to
 * be behind a node, what is neither IPv4 nor IPv6, what has met congestion (RFC 6040 §4.1), and what would have to be cut.
 */
import { ipToBytes } from '../../base/ip.ts';
import { BpfAssembler } from '../../linux/bpf-assembler.ts';
import { CONTEXT, ETHERTYPE, HELPER, PROTOCOL, STACK, VERDICT } from '../../linux/bpf-packet.ts';
import type { BpfTable } from '../../linux/bpf-table.ts';
import type { IngressProgram } from '../../linux/types.ts';
import { DESTINATION, TO_TUNNEL } from '../shortcuts.ts';
import type { Onward, Registers } from '../source-guard.ts';
import { VXLAN_OVERHEAD } from './addressing.ts';
import { ECN, ETHERNET_BYTES, FRAME, IP_START, OUTER, REGISTERS, VNI_VALID, copyHeader, named, portNumber } from './vxlan-packet.ts';

/** Of packets on their way over the uplink. Nothing that comes in otherwise has a mark: on its way from one namespace to another a packet loses it. */
const MARK = 1;
const IP_BYTES = 20;
const UDP_VXLAN_BYTES = 16;
/** The least that goes before a TCP segment's data. */
const TCP_IP_BYTES = 40;
/** An IPv6 header's traffic class begins in the middle of a byte. */
const CLASS_SHIFT = 4;
/** BPF_F_ADJ_ROOM_…: FIXED_GSO (segments stay as long as they are), ENCAP_L3_IPV4, ENCAP_L4_UDP, ENCAP_L2_ETH, and the length of the frame's own header from bit 56 on. */
const ROOM = 0x01n | 0x02n | 0x10n | 0x40n | (BigInt(ETHERNET_BYTES) << 56n);
/** BPF_ADJ_ROOM_MAC: behind the first Ethernet header. */
const ROOM_MAC = 1;
const HOPS = 64;
/** Source ports are 49152 to 65535 (RFC 7348 §5): the highest two bits of the first byte. */
const PORT_BITS = 0xc0;
const LONGEST = 0xffff;
/** Places on the stack, below the destination's key. */
const AT = { header: -32, ecn: -36, length: -40, sourcePort: -44, id: -48 } as const;
/** The register that keeps the destination's VTEP. */
const VTEP = 6;

export interface Encapsulation {
  /** The table of addresses on other nodes: a VTEP each, IPv4. */
  remotes: Pick<BpfTable, 'fd' | 'id'>;
  /** This node's VTEP. */
  local: string;
  port: number;
  /** Index of the fabric's end of the uplink. */
  uplink: number;
  /** Of the network. */
  mtu: number;
}

/** For frames of the network with this number. */
export const encapsulation = (options: Encapsulation, network: number): Onward => ({
  name: JSON.stringify({ ...options, remotes: options.remotes.id }),
  write: (program, registers) => write(program, registers, options, network),
});

function write(program: BpfAssembler, { skb, data, end }: Registers, { remotes, local, port, uplink, mtu }: Encapsulation, network: number): void {
  program.loadTable(1, remotes.fd).move(2, STACK).add(2, DESTINATION).call(HELPER.mapLookup).ifNull(0, TO_TUNNEL).load(VTEP, 0, 0, 4)
    .load(2, skb, CONTEXT.vlanPresent, 4).ifNot(2, 0, TO_TUNNEL)
    .move(2, data).add(2, ETHERNET_BYTES + IP_BYTES).ifMore(2, end, TO_TUNNEL)
    .load(3, data, FRAME.tos, 1)
    .load(2, skb, CONTEXT.protocol, 4).ifEqual(2, ETHERTYPE.ipv4, 'ip').ifNot(2, ETHERTYPE.ipv6, TO_TUNNEL).shiftRight(3, CLASS_SHIFT)
    .label('ip').and(3, ECN.mask).ifEqual(3, ECN.congested, TO_TUNNEL).store(STACK, AT.ecn, 3, 4)
    // Several segments in one are parted by whoever sends them: each of those has to fit.
    .load(2, skb, CONTEXT.length, 4).store(STACK, AT.length, 2, 4)
    .load(3, skb, CONTEXT.gsoSize, 4).ifNot(3, 0, 'segments').ifMoreThan(2, mtu + ETHERNET_BYTES, TO_TUNNEL).jump('fits')
    .label('segments').ifMoreThan(3, mtu - TCP_IP_BYTES, TO_TUNNEL).ifMoreThan(2, LONGEST - IP_BYTES - UDP_VXLAN_BYTES, TO_TUNNEL)
    .label('fits');
  copyHeader(program, data, 0, STACK, AT.header)
    .move(1, skb).call(HELPER.hashRecalc).or(0, PORT_BITS).store(STACK, AT.sourcePort, 0, 2)
    .call(HELPER.random).store(STACK, AT.id, 0, 2)
    .move(1, skb).set(2, VXLAN_OVERHEAD[4]).set(3, ROOM_MAC).setWide(4, ROOM).call(HELPER.adjustRoom).ifNotNull(0, TO_TUNNEL)
    .load(data, skb, CONTEXT.data, 4).load(end, skb, CONTEXT.dataEnd, 4).move(2, data).add(2, OUTER.frame + ETHERNET_BYTES).ifMore(2, end, 'lost');
  writeHeaders(program, data, ipToBytes(local), port, network);
  program.set(2, MARK).store(skb, CONTEXT.mark, 2, 4)
    .set(1, uplink).set(2, 0).call(HELPER.redirectPeer).leave()
    .label('lost').return(VERDICT.drop);
}

function writeHeaders(program: BpfAssembler, data: number, local: Uint8Array, port: number, network: number): void {
  program.storeNumber(data, OUTER.ethertype, ETHERTYPE.ipv4, 2)
    .storeNumber(data, OUTER.ip, IP_START, 1).load(2, STACK, AT.ecn, 4).store(data, OUTER.tos, 2, 1)
    .load(2, STACK, AT.length, 4).add(2, IP_BYTES + UDP_VXLAN_BYTES).toNetworkOrder(2).store(data, OUTER.length, 2, 2)
    .load(2, STACK, AT.id, 2).store(data, OUTER.id, 2, 2).storeNumber(data, OUTER.fragment, 0, 2)
    .storeNumber(data, OUTER.hops, HOPS | (PROTOCOL.udp << 8), 2).storeNumber(data, OUTER.checksum, 0, 2)
    .storeNumber(data, OUTER.source, Buffer.from(local).readInt32LE(), 4).store(data, OUTER.destination, VTEP, 4)
    // RFC 1071: the sum of all words, and of what that carries. Two words at once come to the same.
    .load(2, data, OUTER.ip, 4);
  for (let at = OUTER.ip + 4; at < OUTER.udp; at += 4) program.load(3, data, at, 4).addRegister(2, 3);
  for (let i = 0; i < 3; i++) program.move(3, 2).shiftRight(3, 16).and(2, 0xffff).addRegister(2, 3);
  program.xor(2, 0xffff).store(data, OUTER.checksum, 2, 2)
    .load(2, STACK, AT.sourcePort, 2).store(data, OUTER.udp, 2, 2).storeNumber(data, OUTER.port, portNumber(port), 2)
    .load(2, STACK, AT.length, 4).add(2, UDP_VXLAN_BYTES).toNetworkOrder(2).store(data, OUTER.udpLength, 2, 2)
    // None, as the kernel's tunnels over IPv4 have (RFC 7348 §5).
    .storeNumber(data, OUTER.udpChecksum, 0, 2)
    .storeNumber(data, OUTER.vxlan, VNI_VALID, 4).storeNumber(data, OUTER.vni, network, 4);
  copyHeader(program, STACK, AT.header, data, OUTER.frame);
}

/** struct bpf_fib_lookup and struct bpf_redir_neigh (linux/bpf.h), and where they are on the stack. */
const FIB = { size: 64, family: 0, protocol: 1, ifindex: 8, source: 16, destination: 32, at: -64 } as const;
const NEIGHBOUR = { size: 20, family: 0, address: 4, at: -88 } as const;
const ADDRESS_BYTES = 16;
const AF_INET = 2;
const NO_NEIGHBOUR = 7;

/** At the host's end of the uplink: sends what ports have encapsulated where the host's routes lead, to the next hop. */
export function senderProgram(): IngressProgram {
  const { skb, data, end } = REGISTERS;
  const program = new BpfAssembler().load(2, 1, CONTEXT.mark, 4).ifEqual(2, 0, 'else')
    .move(skb, 1).set(2, 0).store(skb, CONTEXT.mark, 2, 4)
    .load(data, skb, CONTEXT.data, 4).load(end, skb, CONTEXT.dataEnd, 4).move(2, data).add(2, OUTER.udp).ifMore(2, end, 'drop');
  for (let at = 0; at < FIB.size; at += 8) program.storeNumber(STACK, FIB.at + at, 0, 8);
  program.storeNumber(STACK, FIB.at + FIB.family, AF_INET, 1).storeNumber(STACK, FIB.at + FIB.protocol, PROTOCOL.udp, 1)
    .load(2, skb, CONTEXT.ifindex, 4).store(STACK, FIB.at + FIB.ifindex, 2, 4)
    .load(2, data, OUTER.source, 4).store(STACK, FIB.at + FIB.source, 2, 4)
    .load(2, data, OUTER.destination, 4).store(STACK, FIB.at + FIB.destination, 2, 4)
    .move(1, skb).move(2, STACK).add(2, FIB.at).set(3, FIB.size).set(4, 0).call(HELPER.fibLookup)
    .ifEqual(0, 0, 'found').ifNot(0, NO_NEIGHBOUR, 'drop')
    // The neighbour that has been found is asked for once more: only who sends to one by its address notices that it is no longer there.
    .label('found').load(2, STACK, FIB.at + FIB.family, 1).store(STACK, NEIGHBOUR.at + NEIGHBOUR.family, 2, 4);
  // The next hop: the destination itself, or a gateway of either family.
  for (let at = 0; at < ADDRESS_BYTES; at += 4) program.load(2, STACK, FIB.at + FIB.destination + at, 4).store(STACK, NEIGHBOUR.at + NEIGHBOUR.address + at, 2, 4);
  return named('sender', program.load(1, STACK, FIB.at + FIB.ifindex, 4).move(2, STACK).add(2, NEIGHBOUR.at).set(3, NEIGHBOUR.size).set(4, 0).call(HELPER.redirectNeighbour).leave()
    .label('drop').return(VERDICT.drop)
    .label('else').return(VERDICT.next).assemble());
}
