/**
 * VXLAN's headers taken off by a program at the host's link, instead of by the tunnel: what comes from a member and is for an endpoint of this node is
 * handed over the uplink to that endpoint in the same moment. To the kernel goes all else: what is for no endpoint's own address, fragments, what has met
 * congestion on the way, what comes from strangers. So do several segments in one, of which a program cannot take off all signs of the tunnel, and long ones of
 * TCP, which the tunnel puts together (GRO). A flow's short ones follow those by the same way for a moment: they would be there before them (flowlets).
 */
import { ipToBytes } from '../../base/ip.ts';
import { BpfAssembler } from '../../linux/bpf-assembler.ts';
import { CONTEXT, ETHERTYPE, HELPER, PACKET_HOST, PROTOCOL, STACK, VERDICT } from '../../linux/bpf-packet.ts';
import type { BpfTable } from '../../linux/bpf-table.ts';
import type { IngressProgram, Rtnl } from '../../linux/types.ts';
import { KEY_BYTES } from '../shortcuts.ts';
import { VXLAN_OVERHEAD } from './addressing.ts';
import { ECN, ETHERNET_BYTES, FRAME, IP_START, OUTER, REGISTERS, VNI_VALID, copyHeader, named, portNumber } from './vxlan-packet.ts';

/** All that is looked at: to the end of the frame's shortest IP header. */
const LOOKED_AT = OUTER.frame + FRAME.ip + 20;
const GROUP = 1;
/** A fragment's offset, or that more of them follow, as it is read from the packet (RFC 791 §3.1). */
const FRAGMENT = 0xff3f;
/** BPF_F_ADJ_ROOM_…: FIXED_GSO, DECAP_L3_IPV6. Kernels before 6.4 do not know the latter: IPv6 is left to the tunnel there. */
const TAKEN_OFF = { ipv4: 0x01, ipv6: 0x01 | 0x100 } as const;
const ROOM_MAC = 1;
const RECEIVER = 'receiver';
/** By the outer source port, which is a hash of the inner flow. */
export const FLOWS = 1 << 14;
/** A frame of TCP, bytes, up to which nothing is gained by putting it together with others. */
const SHORT = 512;
/** After which what went by the tunnel has long arrived; of the kernel's clock, 1 to 10 ms each. */
const TICKS = 2;
/** Places on the stack. */
const AT = { key: -KEY_BYTES, member: -16, header: -32, flow: -36 } as const;
/** The register that keeps the place of the flow's time, and later the endpoint's port. */
const FLOW = 6;
const PORT = 6;

export interface Decapsulation {
  /** Tables: of the nodes' VTEPs, and of this node's endpoints. */
  members: Pick<BpfTable, 'fd' | 'id'>;
  places: Pick<BpfTable, 'fd' | 'id'>;
  /** An array: when something long of a flow was last left to the tunnel, 8 bytes, in ticks of the kernel's clock. */
  flows: Pick<BpfTable, 'fd' | 'id'>;
  /** This node's VTEP. */
  local: string;
  port: number;
  /** Index of the host's end of the uplink. */
  uplink: number;
}

/** At the host's links to other nodes. */
export function receiverProgram({ members, places, flows, local, port, uplink }: Decapsulation): IngressProgram {
  const { skb, data, end } = REGISTERS;
  const program = new BpfAssembler().load(2, 1, CONTEXT.protocol, 4).ifNot(2, ETHERTYPE.ipv4, 'else')
    .load(data, 1, CONTEXT.data, 4).load(end, 1, CONTEXT.dataEnd, 4).move(2, data).add(2, LOOKED_AT).ifMore(2, end, 'else')
    .load(2, data, OUTER.protocol, 1).ifNot(2, PROTOCOL.udp, 'else')
    .load(2, data, OUTER.port, 2).ifNot(2, portNumber(port), 'else')
    .load(2, data, OUTER.ip, 1).ifNot(2, IP_START, 'else')
    .load(2, data, OUTER.destination, 4).ifNot(2, Buffer.from(ipToBytes(local)).readInt32LE(), 'else')
    .load(2, data, OUTER.fragment, 2).and(2, FRAGMENT).ifNot(2, 0, 'else')
    .load(2, data, OUTER.tos, 1).and(2, ECN.mask).ifEqual(2, ECN.congested, 'else')
    .load(2, data, OUTER.vxlan, 4).ifNot(2, VNI_VALID, 'else')
    .load(2, data, OUTER.reserved, 1).ifNot(2, 0, 'else')
    .load(2, data, OUTER.frame, 1).and(2, GROUP).ifNot(2, 0, 'else')
    .load(2, 1, CONTEXT.vlanPresent, 4).ifNot(2, 0, 'else')
    .load(2, 1, CONTEXT.type, 4).ifNot(2, PACKET_HOST, 'else')
    .move(skb, 1)
    .load(2, data, OUTER.frame + FRAME.ethertype, 2).ifEqual(2, ETHERTYPE.ipv4, 'ipv4').ifNot(2, ETHERTYPE.ipv6, 'else')
    .load(2, data, OUTER.frame + FRAME.nextHeader, 1).jump('protocol')
    .label('ipv4').load(2, data, OUTER.frame + FRAME.protocol, 1)
    .label('protocol').ifEqual(2, PROTOCOL.tcp, 'tcp').load(2, skb, CONTEXT.gsoSize, 4).ifNot(2, 0, 'else').jump('whole')
    .label('tcp').load(2, data, OUTER.udp, 2).and(2, FLOWS - 1).store(STACK, AT.flow, 2, 4)
    .loadTable(1, flows.fd).move(2, STACK).add(2, AT.flow).call(HELPER.mapLookup).ifNull(0, 'else').move(FLOW, 0).call(HELPER.jiffies)
    .load(2, skb, CONTEXT.gsoSize, 4).ifNot(2, 0, 'long').load(2, skb, CONTEXT.length, 4).ifMoreThan(2, OUTER.frame + SHORT, 'long')
    .load(2, FLOW, 0, 8).subtractRegister(0, 2).ifMoreThan(0, TICKS, 'whole').jump('else')
    .label('long').store(FLOW, 0, 0, 8).jump('else')
    .label('whole').load(2, data, OUTER.source, 4).store(STACK, AT.member, 2, 4)
    .loadTable(1, members.fd).move(2, STACK).add(2, AT.member).call(HELPER.mapLookup).ifNull(0, 'else')
    .load(2, data, OUTER.vni, 4).store(STACK, AT.key, 2, 4)
    .load(2, data, OUTER.frame, 4).store(STACK, AT.key + 4, 2, 4).load(2, data, OUTER.frame + 4, 2).store(STACK, AT.key + 8, 2, 4)
    .loadTable(1, places.fd).move(2, STACK).add(2, AT.key).call(HELPER.mapLookup).ifNull(0, 'else').load(PORT, 0, 0, 4).ifEqual(PORT, 0, 'else');
  copyHeader(program, data, OUTER.frame, STACK, AT.header)
    .set(4, TAKEN_OFF.ipv4).load(2, STACK, AT.header + FRAME.ethertype, 2).ifEqual(2, ETHERTYPE.ipv4, 'take off').set(4, TAKEN_OFF.ipv6)
    .label('take off').move(1, skb).set(2, -VXLAN_OVERHEAD[4]).set(3, ROOM_MAC).call(HELPER.adjustRoom).ifNotNull(0, 'else')
    .load(data, skb, CONTEXT.data, 4).load(end, skb, CONTEXT.dataEnd, 4).move(2, data).add(2, ETHERNET_BYTES).ifMore(2, end, 'drop');
  return named(RECEIVER, copyHeader(program, STACK, AT.header, data, 0)
    .store(skb, CONTEXT.mark, PORT, 4)
    .set(1, uplink).set(2, 0).call(HELPER.redirectPeer).leave()
    .label('drop').return(VERDICT.drop)
    .label('else').return(VERDICT.next).assemble(), members, places, flows);
}

/** Takes them off all links of the host but these. */
export function removeReceivers(hostRtnl: Rtnl, except: ReadonlySet<number> = new Set()): void {
  for (const { index } of hostRtnl.links()) if (!except.has(index) && isReceiver(hostRtnl.ingressProgram(index, 'last'))) hostRtnl.deleteIngressProgram(index, 'last');
}

const isReceiver = (name: string | undefined): boolean => name?.startsWith(`weft-${RECEIVER}/`) === true;

/** At the fabric's end of the uplink: what has come out of VXLAN is marked with its endpoint's port; nothing else that comes there is marked. */
export function deliveryProgram(): IngressProgram {
  return named('delivery', new BpfAssembler().load(6, 1, CONTEXT.mark, 4).ifEqual(6, 0, 'else')
    .set(2, 0).store(1, CONTEXT.mark, 2, 4)
    .move(1, 6).set(2, 0).call(HELPER.redirectPeer).leave()
    .label('else').return(VERDICT.next).assemble());
}
