/**
 * DNS over UDP on a socket made elsewhere. Node's own sockets take one datagram with each system call, and spend as much again around it; in
 * batches all that wait are taken by one call and answered by another.
 */
import { createDatagramBatch, type DatagramBatch } from '../linux/datagram-batch.ts';
import { lastErrno } from '../linux/ffi.ts';
import { whenReadable } from '../linux/readable.ts';
import { KernelError } from '../linux/types.ts';
import type { Chain } from './responder.ts';
import { datagramSocket, directSender } from './sockets.ts';

/** The largest answer of our own over UDP. */
const UDP_BYTES = 4096;

/** One for all sockets, since it is never in use across turns; 512 KiB, when it is needed for the first time. */
let shared: DatagramBatch | undefined;

export interface UdpServerOptions {
  chain: Chain;
  /** Take several at a time. */
  batches: boolean;
  /** Also of answers that the kernel does not take: a client's firewall, a full queue. */
  onError: (error: Error) => void;
}

/** Takes the descriptor over. Returns the way to stop. */
export function serveUdp(fd: number, { batches, ...options }: UdpServerOptions): () => void {
  const batch = batches ? shared ??= createDatagramBatch() : undefined;
  return batch ? serveBatches(fd, batch, options) : serveEach(fd, () => options.chain, options.onError);
}

type Options = Omit<UdpServerOptions, 'batches'>;

function serveBatches(fd: number, batch: DatagramBatch, { chain, onError }: Options): () => void {
  const { questions, answers } = batch;
  const send = directSender(fd);
  const notSent = (): void => onError(new KernelError('send an answer', lastErrno()));
  let open = true;

  /** One batch in a turn, so that who floods us does not hold up everybody else. Whether there was a question that did not come before. */
  function answerSome(): boolean {
    let isNew = false;
    const known = chain.known();
    const count = batch.receive(fd);
    for (let i = 0; i < count; i++) {
      const length = batch.length(i);
      if (length < 0) continue;
      const question = questions[i]!;
      const out = answers[i]!;
      const written = known.write(question, length, out);
      if (written > 0) {
        batch.answer(i, written);
        continue;
      }
      isNew = true;
      const answer = chain(question.subarray(0, length), 'udp', out);
      if (typeof answer === 'number') {
        batch.answer(i, answer);
        continue;
      }
      const { port, address } = batch.peer(i);
      // Who works on it goes on reading the question.
      batch.release(i);
      void answer.then((reply) => {
        if (open && !send(reply, reply.length, port, address)) notSent();
      });
    }
    batch.send(fd, notSent);
    return isNew;
  }

  const stop = whenReadable(fd, answerSome);
  return () => {
    open = false;
    stop();
  };
}

/** One datagram at a time, for servers whose clients have chains of their own. Takes the descriptor over; returns the way to stop. */
export function serveEach(fd: number, chainOf: (address: string) => Chain, onError: (error: Error) => void): () => void {
  const socket = datagramSocket(fd);
  const out = Buffer.allocUnsafe(UDP_BYTES);
  const send = directSender(fd);
  let open = true;
  // With a callback, failed sends are no events of the socket.
  const sent = (error: Error | null): void => {
    if (error) onError(error);
  };

  socket.on('error', onError);
  socket.on('message', (message, { address, port }) => {
    const chain = chainOf(address);
    const answer = chain.known().write(message, message.length, out) || chain(message, 'udp', out);
    if (typeof answer !== 'number') {
      void answer.then((reply) => {
        if (open) socket.send(reply, port, address, sent);
      });
    } else if (answer > 0 && !send(out, answer, port, address)) {
      socket.send(Buffer.from(out.subarray(0, answer)), port, address, sent);
    }
  });
  return () => {
    open = false;
    socket.close();
  };
}
