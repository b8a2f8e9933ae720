/** eBPF programs, loaded by bpf(2) without a compiler or a library. The kernel checks each before it takes it. */
import koffi from 'koffi';
import { errnoName, sys } from './ffi.ts';
import { KernelError } from './types.ts';

/** Of bpf(2), by process.arch. */
const SYSCALL: Record<string, number> = { x64: 321, arm64: 280 };
const BPF_PROG_LOAD = 5;
const BPF_PROG_TYPE_SCHED_CLS = 3;
/** Of union bpf_attr as far as it is used: up to prog_name. */
const ATTRIBUTES_SIZE = 72;
const INSTRUCTION = 8;
const LOG_BYTES = 64 << 10;
/** The kernel gives up checking a program when a signal comes for the one who asked (EAGAIN); libbpf tries as often. */
const ATTEMPTS = 5;
/** Shown by `bpftool prog`; at most 15 characters. */
const PROGRAM_NAME = 'weft';

/** Returns what the kernel does: below zero, errno says why. `attributes`: union bpf_attr, whose pointers must stay valid meanwhile. */
export function bpf(what: string, command: number, attributes: Buffer): number {
  const number = SYSCALL[process.arch];
  if (number === undefined) throw new KernelError(what, 'ENOSYS', `not on ${process.arch}`);
  return Number(sys.syscall(number, command, attributes, attributes.length));
}

/**
 * A program for tc. The returned descriptor may be closed once something holds the program. Throws KernelError; where the kernel does not take
 * the program, with what it says of it.
 */
export function loadTcProgram(instructions: Buffer): number {
  const load = (log: Buffer | undefined): number => {
    const license = Buffer.from('GPL\0');
    const attributes = Buffer.alloc(ATTRIBUTES_SIZE);
    attributes.writeUInt32LE(BPF_PROG_TYPE_SCHED_CLS, 0);
    attributes.writeUInt32LE(instructions.length / INSTRUCTION, 4);
    attributes.writeBigUInt64LE(koffi.address(instructions), 8);
    attributes.writeBigUInt64LE(koffi.address(license), 16);
    if (log) {
      attributes.writeUInt32LE(1, 24);
      attributes.writeUInt32LE(log.length, 28);
      attributes.writeBigUInt64LE(koffi.address(log), 32);
    }
    attributes.write(PROGRAM_NAME, 48, 'latin1');
    return bpf('load an eBPF program', BPF_PROG_LOAD, attributes);
  };
  let code = '';
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    const fd = load(undefined);
    if (fd >= 0) return fd;
    code = errnoName(koffi.errno());
    if (code !== 'EAGAIN') break;
  }
  if (code !== 'EINVAL' && code !== 'EACCES') throw new KernelError('load an eBPF program', code);
  const log = Buffer.alloc(LOG_BYTES);
  const again = load(log);
  if (again >= 0) return again;
  throw new KernelError('load an eBPF program', code, log.toString('utf8', 0, Math.max(0, log.indexOf(0))).trim().split('\n').slice(-3).join('; '));
}
