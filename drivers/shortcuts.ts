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
import { CONTEXT, ETHERTYPE, HELPER, PACKET_HOST, STACK, VERDICT } from '../linux/bpf-packet.ts';
import { createBpfTable, type BpfTable } from '../linux/bpf-table.ts';
import type { IngressProgram } from '../linux/types.ts';
import type { Onward, Registers } from './source-guard.ts';

/** Offsets from the frame's start, bytes (RFC 894, RFC 791 §3.1). */
const ETHERNET = { destination: 0, source: 6, end: 14 } as const;
const IPV4 = { hops: 22, destination: 30, end: 34 } as const;
/** Of the first byte of a MAC address that is not one link's (IEEE 802 §8.2.2). */
const GROUP = 1;
/** First byte of an IPv4 address: from the next one on it is multicast, reserved, or broadcast. */
const LAST_UNICAST = 223;

/** Number of a network (4 bytes), MAC address (6), filled up. */
export const KEY_BYTES = 12;
/** Where on the stack the key of the frame's destination is, when it is none of this node's addresses. */
export const DESTINATION = -KEY_BYTES;
export const TO_TUNNEL = 'tunnel';
/** Index of a port (4 bytes, 0: the bridge's to send), and whether its endpoint's packets may leave by the way out (4). */
const VALUE_BYTES = 8;
const LEAVES = 4;
/** Addresses of all networks here. A bridge has at most 1023 ports. */
const MOST = 16384;

/** The way out of a network: what is sent to the gateway's MAC address, and to an IPv4 address out of all of `inside`, belongs to the other end of the link `uplink`. */
export interface WayOut { gatewayMac: string; uplink: number; inside: readonly string[] }

/**
 * An address of a network, which is told from others by its number: the index of its bridge, or another one that only it has. `port`: undefined
 * where the bridge is to send what is for it. `leaves`: by the way out, where there is one.
 */
export interface Place { network: number; mac: string; ip?: string | undefined; port: number | undefined; leaves: boolean }

/**
 * Where to, besides other ports. `tunnel`: the index of the link that leads to the network's addresses on other nodes. `encapsulation` is asked first
 * about a frame for one of those; it goes on at `TO_TUNNEL` where it leaves it to the tunnel, and finds the frame's destination in the key at `DESTINATION`.
 */
export interface Ways { out?: WayOut | undefined; tunnel?: number | undefined; encapsulation?: Onward | undefined }

export interface Shortcuts {
  /** The table, for other programs: a {@link keyOf}, and a port's index as the first four bytes of what belongs to it. */
  readonly table: Pick<BpfTable, 'fd' | 'id'>;
  /** From a port of the network's bridge. To other nodes only once all its addresses are in the table. */
  from(network: number, ways: Ways): Onward;
  /** For a port behind which no endpoint is: what comes in there has been looked at elsewhere. */
  trunkProgram(network: number): IngressProgram;
  /** In place of what the endpoint had before. Throws KernelError. */
  set(endpointId: string, place: Place): void;
  /** What endpoints with these addresses send is routed from now on, also where they may leave. */
  stay(ips: readonly string[]): void;
  forget(endpointId: string): void;
  /** The table has all addresses of the network on this node. */
  complete(network: number): void;
  isComplete(network: number): boolean;
  close(): void;
}

/** Of one namespace. Programs that are there already go on with the table that they know. */
export function createShortcuts(): Shortcuts {
  const table = createBpfTable({ key: KEY_BYTES, value: VALUE_BYTES, entries: MOST });
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
    table,
    from: (network, { out, tunnel, encapsulation }) => {
      const away = completed.has(network) ? { tunnel, encapsulation: tunnel === undefined ? undefined : encapsulation } : {};
      return {
        name: `${table.id}-${digest(JSON.stringify([network, away.tunnel, away.encapsulation?.name, out]))}`,
        write: (program, registers) => {
          if (out) leave(program, table.fd, network, out, registers);
          handOver(program, table.fd, network, registers, away);
        },
      };
    },
    trunkProgram: (network) => ({ name: `weft-${version()}/${table.id}-${network}`, get instructions() { return writeTrunkProgram(table.fd, network); } }),
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
    complete: (network) => void completed.add(network),
    isComplete: (network) => completed.has(network),
    close: table.close,
  };
}

export function keyOf({ network, mac }: Pick<Place, 'network' | 'mac'>): Buffer {
  const key = Buffer.alloc(KEY_BYTES);
  key.writeUInt32LE(network);
  key.set(macToBytes(mac), 4);
  return key;
}

function valueOf({ port, leaves }: Place): Buffer {
  const value = Buffer.alloc(VALUE_BYTES);
  value.writeUInt32LE(port ?? 0);
  value.writeUInt32LE(Number(leaves), LEAVES);
  return value;
}

/** r0 points to what the table has for one of the frame's MAC addresses. */
const lookUp = (program: BpfAssembler, fd: number, network: number, { data }: Registers, offset: number): BpfAssembler => program
  .storeNumber(STACK, -KEY_BYTES, network, 4)
  .load(2, data, offset, 4).store(STACK, 4 - KEY_BYTES, 2, 4)
  .load(2, data, offset + 4, 2).store(STACK, 8 - KEY_BYTES, 2, 2).storeNumber(STACK, 10 - KEY_BYTES, 0, 2)
  .loadTable(1, fd).move(2, STACK).add(2, -KEY_BYTES).call(HELPER.mapLookup);

/** `port` is the register that holds a link's index. The frame was for none of the link's own addresses where it came in. */
const toPeer = (program: BpfAssembler, { skb }: Registers, port: number): BpfAssembler => program
  .move(1, skb).set(2, PACKET_HOST).call(HELPER.changeType)
  .move(1, port).set(2, 0).call(HELPER.redirectPeer).leave();

/** The end of a program. */
function handOver(program: BpfAssembler, fd: number, network: number, registers: Registers, { tunnel, encapsulation }: Omit<Ways, 'out'>): BpfAssembler {
  const { data } = registers;
  lookUp(program.label('inside'), fd, network, registers, ETHERNET.destination).ifNull(0, tunnel === undefined ? 'bridge' : 'away').load(data, 0, 0, 4).ifEqual(data, 0, 'bridge');
  toPeer(program, registers, data);
  if (tunnel !== undefined) {
    program.label('away').load(2, data, ETHERNET.destination, 1).and(2, GROUP).ifNot(2, 0, 'bridge');
    encapsulation?.write(program, registers);
    program.label(TO_TUNNEL).set(1, tunnel).set(2, 0).call(HELPER.redirect).leave();
  }
  return program.label('bridge').return(VERDICT.next);
}

/** What has no hop left is answered by the bridge's namespace. */
function leave(program: BpfAssembler, fd: number, network: number, { gatewayMac, uplink, inside }: WayOut, registers: Registers): void {
  const { skb, data, end } = registers;
  const gateway = Buffer.from(macToBytes(gatewayMac));
  program.load(2, skb, CONTEXT.protocol, 4).ifNot(2, ETHERTYPE.ipv4, 'inside').move(2, data).add(2, IPV4.end).ifMore(2, end, 'inside')
    .load(2, data, ETHERNET.destination, 4).ifNot(2, gateway.readInt32LE(0), 'inside')
    .load(2, data, ETHERNET.destination + 4, 2).ifNot(2, gateway.readUInt16LE(4), 'inside')
    .load(2, data, IPV4.destination, 1).ifMoreThan(2, LAST_UNICAST, 'inside')
    .load(2, data, IPV4.hops, 1).ifEqual(2, 0, 'inside').ifEqual(2, 1, 'inside')
    .load(3, data, IPV4.destination, 4);
  for (const prefix of inside) {
    const { mask, base } = maskOf(prefix);
    program.move(2, 3).and(2, mask).ifEqual(2, base, 'inside');
  }
  lookUp(program, fd, network, registers, ETHERNET.source).ifNull(0, 'inside').load(2, 0, LEAVES, 4).ifEqual(2, 0, 'inside').set(data, uplink);
  toPeer(program, registers, data);
}

/** Of an IPv4 prefix, as a program reads it on a little-endian machine. */
function maskOf(prefix: string): { mask: number; base: number } {
  const { length } = parsePrefix(prefix)!;
  const mask = Buffer.alloc(4);
  mask.writeUInt32BE(length === 0 ? 0 : (0xffffffff << (32 - length)) >>> 0);
  const base = Buffer.from(ipToBytes(prefix.split('/')[0]!));
  return { mask: mask.readInt32LE(), base: base.readInt32LE() & mask.readInt32LE() };
}

const REGISTERS: Registers = { skb: 9, data: 7, end: 8 };

function writeTrunkProgram(fd: number, network: number): Buffer {
  const { skb, data, end } = REGISTERS;
  const program = new BpfAssembler().move(skb, 1).load(data, skb, CONTEXT.data, 4).load(end, skb, CONTEXT.dataEnd, 4).move(2, data).add(2, ETHERNET.end).ifMore(2, end, 'bridge');
  return handOver(program, fd, network, REGISTERS, {}).assemble();
}

const digest = (data: string | Buffer): string => createHash('sha256').update(data).digest('hex').slice(0, 12);

/** Of the way in which they are written. */
const version = (): string => (known ??= digest(writeTrunkProgram(0, 0)));
let known: string | undefined;
