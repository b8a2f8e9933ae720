/**
 * Several datagrams of IPv4 in one system call each way (recvmmsg(2), sendmmsg(2)): on a busy UDP socket the calls cost more than what is done
 * with the datagrams. The kernel is given addresses of these buffers, so they live as long as this module.
 */
import koffi from 'koffi';

const libc = koffi.load('libc.so.6');
const recvmmsg = libc.func('int recvmmsg(int fd, void *messages, uint count, int flags, void *timeout)');
const sendmmsg = libc.func('int sendmmsg(int fd, void *messages, uint count, int flags)');

/** The largest datagram. */
export const DATAGRAM_BYTES = 4096;
/** Datagrams in one call. */
const COUNT = 64;
const MSG_DONTWAIT = 0x40;
const MSG_TRUNC = 0x20;
/** struct mmsghdr of 64 bits: a msghdr, and the length that was received or sent. */
const HEADER = 64;
const AT = { NAME: 0, NAME_LENGTH: 8, VECTOR: 16, VECTORS: 24 } as const;
/** What is read for every datagram, in words of 32 bits: Node reads numbers out of buffers by functions, many times as slow. */
const HEADER_WORDS = HEADER / 4;
const AT_WORD = { FLAGS: 12, LENGTH: 14 } as const;
/** struct iovec: address, length. */
const VECTOR = 16;
const VECTOR_WORDS = VECTOR / 4;
/** In words, as above. */
const AT_LENGTH = 2;
const SOCKADDR = 16;

export interface DatagramBatch {
  /** Takes what waits, without waiting; how many it were. What was taken before is gone. */
  receive(fd: number): number;
  /** Where they are, until the next receive. */
  readonly questions: readonly Buffer[];
  /** Where the answers to them are written, 4096 bytes at most. */
  readonly answers: readonly Buffer[];
  /** -1: longer than its buffer. */
  length(i: number): number;
  /** Its buffer is the caller's from now on. */
  release(i: number): void;
  peer(i: number): { address: string; port: number };
  /** There is an answer, of so many bytes. */
  answer(i: number, length: number): void;
  /** Sends the answers to their peers. `failed` is called for each that the kernel does not take, with its errno in place. */
  send(fd: number, failed: () => void): void;
}

/** `words` and `sizes` are the same memory as `headers` and `vectors`. */
interface Side { headers: Buffer; words: Uint32Array; vectors: Buffer; sizes: Uint32Array; buffers: Buffer[] }

/** undefined where the kernel's structures are other than those of x86-64 and arm64. */
export function createDatagramBatch(): DatagramBatch | undefined {
  if (process.arch !== 'x64' && process.arch !== 'arm64') return undefined;
  const names = Buffer.alloc(COUNT * SOCKADDR);
  const [incoming, outgoing] = [makeSide(names), makeSide(names)];
  const { sizes: lengths } = outgoing;
  let received = 0;

  return {
    receive: (fd) => {
      received = Math.max(0, Number(recvmmsg(fd, incoming.headers, COUNT, MSG_DONTWAIT, null)));
      for (let i = 0; i < received; i++) lengths[i * VECTOR_WORDS + AT_LENGTH] = 0;
      return received;
    },
    questions: incoming.buffers,
    answers: outgoing.buffers,
    length: (i) => ((incoming.words[i * HEADER_WORDS + AT_WORD.FLAGS]! & MSG_TRUNC) === 0 ? incoming.words[i * HEADER_WORDS + AT_WORD.LENGTH]! : -1),
    release: (i) => place(incoming, i, Buffer.allocUnsafeSlow(DATAGRAM_BYTES)),
    peer: (i) => {
      const at = i * SOCKADDR;
      return { port: names.readUInt16BE(at + 2), address: names.subarray(at + 4, at + 8).join('.') };
    },
    answer: (i, length) => void (lengths[i * VECTOR_WORDS + AT_LENGTH] = length),
    send: (fd, failed) => {
      for (let i = 0; i < received;) {
        let end = i;
        while (end < received && lengths[end * VECTOR_WORDS + AT_LENGTH]! > 0) end++;
        if (end === i) {
          i++;
          continue;
        }
        // It ends with the first that fails, and says why only when that is the first of all.
        const sent = Number(sendmmsg(fd, i === 0 ? outgoing.headers : outgoing.headers.subarray(i * HEADER), end - i, MSG_DONTWAIT));
        if (sent < 0) failed();
        i += Math.max(1, sent);
      }
    },
  };
}

/** Both sides have the same peers: who asked is answered. */
function makeSide(names: Buffer): Side {
  const words = new Uint32Array(COUNT * HEADER_WORDS);
  const sizes = new Uint32Array(COUNT * VECTOR_WORDS);
  const side: Side = { words, sizes, headers: Buffer.from(words.buffer), vectors: Buffer.from(sizes.buffer), buffers: [] };
  for (let i = 0; i < COUNT; i++) {
    const header = i * HEADER;
    side.headers.writeBigUInt64LE(BigInt(koffi.address(names)) + BigInt(i * SOCKADDR), header + AT.NAME);
    side.headers.writeUInt32LE(SOCKADDR, header + AT.NAME_LENGTH);
    side.headers.writeBigUInt64LE(BigInt(koffi.address(side.vectors)) + BigInt(i * VECTOR), header + AT.VECTOR);
    side.headers.writeUInt32LE(1, header + AT.VECTORS);
    place(side, i, Buffer.allocUnsafeSlow(DATAGRAM_BYTES));
  }
  return side;
}

function place({ buffers, vectors }: Side, i: number, buffer: Buffer): void {
  buffers[i] = buffer;
  vectors.writeBigUInt64LE(BigInt(koffi.address(buffer)), i * VECTOR);
  vectors.writeUInt32LE(DATAGRAM_BYTES, i * VECTOR + 8);
}
