/**
 * A netlink socket for requests: synchronous, one question at a time, never in a multicast group, so that no
 * notification can be taken for an answer. The kernel works inside the send, so the reply is there when it returns,
 * and nothing here ever waits.
 */
import { check, sys } from './ffi.ts';
import {
  encodeMessage, errorOf, NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLMSG_DONE, NLMSG_ERROR, parseMessages, type Message, type ReceivedMessage,
} from './netlink-message.ts';
import { KernelError, type Netns } from './types.ts';

const AF_NETLINK = 16;
const SOCK_RAW = 3;
const SOCK_NONBLOCK = 0o4000;
const SOCK_CLOEXEC = 0o2000000;
const SOL_SOCKET = 1;
const SO_SNDBUFFORCE = 32;
const SO_RCVBUFFORCE = 33;
const SOL_NETLINK = 270;
const NETLINK_CAP_ACK = 10;
const NETLINK_EXT_ACK = 11;
const NETLINK_GET_STRICT_CHK = 12;
const MSG_TRUNC = 0x20;
const ADDRESS_SIZE = 12;
export const NETLINK_NETFILTER = 12;

/** The kernel sends dumps in datagrams of at most 32 KiB; a single link with very many attributes may take more. */
const BUFFER_BYTES = 1 << 20;
/** Room for one error report (under 1 KiB with its bookkeeping) for each message of a batch. */
const RECEIVE_BYTES = 4 << 20;
/** Batches are cut into sends of this size: larger ones gain nothing and must fit the socket's buffer. */
const BATCH_BYTES = 64 << 10;
const DUMP_ATTEMPTS = 10;

/** Shared: what is received is copied or decoded before the next call. */
const buffer = Buffer.allocUnsafe(BUFFER_BYTES);

export interface Reply { type: number; body: Buffer }
/** `index` is the position of the refused message in the batch. */
export interface BatchError { index: number; error: KernelError }

export interface NetlinkSocket {
  /** Throws KernelError EBADF when it is closed. */
  readonly fd: number;
  /** Sends one message and returns what came before its acknowledgement. Throws KernelError. */
  request(what: string, message: Message): Reply[];
  /** A whole table, read again where it changed meanwhile. */
  dump(what: string, type: number, body: Uint8Array): Reply[];
  /** Sends all, whatever becomes of the others; only the last of a send is acknowledged, since the kernel reports failures anyway. */
  batch(what: string, messages: readonly Message[]): BatchError[];
  close(): void;
}

/** Never blocks. `groups` is for monitors only: a bit mask of the multicast groups 1 to 32. */
export function openSocket(netns: Netns, protocol: number, groups = 0): number {
  const fd = netns.run(() => check('open a netlink socket', sys.socket(AF_NETLINK, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, protocol)));
  try {
    check('bind a netlink socket', sys.bind(fd, address(groups), ADDRESS_SIZE));
    for (const option of [NETLINK_EXT_ACK, NETLINK_CAP_ACK]) setOption(fd, SOL_NETLINK, option, 1);
    setOption(fd, SOL_SOCKET, SO_SNDBUFFORCE, 1 << 20);
    setOption(fd, SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BYTES);
  } catch (error) {
    sys.close(fd);
    throw error;
  }
  return fd;
}

/** Makes the kernel apply the filters of a dump (one link's addresses, one table's routes) instead of ignoring them. */
export const checkStrictly = (fd: number): void => setOption(fd, SOL_NETLINK, NETLINK_GET_STRICT_CHK, 1);

/** What has come, as a view that is good until the next call; of a dump about `room` bytes at a time. Throws KernelError, EAGAIN where nothing has. */
export function receiveDatagram(what: string, fd: number, room = BUFFER_BYTES): Buffer {
  const length = check(what, sys.recv(fd, buffer, room, MSG_TRUNC));
  if (length > room) throw new KernelError(what, 'EMSGSIZE', `an answer of ${length} bytes`);
  return buffer.subarray(0, length);
}

export function setOption(fd: number, level: number, option: number, value: number): void {
  const bytes = Buffer.alloc(4);
  bytes.writeInt32LE(value, 0);
  check('set an option of a netlink socket', sys.setsockopt(fd, level, option, bytes, bytes.length));
}

/** sockaddr_nl; port 0 is the kernel's as a destination, and a free one for bind. */
function address(groups: number): Buffer {
  const bytes = Buffer.alloc(ADDRESS_SIZE);
  bytes.writeUInt16LE(AF_NETLINK, 0);
  bytes.writeUInt32LE(groups >>> 0, 8);
  return bytes;
}
export const KERNEL = address(0);

let closing: Promise<unknown> = Promise.resolve();

/**
 * An nfnetlink socket is closed on a thread of libuv's pool: where something was deleted from its namespace's tables
 * just before, or a table goes with the socket, the kernel waits for all CPUs first (15 ms; nft_rcv_nl_event in
 * net/netfilter/nf_tables_api.c). One at a time: all wait for the same thing, so the second one hardly waits any more.
 */
function closeSocket(fd: number, protocol: number): void {
  if (protocol === NETLINK_NETFILTER) closing = closing.then(() => new Promise((resolve) => void sys.close.async(fd, resolve)));
  else sys.close(fd);
}

export function openNetlink(netns: Netns, protocol: number): NetlinkSocket {
  let fd = openSocket(netns, protocol);
  checkStrictly(fd);
  let sequence = 0;

  const nextSequence = (): number => (sequence = (sequence + 1) >>> 0);

  function openFd(what: string): number {
    if (fd < 0) throw new KernelError(what, 'EBADF', 'the netlink socket is closed');
    return fd;
  }

  const send = (what: string, data: Buffer): void => void check(what, sys.sendto(openFd(what), data, data.length, 0, KERNEL, KERNEL.length));

  /** Hands over messages until `take` says that it has seen the last. Those of an earlier, broken-off exchange are skipped. */
  function receive(what: string, first: number, take: (message: ReceivedMessage) => boolean): void {
    for (;;) {
      let done = false;
      for (const message of parseMessages(receiveDatagram(what, fd))) {
        if (((message.sequence - first) | 0) >= 0 && take(message)) done = true;
      }
      if (done) return;
    }
  }

  function dumpOnce(what: string, type: number, body: Uint8Array): Reply[] | undefined {
    const seq = nextSequence();
    send(what, encodeMessage({ type, flags: NLM_F_DUMP, body }, seq));
    const replies: Reply[] = [];
    let interrupted = false;
    let failure: KernelError | undefined;
    receive(what, seq, (message) => {
      if (message.flags & NLM_F_DUMP_INTR) interrupted = true;
      if (message.type !== NLMSG_ERROR && message.type !== NLMSG_DONE) {
        replies.push({ type: message.type, body: Buffer.from(message.body) });
        return false;
      }
      failure = errorOf(what, message);
      return true;
    });
    if (failure) throw failure;
    return interrupted ? undefined : replies;
  }

  /** One send; returns how many messages it took. */
  function sendSome(what: string, messages: readonly Message[], start: number, errors: BatchError[]): number {
    const first = (sequence + 1) >>> 0;
    const parts: Buffer[] = [];
    for (let index = start, size = 0; index < messages.length && size < BATCH_BYTES; index++) {
      const part = encodeMessage(messages[index]!, nextSequence());
      size += part.length;
      parts.push(part);
    }
    const last = parts.at(-1)!;
    last.writeUInt16LE(last.readUInt16LE(6) | NLM_F_ACK, 6);
    send(what, Buffer.concat(parts));
    receive(what, first, (message) => {
      const error = message.type === NLMSG_ERROR ? errorOf(what, message) : undefined;
      if (error) errors.push({ index: start + ((message.sequence - first) >>> 0), error });
      return message.sequence === sequence && message.type === NLMSG_ERROR;
    });
    return parts.length;
  }

  return {
    get fd() { return openFd('use a netlink socket'); },
    request: (what, message) => {
      const seq = nextSequence();
      send(what, encodeMessage({ ...message, flags: message.flags | NLM_F_ACK }, seq));
      const replies: Reply[] = [];
      let failure: KernelError | undefined;
      receive(what, seq, (answer) => {
        if (answer.type !== NLMSG_ERROR) {
          replies.push({ type: answer.type, body: Buffer.from(answer.body) });
          return false;
        }
        failure = errorOf(what, answer);
        return true;
      });
      if (failure) throw failure;
      return replies;
    },
    dump: (what, type, body) => {
      for (let attempt = 0; attempt < DUMP_ATTEMPTS; attempt++) {
        const replies = dumpOnce(what, type, body);
        if (replies) return replies;
      }
      throw new KernelError(what, 'EINTR', 'the table kept changing while it was read');
    },
    batch: (what, messages) => {
      const errors: BatchError[] = [];
      for (let start = 0; start < messages.length;) start += sendSome(what, messages, start, errors);
      return errors;
    },
    close: () => {
      if (fd >= 0) closeSocket(fd, protocol);
      fd = -1;
    },
  };
}
