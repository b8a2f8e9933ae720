/**
 * Requests that take the kernel milliseconds (deleting a link, moving one), done on a thread of libuv's pool, on a
 * socket of their own. One at a time in the whole process: the kernel does them one after the other anyway, and a
 * namespace more must not cost a thread of the pool more.
 */
import { sys } from './ffi.ts';
import { NLMSG_ERROR, NLM_F_ACK, encodeMessage, errorOf, parseMessages, type Message } from './netlink-message.ts';
import { KERNEL, openSocket } from './netlink-socket.ts';
import { KernelError, type Netns } from './types.ts';

const ANSWER_BYTES = 4096;

export interface SlowLane {
  /** `message` is called when its turn comes. */
  request(what: string, message: () => Message): Promise<void>;
  /** What is under way is finished, what waits is refused with EBADF. */
  close(): void;
}

/** Ends when everything asked for so far is done. */
let tail: Promise<unknown> = Promise.resolve();

export function openSlowLane(netns: Netns, protocol: number): SlowLane {
  let fd: number | undefined;
  let closed = false;
  let busy = false;

  async function run(what: string, make: () => Message): Promise<void> {
    if (closed) throw new KernelError(what, 'EBADF', 'the netlink socket is closed');
    fd ??= openSocket(netns, protocol);
    const message = make();
    busy = true;
    try {
      await exchange(fd, what, { ...message, flags: message.flags | NLM_F_ACK });
    } finally {
      busy = false;
      if (closed) closeNow();
    }
  }

  function closeNow(): void {
    if (fd !== undefined) sys.close(fd);
    fd = undefined;
  }

  return {
    request: (what, message) => {
      const result = tail.then(() => run(what, message));
      tail = result.catch(() => {});
      return result;
    },
    close: () => {
      closed = true;
      // A descriptor closed under the thread that uses it might be somebody else's by then.
      if (!busy) closeNow();
    },
  };
}

async function exchange(fd: number, what: string, message: Message): Promise<void> {
  const data = encodeMessage(message, 0);
  await new Promise<void>((resolve, reject) => {
    sys.sendto.async(fd, data, data.length, 0, KERNEL, KERNEL.length, (error: Error | null, sent: number) => {
      if (error) reject(error);
      // errno belongs to the pool's thread, it cannot be read here.
      else if (sent < 0) reject(new KernelError(what, 'EIO', 'the request could not be sent'));
      else resolve();
    });
  });
  const answer = Buffer.alloc(ANSWER_BYTES);
  const length = sys.recv(fd, answer, ANSWER_BYTES, 0) as number;
  const reply = parseMessages(answer.subarray(0, Math.max(length, 0))).find(({ type }) => type === NLMSG_ERROR);
  if (!reply) throw new KernelError(what, 'EIO', 'the kernel did not answer');
  const error = errorOf(what, reply);
  if (error) throw error;
}
