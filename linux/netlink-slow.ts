/**
 * Requests that take the kernel milliseconds (deleting a link, moving one), done on a thread of libuv's pool. One at a
 * time: the kernel holds its lock for the whole of each anyway.
 */
import { sys } from './ffi.ts';
import { NLMSG_ERROR, NLM_F_ACK, encodeMessage, errorOf, parseMessages, type Message } from './netlink-message.ts';
import { KERNEL, openSocket } from './netlink-socket.ts';
import { KernelError, type Netns } from './types.ts';

const MSG_DONTWAIT = 0x40;
const ANSWER_BYTES = 4096;

export interface SlowLane {
  request(what: string, message: Message): Promise<void>;
  /** What is under way is finished, what waits is refused. */
  close(): void;
}

export function openSlowLane(netns: Netns, protocol: number): SlowLane {
  let fd: number | undefined;
  let sequence = 0;
  let tail: Promise<unknown> = Promise.resolve();
  let closed = false;

  async function run(what: string, message: Message): Promise<void> {
    if (closed) throw new KernelError(what, 'EBADF', 'the netlink socket is closed');
    const socket = (fd ??= openSocket(netns, protocol));
    const data = encodeMessage({ ...message, flags: message.flags | NLM_F_ACK }, ++sequence);
    await new Promise<void>((resolve, reject) => {
      sys.sendto.async(socket, data, data.length, 0, KERNEL, KERNEL.length, (error: Error | null, sent: number) => {
        if (error) reject(error);
        // errno belongs to the pool's thread, it cannot be read here.
        else if (sent < 0) reject(new KernelError(what, 'EIO', 'the request could not be sent'));
        else resolve();
      });
    });
    const answer = Buffer.alloc(ANSWER_BYTES);
    for (;;) {
      const length = sys.recv(socket, answer, ANSWER_BYTES, MSG_DONTWAIT) as number;
      if (length < 0) throw new KernelError(what, 'EIO', 'the kernel did not answer');
      const reply = parseMessages(answer.subarray(0, length)).find((each) => each.sequence === sequence && each.type === NLMSG_ERROR);
      if (!reply) continue;
      const error = errorOf(what, reply);
      if (error) throw error;
      return;
    }
  }

  return {
    request: (what, message) => {
      const result = tail.then(() => run(what, message));
      tail = result.catch(() => {});
      return result;
    },
    close: () => {
      closed = true;
      void tail.then(() => {
        if (fd !== undefined) sys.close(fd);
        fd = undefined;
      });
    },
  };
}
