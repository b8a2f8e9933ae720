/**
 * The table that turns a sandbox's queries to our resolver, as one raw nfnetlink batch on one socket (154 µs and 15 KB;
 * a libnftables context per sandbox would cost 0.6 MB). `flags owner` ties the table to that socket: when it closes,
 * our death included, the kernel removes the table and Docker's own resolver answers again.
 *
 *   table ip NAME { flags owner
 *     chain out { type nat hook output priority -110; policy accept
 *       ip daddr 127.0.0.11 udp dport 53 dnat to 127.0.0.11:UDP
 *       ip daddr 127.0.0.11 tcp dport 53 dnat to 127.0.0.11:TCP } }
 *
 * Numbers from linux/netfilter/nf_tables.h; all integers are big-endian.
 */
import { check, lastErrno, sys } from './ffi.ts';
import { attribute, nested, text } from './attributes.ts';
import { encodeMessage, errorOf, NLM_F_ACK, NLM_F_APPEND, NLM_F_CREATE, NLMSG_ERROR, parseMessages, type Message } from './netlink-message.ts';
import { KERNEL, openSocket } from './netlink-socket.ts';
import { KernelError, type Netns } from './types.ts';

const NETLINK_NETFILTER = 12;
const NFNL_SUBSYS_NFTABLES = 10;
const NFNL_MSG_BATCH_BEGIN = 16;
const NFNL_MSG_BATCH_END = 17;
const MSG = { NEWTABLE: 0, DELTABLE: 2, NEWCHAIN: 3, NEWRULE: 6 } as const;
const NFPROTO_IPV4 = 2;
const NF_INET_LOCAL_OUT = 3;
const NF_ACCEPT = 1;
const TABLE_F_OWNER = 2;
const MSG_DONTWAIT = 0x40;
/** Before Docker's own rules at -100, in iptables' and in nftables' form. */
const PRIORITY = -110;
const REGISTER_1 = 1;
const REGISTER_2 = 2;

export interface DnsHook {
  /** false where the kernel has no owned tables (before 5.12): then the table must be removed by close, and outlives a crash. */
  readonly owned: boolean;
  close(): void;
}

export function hookDns(netns: Netns, { tableName, udpPort, tcpPort }: { tableName: string; udpPort: number; tcpPort: number }): DnsHook {
  const fd = openSocket(netns, NETLINK_NETFILTER);
  const close = (): void => void sys.close(fd);
  try {
    const build = (flags: number): Message[] => [
      message(MSG.NEWTABLE, text(1, tableName), be32(2, flags)),
      message(MSG.NEWCHAIN, text(1, tableName), text(3, 'out'), nested(4, be32(1, NF_INET_LOCAL_OUT), be32(2, PRIORITY)), be32(5, NF_ACCEPT), text(7, 'nat')),
      redirect(tableName, 17, udpPort), redirect(tableName, 6, tcpPort),
    ];
    try {
      transact(fd, build(TABLE_F_OWNER));
      return { owned: true, close };
    } catch (error) {
      if (!(error instanceof KernelError) || !['EOPNOTSUPP', 'EINVAL'].includes(error.code)) throw error;
    }
    transact(fd, build(0));
    return {
      owned: false,
      close: () => {
        try {
          transact(fd, [message(MSG.DELTABLE, text(1, tableName))]);
        } finally {
          close();
        }
      },
    };
  } catch (error) {
    close();
    throw error;
  }
}

function transact(fd: number, messages: readonly Message[]): void {
  const what = 'hook up the resolver';
  const all = [batchEdge(NFNL_MSG_BATCH_BEGIN), ...messages, batchEdge(NFNL_MSG_BATCH_END)];
  // Acknowledged each: the kernel answers a refused batch with the errors of all its messages, and a good one with nothing else.
  const data = Buffer.concat(all.map((each, i) => encodeMessage(i > 0 && i < all.length - 1 ? { ...each, flags: each.flags | NLM_F_ACK } : each, i + 1)));
  check(what, sys.sendto(fd, data, data.length, 0, KERNEL, KERNEL.length));
  const buffer = Buffer.alloc(16384);
  const pending = new Set(messages.map((_, i) => i + 2));
  let failure: KernelError | undefined;
  while (pending.size > 0) {
    const length = sys.recv(fd, buffer, buffer.length, MSG_DONTWAIT) as number;
    if (length < 0) throw failure ?? new KernelError(what, lastErrno());
    for (const reply of parseMessages(buffer.subarray(0, length))) {
      pending.delete(reply.sequence);
      if (reply.type === NLMSG_ERROR) failure ??= errorOf(what, reply);
      // An error of the batch itself (no permission, no such subsystem) comes for its first message, alone.
      if (reply.sequence === 1 && failure) throw failure;
    }
  }
  if (failure) throw failure;
}

/** struct nfgenmsg: family, version, resource id (big-endian). */
const nfgenmsg = (family: number, resource: number): Buffer => Buffer.from([family, 0, resource >>> 8, resource & 255]);
const batchEdge = (type: number): Message => ({ type, flags: 0, body: nfgenmsg(0, NFNL_SUBSYS_NFTABLES) });
const message = (type: number, ...attributes: Buffer[]): Message =>
  ({ type: (NFNL_SUBSYS_NFTABLES << 8) | type, flags: NLM_F_CREATE | (type === MSG.NEWRULE ? NLM_F_APPEND : 0), body: Buffer.concat([nfgenmsg(NFPROTO_IPV4, 0), ...attributes]) });

function be32(type: number, value: number): Buffer {
  const payload = Buffer.alloc(4);
  payload.writeInt32BE(value | 0, 0);
  return attribute(type, payload);
}

/** NFTA_LIST_ELEM { NFTA_EXPR_NAME, NFTA_EXPR_DATA } */
const expression = (name: string, ...data: Buffer[]): Buffer => nested(1, text(1, name), nested(2, ...data));
const value = (bytes: Uint8Array): Buffer => nested(3, attribute(1, bytes));

/** Loads bytes of a header into register 1 and goes on only where they are equal. */
const payloadIs = (base: number, offset: number, bytes: Uint8Array): Buffer[] => [
  expression('payload', be32(1, REGISTER_1), be32(2, base), be32(3, offset), be32(4, bytes.length)),
  expression('cmp', be32(1, REGISTER_1), be32(2, 0), value(bytes)),
];

function redirect(tableName: string, protocol: number, port: number): Message {
  const resolver = Uint8Array.of(127, 0, 0, 11);
  const immediate = (register: number, bytes: Uint8Array): Buffer => expression('immediate', be32(1, register), nested(2, attribute(1, bytes)));
  return message(MSG.NEWRULE, text(1, tableName), text(2, 'out'), nested(
    4,
    ...payloadIs(1, 16, resolver),
    expression('meta', be32(1, REGISTER_1), be32(2, 16)),
    expression('cmp', be32(1, REGISTER_1), be32(2, 0), value(Uint8Array.of(protocol))),
    ...payloadIs(2, 2, Uint8Array.of(0, 53)),
    immediate(REGISTER_1, resolver), immediate(REGISTER_2, Uint8Array.of(port >>> 8, port & 255)),
    // type destination, family, address from register 1, port from register 2
    expression('nat', be32(1, 1), be32(2, NFPROTO_IPV4), be32(3, REGISTER_1), be32(5, REGISTER_2)),
  ));
}
