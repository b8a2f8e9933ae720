/** One datagram of IPv4 in each system call, behind the same interface as several, and cheaper where only one waits. Needs no structures of the processor. */
import { sys } from './ffi.ts';
import { DATAGRAM_BYTES, type DatagramBatch } from './datagram-batch.ts';

const SOCKADDR = 16;
const MSG_DONTWAIT = 0x40;
/** What came is told in its own length, also where it is longer than the buffer. */
const MSG_TRUNC = 0x20;

export function createDatagramSingle(): DatagramBatch {
  const questions = [Buffer.allocUnsafeSlow(DATAGRAM_BYTES)];
  const answers = [Buffer.allocUnsafeSlow(DATAGRAM_BYTES)];
  const peer = Buffer.alloc(SOCKADDR);
  const peerLength = new Uint32Array(1);
  let received = 0;
  let answered = 0;

  return {
    receive: (fd) => {
      peerLength[0] = SOCKADDR;
      answered = 0;
      received = Number(sys.recvfrom(fd, questions[0], DATAGRAM_BYTES, MSG_DONTWAIT | MSG_TRUNC, peer, peerLength));
      return received < 0 ? 0 : 1;
    },
    questions,
    answers,
    length: () => (received > DATAGRAM_BYTES ? -1 : received),
    release: () => void (questions[0] = Buffer.allocUnsafeSlow(DATAGRAM_BYTES)),
    peer: () => ({ port: peer.readUInt16BE(2), address: peer.subarray(4, 8).join('.') }),
    answer: (_, length) => void (answered = length),
    send: (fd, failed) => {
      if (answered > 0 && Number(sys.sendto(fd, answers[0], answered, MSG_DONTWAIT, peer, SOCKADDR)) < 0) failed();
    },
  };
}
