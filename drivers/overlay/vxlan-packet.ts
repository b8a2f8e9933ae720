/** A packet between two nodes as the fast path's programs write and read it: Ethernet, IPv4 without options, UDP, VXLAN, a frame (RFC 7348 §5). */
import { createHash } from 'node:crypto';
import type { BpfAssembler } from '../../linux/bpf-assembler.ts';
import type { BpfTable } from '../../linux/bpf-table.ts';
import type { IngressProgram } from '../../linux/types.ts';

export const ETHERNET_BYTES = 14;
/** Offsets, bytes. */
export const OUTER = {
  ethertype: 12, ip: 14, tos: 15, length: 16, id: 18, fragment: 20, hops: 22, protocol: 23, checksum: 24, source: 26, destination: 30,
  udp: 34, port: 36, udpLength: 38, udpChecksum: 40, vxlan: 42, vni: 46, reserved: 49, frame: 50,
} as const;
/** The same in a frame that is in none. */
export const FRAME = { ethertype: 12, ip: 14, tos: 15, nextHeader: 20, protocol: 23 } as const;
/** Version 4, header of five words. */
export const IP_START = 0x45;
/** VXLAN's flags, a word as it is read from the packet: the VNI is valid, and nothing else is said. */
export const VNI_VALID = 0x08;
/** The lowest two bits of the type of service, and congestion that was met (RFC 3168 §5). */
export const ECN = { mask: 3, congested: 3 } as const;

/**
 * By which a network is told from others in tables and packets: its VNI and the byte after it, which is zero (RFC 7348 §5), as they are read from the header. That of an
 * encrypted network has another byte there, so that it is in no packet: nothing in the clear is for its endpoints.
 */
export function networkNumber(vni: number, encrypted = false): number {
  const bytes = Buffer.alloc(4);
  bytes.writeUIntBE(vni, 0, 3);
  bytes.writeUInt8(Number(encrypted), 3);
  return bytes.readUInt32LE();
}

/** A port as it is read from a packet. */
export const portNumber = (port: number): number => ((port & 0xff) << 8) | (port >> 8);

/** An Ethernet header goes from the packet to the stack, or from there to a packet that has been changed meanwhile. */
export function copyHeader(program: BpfAssembler, from: number, fromOffset: number, to: number, toOffset: number): BpfAssembler {
  for (const [at, size] of [[0, 8], [8, 4], [12, 2]] as const) program.load(2, from, fromOffset + at, size).store(to, toOffset + at, 2, size);
  return program;
}

/** Registers that calls leave alone. */
export const REGISTERS = { skb: 9, data: 7, end: 8 } as const;

/** What stands for a table in a program is a number that only this process knows it by: so the tables' ids are part of the name. Every start of weftd makes others. */
export const named = (kind: string, instructions: Buffer, ...tables: Pick<BpfTable, 'id'>[]): IngressProgram => ({
  name: `weft-${kind}/${[createHash('sha256').update(instructions).digest('hex').slice(0, 12), ...tables.map(({ id }) => id)].join('-')}`, instructions,
});
