/**
 * Which notifications a netlink socket takes at all, by a filter in the kernel (BPF's classic form, linux/filter.h): for the others nobody is woken,
 * and they need no room.
 */
import koffi from 'koffi';
import { check, sys } from './ffi.ts';

const SOL_SOCKET = 1;
const SO_ATTACH_FILTER = 26;
const INSTRUCTION = 8;
const OPCODE = { loadByte: 0x30, loadHalf: 0x28, ifEqual: 0x15, return: 0x06 } as const;
/** Of struct nlmsghdr, and the first byte behind it. */
const TYPE_AT = 4;
const FAMILY_AT = 16;
const ALL = 0xffffffff;

/** By its type, and where it is said, by the address family that it begins with. */
export interface Wanted { type: number; family?: number }

export function takeOnly(fd: number, wanted: readonly Wanted[]): void {
  const program = Buffer.concat([...wanted.flatMap(taken), instruction(OPCODE.return, 0)]);
  // struct sock_fprog
  const description = Buffer.alloc(16);
  description.writeUInt16LE(program.length / INSTRUCTION, 0);
  description.writeBigUInt64LE(koffi.address(program), 8);
  check('filter what a netlink socket takes', sys.setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, description, description.length));
}

function taken({ type, family }: Wanted): Buffer[] {
  const take = instruction(OPCODE.return, ALL);
  const ofFamily = family === undefined ? [] : [instruction(OPCODE.loadByte, FAMILY_AT), unlessSkip(family, 1)];
  return [instruction(OPCODE.loadHalf, TYPE_AT), unlessSkip(swapped(type), ofFamily.length + 1), ...ofFamily, take];
}

const unlessSkip = (value: number, otherwise: number): Buffer => instruction(OPCODE.ifEqual, value, otherwise);

/** What is loaded is taken for big-endian. */
const swapped = (value: number): number => ((value & 0xff) << 8) | (value >>> 8);

/** struct sock_filter */
function instruction(opcode: number, value: number, otherwise = 0): Buffer {
  const bytes = Buffer.alloc(INSTRUCTION);
  bytes.writeUInt16LE(opcode, 0);
  bytes.writeUInt8(otherwise, 3);
  bytes.writeUInt32LE(value, 4);
  return bytes;
}
