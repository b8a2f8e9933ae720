/** Tables that eBPF programs look things up in, and this process writes (bpf(2), kernel doc bpf/map_hash and bpf/map_array). */
import koffi from 'koffi';
import { bpf } from './bpf.ts';
import { check, lastErrno, sys } from './ffi.ts';
import { KernelError } from './types.ts';

const BPF_MAP_CREATE = 0;
const BPF_MAP_UPDATE_ELEM = 2;
const BPF_MAP_DELETE_ELEM = 3;
const BPF_OBJ_GET_INFO_BY_FD = 15;
const BPF_MAP_TYPE_HASH = 1;
const BPF_MAP_TYPE_ARRAY = 2;
/** Memory is taken for entries that there are, not for all that there may be. */
const BPF_F_NO_PREALLOC = 1;
/** Shown by `bpftool map`; at most 15 characters. */
const NAME = 'weft';
/** Of struct bpf_map_info as far as it is used: up to id. */
const INFO_SIZE = 8;

export interface BpfTable {
  /** For programs that are loaded while it is open. */
  readonly fd: number;
  /** The kernel's own: no other table has it as long as this one is there. */
  readonly id: number;
  /** Throws KernelError, E2BIG where it is full. */
  set(key: Buffer, value: Buffer): void;
  /** Missing is not an error. */
  delete(key: Buffer): void;
  /** Programs keep what they use. */
  close(): void;
}

/** Keys and values of so many bytes each. Throws KernelError. */
export const createBpfTable = ({ key, value, entries }: { key: number; value: number; entries: number }): BpfTable => create(BPF_MAP_TYPE_HASH, key, value, entries, BPF_F_NO_PREALLOC);

/** All entries are there from the start, with nothing but zeros; keys are their numbers, four bytes in the machine's order. Throws KernelError. */
export const createBpfArray = ({ value, entries }: { value: number; entries: number }): BpfTable => create(BPF_MAP_TYPE_ARRAY, 4, value, entries, 0);

function create(...numbers: number[]): BpfTable {
  const what = 'make a table for eBPF programs';
  const attributes = Buffer.alloc(48);
  numbers.forEach((number, i) => attributes.writeUInt32LE(number, 4 * i));
  attributes.write(NAME, 28, 'latin1');
  const fd = check(what, bpf(what, BPF_MAP_CREATE, attributes));
  const change = (command: number, ...pointers: Buffer[]): number => {
    const element = Buffer.alloc(32);
    element.writeUInt32LE(fd, 0);
    pointers.forEach((pointer, i) => element.writeBigUInt64LE(koffi.address(pointer), 8 + 8 * i));
    return bpf('change a table of eBPF programs', command, element);
  };
  return {
    fd,
    id: idOf(fd),
    set: (...entry) => void check('add to a table of eBPF programs', change(BPF_MAP_UPDATE_ELEM, ...entry)),
    delete: (entry) => {
      if (change(BPF_MAP_DELETE_ELEM, entry) >= 0) return;
      const code = lastErrno();
      if (code !== 'ENOENT') throw new KernelError('delete from a table of eBPF programs', code);
    },
    close: () => void sys.close(fd),
  };
}

function idOf(fd: number): number {
  const info = Buffer.alloc(INFO_SIZE);
  const attributes = Buffer.alloc(16);
  attributes.writeUInt32LE(fd, 0);
  attributes.writeUInt32LE(info.length, 4);
  attributes.writeBigUInt64LE(koffi.address(info), 8);
  check('look at a table of eBPF programs', bpf('look at a table of eBPF programs', BPF_OBJ_GET_INFO_BY_FD, attributes));
  return info.readUInt32LE(4);
}
