/**
 * What a port has let in is handed over at once to where it belongs, as if the other end had just received it (bpf_redirect_peer, bpf-helpers(7)): to
 * an endpoint of the same network on this node, whose port a table has, and what is for elsewhere, to the host's end of the uplink. What is for no
 * address of this node is sent by the tunnel (bpf_redirect), which knows those on other nodes. That spares frames the bridge and a queue, and what leaves
 * also what it is routed and tracked by in between. All else goes by the bridge, as it would without: broadcast, multicast, the gateway
 * itself, ports whose rate is limited or that are isolated.
 */
import { createHash } from 'node:crypto';
import { ipToBytes, macToBytes } from '../base/ip.ts';
import { parsePrefix } from '../base/prefix.ts';
import { BpfAssembler } from '../linux/bpf-assembler.ts';
import { createBpfTable } from '../linux/bpf-table.ts';
import type { IngressProgram } from '../linux/types.ts';
import type { Onward, Registers } from './source-guard.ts';

/** Offsets in struct __sk_buff (linux/bpf.h), the program's context. */
const CONTEXT = { protocol: 16, data: 76, dataEnd: 80 } as const;
/** Offsets from the frame's start, bytes (RFC 894, RFC 791 §3.1). */
const ETHERNET = { destination: 0, source: 6, end: 14 } as const;
const IPV4 = { hops: 22, destination: 30, end: 34 } as const;
/** Of the first byte of a MAC address that is not one link's (IEEE 802 §8.2.2). */
const GROUP = 1;
/** linux/if_ether.h, as a program reads it on a little-endian machine. */
const ETHERTYPE_IPV4 = 0x0008;
/** First byte of an IPv4 address: from the next one on it is multicast, reserved, or broadcast. */
const LAST_UNICAST = 223;
const BPF_MAP_LOOKUP_ELEM = 1;
const BPF_SKB_CHANGE_TYPE = 32;
const BPF_REDIRECT = 23;
const BPF_REDIRECT_PEER = 155;
const PACKET_HOST = 0;
/** What comes next decides: the bridge. */
const TC_ACT_UNSPEC = -1;
const STACK = 10;

/** Index of a bridge (4 bytes), MAC address (6), filled up. */
const KEY_BYTES = 12;
/** Index of a port (4 bytes, 0: the bridge's to send), and whether its endpoint's packets may leave by the way out (4). */
const VALUE_BYTES = 8;
const LEAVES = 4;
/** Addresses of all networks here. A bridge has at most 1023 ports. */
const MOST = 16384;

/** The way out of a network: what is sent to the gateway's MAC address, and to an IPv4 address out of all of `inside`, belongs to the other end of the link `uplink`. */
export interface WayOut { gatewayMac: string; uplink: number; inside: readonly string[] }

/** An address behind a bridge. `port`: undefined where the bridge is to send what is for it. `leaves`: by the way out, where there is one. */
export interface Place { bridge: number; mac: string; ip?: string | undefined; port: number | undefined; leaves: boolean }

/** Where to, besides other ports. `tunnel`: the index of the link that leads to the network's addresses on other nodes. */
export interface Ways { out?: WayOut | undefined; tunnel?: number | undefined }

export interface Shortcuts {
  /** From a port of the bridge. By the tunnel only once all its addresses are in the table. */
  from(bridge: number, ways: Ways): Onward;
  /** For a port behind which no endpoint is: what comes in there has been looked at elsewhere. */
  trunkProgram(bridge: number): IngressProgram;
  /** In place of what the endpoint had before. Throws KernelError. */
  set(endpointId: string, place: Place): void;
  /** What endpoints with these addresses send is routed from now on, also where they may leave. */
  stay(ips: readonly string[]): void;
  forget(endpointId: string): void;
  /** The table has all addresses behind the bridge. */
  complete(bridge: number): void;
  close(): void;
}

/** Of one namespace. Programs that are there already go on with the table that they know. */
export function createShortcuts(): Shortcuts {
  const { fd, id, ...table } = createBpfTable({ key: KEY_BYTES, value: VALUE_BYTES, entries: MOST });
  const places = new Map<string, Place>();
  const completed = new Set<number>();
  const staying = new Set<string | undefined>();
  /** Who has an entry: an address may be another's before its last owner is gone. */
  const owners = new Map<string, string>();
  const forget = (endpointId: string): void => {
    const place = places.get(endpointId);
    if (!place) return;
    places.delete(endpointId);
    const key = keyOf(place);
    if (owners.get(key.toString('hex')) !== endpointId) return;
    owners.delete(key.toString('hex'));
    staying.delete(place.ip);
    table.delete(key);
  };
  const write = (place: Place): void => table.set(keyOf(place), valueOf({ ...place, leaves: place.leaves && !staying.has(place.ip) }));
  return {
    from: (bridge, { out, tunnel }) => {
      const link = completed.has(bridge) ? tunnel : undefined;
      return {
        name: `${id}-${digest(JSON.stringify([bridge, link, out]))}`,
        write: (program, registers) => {
          if (out) leave(program, fd, bridge, out, registers);
          handOver(program, fd, bridge, registers, link);
        },
      };
    },
    trunkProgram: (bridge) => ({ name: `weft-${version()}/${id}-${bridge}`, get instructions() { return writeTrunkProgram(fd, bridge); } }),
    set: (endpointId, place) => {
      const before = places.get(endpointId);
      const key = keyOf(place);
      if (before && !keyOf(before).equals(key)) forget(endpointId);
      places.set(endpointId, place);
      owners.set(key.toString('hex'), endpointId);
      write(place);
    },
    stay: (ips) => {
      for (const ip of ips) staying.add(ip);
      for (const [id, place] of places) if (place.ip !== undefined && ips.includes(place.ip) && owners.get(keyOf(place).toString('hex')) === id) write(place);
    },
    forget,
    complete: (bridge) => void completed.add(bridge),
    close: table.close,
  };
}

function keyOf({ bridge, mac }: Place): Buffer {
  const key = Buffer.alloc(KEY_BYTES);
  key.writeUInt32LE(bridge);
  key.set(macToBytes(mac), 4);
  return key;
}

function valueOf({ port, leaves }: Place): Buffer {
  const value = Buffer.alloc(VALUE_BYTES);
  value.writeUInt32LE(port ?? 0);
  value.writeUInt32LE(Number(leaves), LEAVES);
  return value;
}

/** Whether two programs differ in nothing but their way onward, which every start of weftd makes another one. */
export const isSameButOnward = (name: string | undefined, other: string): boolean => name?.split('/')[0] === other.split('/')[0];

/** r0 points to what the table has for one of the frame's MAC addresses. */
const lookUp = (program: BpfAssembler, fd: number, bridge: number, { data }: Registers, offset: number): BpfAssembler => program
  .storeNumber(STACK, -KEY_BYTES, bridge, 4)
  .load(2, data, offset, 4).store(STACK, 4 - KEY_BYTES, 2, 4)
  .load(2, data, offset + 4, 2).store(STACK, 8 - KEY_BYTES, 2, 2).storeNumber(STACK, 10 - KEY_BYTES, 0, 2)
  .loadTable(1, fd).move(2, STACK).add(2, -KEY_BYTES).call(BPF_MAP_LOOKUP_ELEM);

/** `port` is the register that holds a link's index. The frame was for none of the link's own addresses where it came in. */
const toPeer = (program: BpfAssembler, { skb }: Registers, port: number): BpfAssembler => program
  .move(1, skb).set(2, PACKET_HOST).call(BPF_SKB_CHANGE_TYPE)
  .move(1, port).set(2, 0).call(BPF_REDIRECT_PEER).leave();

/** The end of a program. */
function handOver(program: BpfAssembler, fd: number, bridge: number, registers: Registers, tunnel?: number): BpfAssembler {
  const { data } = registers;
  lookUp(program.label('inside'), fd, bridge, registers, ETHERNET.destination).ifNull(0, tunnel === undefined ? 'bridge' : 'tunnel').load(data, 0, 0, 4).ifEqual(data, 0, 'bridge');
  toPeer(program, registers, data);
  if (tunnel !== undefined) {
    program.label('tunnel').load(2, data, ETHERNET.destination, 1).and(2, GROUP).ifNot(2, 0, 'bridge')
      .set(1, tunnel).set(2, 0).call(BPF_REDIRECT).leave();
  }
  return program.label('bridge').return(TC_ACT_UNSPEC);
}

/** What has no hop left is answered by the bridge's namespace. */
function leave(program: BpfAssembler, fd: number, bridge: number, { gatewayMac, uplink, inside }: WayOut, registers: Registers): void {
  const { skb, data, end } = registers;
  const gateway = Buffer.from(macToBytes(gatewayMac));
  program.load(2, skb, CONTEXT.protocol, 4).ifNot(2, ETHERTYPE_IPV4, 'inside').move(2, data).add(2, IPV4.end).ifMore(2, end, 'inside')
    .load(2, data, ETHERNET.destination, 4).ifNot(2, gateway.readInt32LE(0), 'inside')
    .load(2, data, ETHERNET.destination + 4, 2).ifNot(2, gateway.readUInt16LE(4), 'inside')
    .load(2, data, IPV4.destination, 1).ifMoreThan(2, LAST_UNICAST, 'inside')
    .load(2, data, IPV4.hops, 1).ifEqual(2, 0, 'inside').ifEqual(2, 1, 'inside')
    .load(3, data, IPV4.destination, 4);
  for (const prefix of inside) {
    const { mask, network } = maskOf(prefix);
    program.move(2, 3).and(2, mask).ifEqual(2, network, 'inside');
  }
  lookUp(program, fd, bridge, registers, ETHERNET.source).ifNull(0, 'inside').load(2, 0, LEAVES, 4).ifEqual(2, 0, 'inside').set(data, uplink);
  toPeer(program, registers, data);
}

/** Of an IPv4 prefix, as a program reads it on a little-endian machine. */
function maskOf(prefix: string): { mask: number; network: number } {
  const { length } = parsePrefix(prefix)!;
  const mask = Buffer.alloc(4);
  mask.writeUInt32BE(length === 0 ? 0 : (0xffffffff << (32 - length)) >>> 0);
  const network = Buffer.from(ipToBytes(prefix.split('/')[0]!));
  return { mask: mask.readInt32LE(), network: network.readInt32LE() & mask.readInt32LE() };
}

const REGISTERS: Registers = { skb: 9, data: 7, end: 8 };

function writeTrunkProgram(fd: number, bridge: number): Buffer {
  const { skb, data, end } = REGISTERS;
  const program = new BpfAssembler().move(skb, 1).load(data, skb, CONTEXT.data, 4).load(end, skb, CONTEXT.dataEnd, 4).move(2, data).add(2, ETHERNET.end).ifMore(2, end, 'bridge');
  return handOver(program, fd, bridge, REGISTERS).assemble();
}

const digest = (data: string | Buffer): string => createHash('sha256').update(data).digest('hex').slice(0, 12);

/** Of the way in which they are written. */
const version = (): string => (known ??= digest(writeTrunkProgram(0, 0)));
let known: string | undefined;
