/**
 * nfnetlink: the netlink family of nftables and connection tracking (linux/netfilter/nfnetlink.h), and the transactions
 * of nftables on it: messages between NFNL_MSG_BATCH_BEGIN and _END take effect together or not at all.
 */
import { attribute } from './attributes.ts';
import { check, lastErrno, sys } from './ffi.ts';
import { encodeMessage, errorOf, NLM_F_ACK, NLMSG_ERROR, parseMessages, type Message } from './netlink-message.ts';
import { KERNEL } from './netlink-socket.ts';
import { KernelError } from './types.ts';

export const NFNL_SUBSYS_CTNETLINK = 1;
export const NFNL_SUBSYS_NFTABLES = 10;
const NFNL_MSG_BATCH_BEGIN = 16;
const NFNL_MSG_BATCH_END = 17;

/** Error reports come one a datagram, and not with the message at fault in them. */
const ANSWER_BYTES = 4096;
const answer = Buffer.allocUnsafe(ANSWER_BYTES);

/** struct nfgenmsg: address family, version, resource (big-endian). */
export const nfgenmsg = (family: number, resource = 0): Buffer => Buffer.from([family, 0, resource >>> 8, resource & 255]);

/** nfnetlink's integers are big-endian. */
export function be32(type: number, value: number): Buffer {
  const payload = Buffer.alloc(4);
  payload.writeInt32BE(value | 0, 0);
  return attribute(type, payload);
}

export const readBe32 = (payload: Buffer | undefined): number | undefined => (payload && payload.length >= 4 ? payload.readInt32BE(0) : undefined);

/** A refused transaction: `refused` are positions in what was sent, in order. The error's own code is the first one's. */
export class TransactionError extends KernelError {
  readonly refused: readonly { index: number; error: KernelError }[];
  constructor(what: string, refused: readonly { index: number; error: KernelError }[]) {
    const { code, detail } = refused[0]!.error;
    super(what, code, detail);
    this.refused = refused;
  }
}

const edge = (type: number): Message => ({ type, flags: 0, body: nfgenmsg(0, NFNL_SUBSYS_NFTABLES) });

/**
 * One transaction of nftables messages on a socket that serves nothing else, about 20 µs and 10 µs a message.
 * Throws TransactionError, or KernelError when the transaction as a whole was refused.
 */
export function transact(fd: number, what: string, messages: readonly Message[]): void {
  const last = messages.length - 1;
  const data = Buffer.concat([
    encodeMessage(edge(NFNL_MSG_BATCH_BEGIN), 0),
    // The kernel goes on after an error and reports them all; that it got to the end is seen from the last one's answer.
    ...messages.map((message, i) => encodeMessage(i === last ? { ...message, flags: message.flags | NLM_F_ACK } : message, i + 1)),
    encodeMessage(edge(NFNL_MSG_BATCH_END), messages.length + 1),
  ]);
  check(what, sys.sendto(fd, data, data.length, 0, KERNEL, KERNEL.length));
  const answers = receive(fd, what);
  const whole = answers.find(({ index }) => index < 0)?.error;
  if (whole) throw whole;
  const refused = answers.flatMap(({ index, error }) => (error ? [{ index, error }] : []));
  if (refused.length > 0) throw new TransactionError(what, refused);
  if (!answers.some(({ index }) => index === last)) throw new KernelError(what, 'EIO', 'the kernel did not answer');
}

/** The kernel has worked and answered inside the send: all answers are there, and none is left behind. */
function receive(fd: number, what: string): { index: number; error: KernelError | undefined }[] {
  const answers = [];
  let lost: KernelError | undefined;
  for (;;) {
    const length = sys.recv(fd, answer, ANSWER_BYTES, 0) as number;
    if (length < 0) {
      const code = lastErrno();
      if (code === 'EAGAIN' && lost) throw lost;
      if (code === 'EAGAIN') return answers;
      if (code !== 'ENOBUFS') throw new KernelError(what, code);
      // More refusals than the socket holds: those that are there must not be taken for the next transaction's.
      lost = new KernelError(what, code);
      continue;
    }
    for (const message of parseMessages(answer.subarray(0, length))) {
      if (message.type === NLMSG_ERROR) answers.push({ index: message.sequence - 1, error: errorOf(what, message) });
    }
  }
}
