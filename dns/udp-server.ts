/**
 * DNS over UDP on a socket made elsewhere. Node takes one datagram with each system call; where more of them wait, these are
 * taken and answered together.
 */
import { createDatagramBatch, type DatagramBatch } from '../linux/datagram-batch.ts';
import type { Chain } from './responder.ts';
import { datagramSocket, directSender } from './sockets.ts';

/** The largest answer of our own over UDP. */
const UDP_BYTES = 4096;
/** Where none waited so many times in a row, only every 64th datagram is a reason to look. */
const MOST_MISSES = 6;

/** One for all sockets, since it is never in use across turns; 256 KiB, when it is needed for the first time. */
let shared: DatagramBatch | undefined;

export interface UdpServerOptions {
  chain: Chain;
  /** Take several at a time. */
  batches: boolean;
  onError: (error: Error) => void;
}

/** Takes the descriptor over. Returns the way to stop. */
export function serveUdp(fd: number, { chain, batches, onError }: UdpServerOptions): () => void {
  const socket = datagramSocket(fd);
  let open = true;
  const out = Buffer.allocUnsafe(UDP_BYTES);
  const send = directSender(fd);
  let misses = MOST_MISSES;
  let drained = false;
  let ignored = 0;
  // With a callback, failed sends (a full queue, a client's firewall) are no events of the socket.
  const sent = (error: Error | null): void => {
    if (error) onError(error);
  };
  const sendLater = (answer: Promise<Buffer>, port: number, address: string): void => void answer.then((reply) => {
    if (open) socket.send(reply, port, address, sent);
  });

  socket.on('error', onError);
  socket.on('message', (message, { address, port }) => {
    const answer = chain.again(message, message.length, out) || chain(message, 'udp', out);
    if (typeof answer !== 'number') {
      sendLater(answer, port, address);
    } else if (answer > 0 && !send(out, answer, port, address)) {
      socket.send(Buffer.from(out.subarray(0, answer)), port, address, sent);
    }
    if (!batches || drained || ++ignored < 1 << misses) return;
    ignored = 0;
    // libuv reads up to 32 datagrams in a row: one batch behind all of them, or who floods us holds up everybody else.
    drained = true;
    setImmediate(() => (drained = false));
    misses = drain() > 0 ? 0 : Math.min(misses + 1, MOST_MISSES);
  });

  /** Answers what waits, up to a batch; how many it were. */
  function drain(): number {
    const batch = shared ??= createDatagramBatch();
    const count = batch?.receive(fd) ?? 0;
    if (!batch || count === 0) return 0;
    for (let i = 0; i < count; i++) {
      const out = batch.out(i);
      const length = batch.length(i);
      const answer = length < 0 ? 0 : chain.again(batch.buffer(i), length, out) || chain(batch.buffer(i).subarray(0, length), 'udp', out);
      if (typeof answer === 'number') {
        batch.setLength(i, answer);
        continue;
      }
      const { port, address } = batch.peer(i);
      // Who works on it goes on reading the question.
      batch.release(i);
      sendLater(answer, port, address);
    }
    batch.send(fd, (i) => {
      const { port, address } = batch.peer(i);
      socket.send(Buffer.from(batch.answer(i)), port, address, sent);
    });
    return count;
  }

  return () => {
    open = false;
    socket.close();
  };
}
