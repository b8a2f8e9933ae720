/**
 * Whole tables of the kernel that may have thousands of entries, read in pieces: the kernel hands over no more than there is room for, and
 * goes on when it is asked again, so the event loop turns in between. On a socket of its own, since one has room for one dump.
 */
import { setImmediate as nextTurn } from 'node:timers/promises';
import { sys } from './ffi.ts';
import { encodeMessage, errorOf, NLM_F_DUMP, NLMSG_DONE, NLMSG_ERROR, parseMessages } from './netlink-message.ts';
import { KERNEL, checkStrictly, openSocket, receiveDatagram } from './netlink-socket.ts';
import type { Netns } from './types.ts';

/** The least that the kernel fills (NLMSG_GOODSIZE): about a hundred entries. */
const PIECE_BYTES = 8 << 10;

/** `take` gets each entry's body, a view that is good for the call. What changes while it is read may be in it, twice in it, or not. Rejects with KernelError. */
export async function readLarge(netns: Netns, protocol: number, what: string, { type, body }: { type: number; body: Uint8Array }, take: (body: Buffer) => void): Promise<void> {
  const fd = openSocket(netns, protocol);
  try {
    checkStrictly(fd);
    const question = encodeMessage({ type, flags: NLM_F_DUMP, body }, 1);
    sys.sendto(fd, question, question.length, 0, KERNEL, KERNEL.length);
    for (;;) {
      for (const message of parseMessages(receiveDatagram(what, fd, PIECE_BYTES))) {
        if (message.type !== NLMSG_ERROR && message.type !== NLMSG_DONE) {
          take(message.body);
          continue;
        }
        const failure = errorOf(what, message);
        if (failure) throw failure;
        return;
      }
      await nextTurn();
    }
  } finally {
    sys.close(fd);
  }
}
