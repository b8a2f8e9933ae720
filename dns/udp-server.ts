/**
 * DNS over UDP on a socket made elsewhere. Node's own sockets spend as much again around each system call; these are read and written by plain
 * calls, and in batches all datagrams that wait are taken by one call and answered by another.
 */
import { createDatagramBatch, type DatagramBatch } from '../linux/datagram-batch.ts';
import { createDatagramSingle } from '../linux/datagram-single.ts';
import { lastErrno } from '../linux/ffi.ts';
import { whenReadable } from '../linux/readable.ts';
import { KernelError } from '../linux/types.ts';
import type { Chain } from './responder.ts';
import { directSender } from './sockets.ts';

/** Datagrams that came alone and are answered in one turn of the event loop. */
const MOST_SINGLES = 32;

/** One each for all sockets, since they are never in use across turns; 512 KiB for several, when they are needed for the first time. */
let sharedSeveral: DatagramBatch | undefined;
let sharedSingle: DatagramBatch | undefined;

export interface UdpServerOptions {
  /** Everybody's, or who asks from an address has one of his own. */
  chain: Chain | { of(address: string): Chain };
  /** Take several at a time. */
  batches: boolean;
  /** Also of answers that the kernel does not take: a client's firewall, a full queue. */
  onError: (error: Error) => void;
}

/** Takes the descriptor over. Returns the way to stop. */
export function serveUdp(fd: number, { chain, batches, onError }: UdpServerOptions): () => void {
  const single = sharedSingle ??= createDatagramSingle();
  const several = (batches ? sharedSeveral ??= createDatagramBatch() : undefined) ?? single;
  const send = directSender(fd);
  const notSent = (): void => onError(new KernelError('send an answer', lastErrno()));
  let open = true;
  /** There was a question in this turn that did not come before. */
  let isNew = false;
  /** More than one waited when it was looked last. */
  let isBusy = false;
  const everybodys = 'of' in chain ? undefined : chain;
  const chainAt = (batch: DatagramBatch, i: number): Chain => ('of' in chain ? chain.of(batch.peer(i).address) : chain);

  /** How many there were. */
  function answerSome(batch: DatagramBatch): number {
    const { questions, answers } = batch;
    const knownToAll = everybodys?.known();
    const count = batch.receive(fd);
    for (let i = 0; i < count; i++) {
      const length = batch.length(i);
      if (length < 0) continue;
      const question = questions[i]!;
      const out = answers[i]!;
      const written = (knownToAll ?? chainAt(batch, i).known()).write(question, length, out);
      if (written > 0) {
        batch.answer(i, written);
        continue;
      }
      isNew = true;
      const answer = chainAt(batch, i)(question.subarray(0, length), 'udp', out);
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
    return count;
  }

  // One batch in a turn, so that who floods us does not hold up everybody else. After one that came alone it is worth a look: who got the answer may have
  // asked the next already, which then need not wait for the event loop. A call for several costs more where there is but one.
  const stop = whenReadable(fd, () => {
    isNew = false;
    let count = answerSome(isBusy ? several : single);
    for (let round = 1; round < MOST_SINGLES && count === 1; round++) count = answerSome(several);
    isBusy = count > 1;
    return isNew;
  });
  return () => {
    open = false;
    stop();
  };
}
