/**
 * eBPF instructions, one call each, with labels for jumps (RFC 9669). Eleven registers, r0 to r10; a program's context is in r1 when
 * it starts, and helpers overwrite r0 to r5.
 */
type Size = 1 | 2 | 4 | 8;

const LDX: Record<Size, number> = { 1: 0x71, 2: 0x69, 4: 0x61, 8: 0x79 };
const STX: Record<Size, number> = { 1: 0x73, 2: 0x6b, 4: 0x63, 8: 0x7b };
const ST: Record<Size, number> = { 1: 0x72, 2: 0x6a, 4: 0x62, 8: 0x7a };
/** Of an instruction that takes two places: what it loads is a table, by its file descriptor (BPF_PSEUDO_MAP_FD). */
const TABLE = 1;
/** Big-endian, of the lower 16 bits. */
const SWAP_16 = 16;
/** Comparisons with a number look at the register's lower 32 bits (BPF_JMP32), those of two registers and with null at all 64. */
const OPCODE = {
  load64: 0x18, ifNull: 0x15, ifNotNull: 0x55,
  addNumber: 0x07, add: 0x0f, subtract: 0x1f, andNumber: 0x57, orNumber: 0x47, xorNumber: 0xa7, shiftRight: 0x77, swap: 0xdc, moveNumber: 0xb7, move: 0xbf, jump: 0x05, ifEqual: 0x16, ifNot: 0x56, ifMoreThanNumber: 0x26, ifMore: 0x2d, call: 0x85, exit: 0x95,
} as const;

export class BpfAssembler {
  /** Two numbers an instruction: a container's start waits for its program, and a buffer for each instruction would take twice as long. */
  readonly #code: number[] = [];
  readonly #labels = new Map<string, number>();
  readonly #jumps: { at: number; label: string }[] = [];

  get #here(): number {
    return this.#code.length / 2;
  }

  #emit(opcode: number, { to = 0, from = 0, offset = 0, number = 0 }: { to?: number; from?: number; offset?: number; number?: number } = {}): this {
    this.#code.push(opcode | (to << 8) | (from << 12) | (offset << 16), number);
    return this;
  }

  #jump(opcode: number, label: string, operands: { to?: number; from?: number; number?: number } = {}): this {
    this.#jumps.push({ at: this.#here, label });
    return this.#emit(opcode, operands);
  }

  label(name: string): this {
    this.#labels.set(name, this.#here);
    return this;
  }

  /** What is in memory at a register's address and an offset, in the machine's byte order. */
  load(to: number, from: number, offset: number, size: Size): this {
    return this.#emit(LDX[size], { to, from, offset });
  }

  /** What is in a register goes to memory, or a number does. */
  store(at: number, offset: number, from: number, size: Size): this {
    return this.#emit(STX[size], { to: at, from, offset });
  }

  storeNumber(at: number, offset: number, number: number, size: Size): this {
    return this.#emit(ST[size], { to: at, offset, number });
  }

  loadTable(to: number, fd: number): this {
    return this.#emit(OPCODE.load64, { to, from: TABLE, number: fd }).#emit(0);
  }

  /** A number of 64 bits. */
  setWide(to: number, number: bigint): this {
    return this.#emit(OPCODE.load64, { to, number: Number(BigInt.asIntN(32, number)) }).#emit(0, { number: Number(BigInt.asIntN(32, number >> 32n)) });
  }

  move(to: number, from: number): this {
    return this.#emit(OPCODE.move, { to, from });
  }

  set(to: number, number: number): this {
    return this.#emit(OPCODE.moveNumber, { to, number });
  }

  add(to: number, number: number): this {
    return this.#emit(OPCODE.addNumber, { to, number });
  }

  addRegister(to: number, from: number): this {
    return this.#emit(OPCODE.add, { to, from });
  }

  subtractRegister(to: number, from: number): this {
    return this.#emit(OPCODE.subtract, { to, from });
  }

  or(to: number, number: number): this {
    return this.#emit(OPCODE.orNumber, { to, number });
  }

  xor(to: number, number: number): this {
    return this.#emit(OPCODE.xorNumber, { to, number });
  }

  shiftRight(to: number, bits: number): this {
    return this.#emit(OPCODE.shiftRight, { to, number: bits });
  }

  /** The lower 16 bits in network order; the others are gone. */
  toNetworkOrder(register: number): this {
    return this.#emit(OPCODE.swap, { to: register, number: SWAP_16 });
  }

  /** Keeps the bits that are set in the number, and above the lower 32 all or none, as its highest bit says. */
  and(to: number, number: number): this {
    return this.#emit(OPCODE.andNumber, { to, number });
  }

  jump(label: string): this {
    return this.#jump(OPCODE.jump, label);
  }

  ifEqual(register: number, number: number, label: string): this {
    return this.#jump(OPCODE.ifEqual, label, { to: register, number });
  }

  /** Where a helper found nothing. */
  ifNull(register: number, label: string): this {
    return this.#jump(OPCODE.ifNull, label, { to: register });
  }

  /** Where a helper did not succeed. */
  ifNotNull(register: number, label: string): this {
    return this.#jump(OPCODE.ifNotNull, label, { to: register });
  }

  ifNot(register: number, number: number, label: string): this {
    return this.#jump(OPCODE.ifNot, label, { to: register, number });
  }

  ifMoreThan(register: number, number: number, label: string): this {
    return this.#jump(OPCODE.ifMoreThanNumber, label, { to: register, number });
  }

  /** Where the first register holds more than the second. */
  ifMore(register: number, other: number, label: string): this {
    return this.#jump(OPCODE.ifMore, label, { to: register, from: other });
  }

  /** A helper of the kernel's, by its number (linux/bpf.h). */
  call(helper: number): this {
    return this.#emit(OPCODE.call, { number: helper });
  }

  return(number: number): this {
    return this.set(0, number).leave();
  }

  /** Returns what is in r0. */
  leave(): this {
    return this.#emit(OPCODE.exit);
  }

  /** Throws RangeError for a jump to a label that is nowhere. */
  assemble(): Buffer {
    for (const { at, label } of this.#jumps) {
      const target = this.#labels.get(label);
      if (target === undefined) throw new RangeError(`no label ${label}`);
      // Counted from the instruction after the jump.
      this.#code[2 * at]! |= (target - at - 1) << 16;
    }
    return Buffer.from(Int32Array.from(this.#code).buffer);
  }
}
