/**
 * The table that turns a sandbox's queries to our resolver, as one raw transaction on a socket of its own (140 µs and
 * 15 KB; a libnftables context per sandbox would cost 0.6 MB). `flags owner` ties the table to that socket: nobody
 * else can change or flush it, and when the socket closes, our death included, the kernel removes the table and
 * Docker's own resolver answers again.
 *
 *   table ip NAME { flags owner
 *     chain out { type nat hook output priority -110; policy accept
 *       ip daddr 127.0.0.11 udp dport 53 dnat to 127.0.0.11:UDP
 *       ip daddr 127.0.0.11 tcp dport 53 dnat to 127.0.0.11:TCP } }
 *
 * Numbers from linux/netfilter/nf_tables.h.
 */
import { IP_PROTOCOL } from '../base/ip-protocols.ts';
import { attribute, nested, text } from './attributes.ts';
import { NLM_F_APPEND, NLM_F_CREATE, type Message } from './netlink-message.ts';
import { NETLINK_NETFILTER, openNetlink, type NetlinkSocket } from './netlink-socket.ts';
import { be32, NFNL_SUBSYS_NFTABLES, nfgenmsg, transact } from './nfnetlink.ts';
import { KernelError, type Netns } from './types.ts';

const MSG = { NEWTABLE: 0, DELTABLE: 2, NEWCHAIN: 3, NEWRULE: 6 } as const;
const NFPROTO_IPV4 = 2;
const NF_INET_LOCAL_OUT = 3;
const NF_ACCEPT = 1;
const NFT_TABLE_F_OWNER = 2;
/** Before Docker's own rules at -100, in iptables' and in nftables' form. */
const BEFORE_DOCKER = -110;
const REGISTER_1 = 1;
const REGISTER_2 = 2;

export interface DnsHookOptions {
  /** Of this process alone: a table of another owner is refused (EPERM), any other of that name is replaced. */
  tableName: string;
  /** Where our resolver listens on 127.0.0.11 in the namespace. */
  udpPort: number;
  tcpPort: number;
  /** Smaller comes first; Docker's rules are at -100. */
  priority?: number;
}

export interface DnsHook {
  /** false where the kernel has no owned tables (before 5.12): then the table outlives a crash, and only `close` removes it. */
  readonly owned: boolean;
  /** The one that the table is tied to: for nfnetlink's other subsystems, until `close`. */
  readonly socket: NetlinkSocket;
  /** The next query goes where it went before; flows that are open keep their resolver. Idempotent. */
  close(): void;
}

/** Synchronous and complete when it returns. Throws KernelError, leaving nothing behind. */
export function hookDns(netns: Netns, { tableName, udpPort, tcpPort, priority = BEFORE_DOCKER }: DnsHookOptions): DnsHook {
  const socket = openNetlink(netns, NETLINK_NETFILTER);
  const what = 'hook up the resolver';
  const table = (type: number, ...attributes: Buffer[]): Message => message(type, text(1, tableName), ...attributes);
  const remove = table(MSG.DELTABLE);
  const install = (flags: number): void => transact(socket.fd, what, [
    // A table without an owner may be left of a crash: adding to it first makes sure that there is one to delete.
    table(MSG.NEWTABLE), remove,
    table(MSG.NEWTABLE, be32(2, flags)),
    table(MSG.NEWCHAIN, text(3, 'out'), nested(4, be32(1, NF_INET_LOCAL_OUT), be32(2, priority)), be32(5, NF_ACCEPT), text(7, 'nat')),
    redirect(tableName, 'udp', udpPort), redirect(tableName, 'tcp', tcpPort),
  ]);

  let owned = true;
  try {
    try {
      install(NFT_TABLE_F_OWNER);
    } catch (error) {
      if (!(error instanceof KernelError) || !['EOPNOTSUPP', 'EINVAL'].includes(error.code)) throw error;
      install(0);
      owned = false;
    }
  } catch (error) {
    socket.close();
    throw error;
  }

  let open = true;
  return {
    owned,
    socket,
    close: () => {
      if (!open) return;
      open = false;
      try {
        // Owned tables too: the kernel would take 15 ms to remove it with the socket.
        transact(socket.fd, 'unhook the resolver', [remove]);
      } catch (error) {
        if (!(error instanceof KernelError && error.code === 'ENOENT')) throw error;
      } finally {
        socket.close();
      }
    },
  };
}

const message = (type: number, ...attributes: Buffer[]): Message => ({
  type: (NFNL_SUBSYS_NFTABLES << 8) | type,
  flags: NLM_F_CREATE | (type === MSG.NEWRULE ? NLM_F_APPEND : 0),
  body: Buffer.concat([nfgenmsg(NFPROTO_IPV4), ...attributes]),
});

/** NFTA_LIST_ELEM { NFTA_EXPR_NAME, NFTA_EXPR_DATA } */
const expression = (name: string, ...data: Buffer[]): Buffer => nested(1, text(1, name), nested(2, ...data));
const value = (bytes: Uint8Array): Buffer => nested(3, attribute(1, bytes));

/** Loads bytes of a header into register 1 and goes on only where they are equal. */
const payloadIs = (base: number, offset: number, bytes: Uint8Array): Buffer[] => [
  expression('payload', be32(1, REGISTER_1), be32(2, base), be32(3, offset), be32(4, bytes.length)),
  expression('cmp', be32(1, REGISTER_1), be32(2, 0), value(bytes)),
];

const immediate = (register: number, bytes: Uint8Array): Buffer => expression('immediate', be32(1, register), nested(2, attribute(1, bytes)));

/** The same in every sandbox but for the port: encoding all of it each time would take longer than the kernel does. */
const encodeOnce = (): Template => {
  const resolver = Uint8Array.of(127, 0, 0, 11);
  const beforePort = (protocol: number): Buffer => Buffer.concat([
    ...payloadIs(1, 16, resolver),
    expression('meta', be32(1, REGISTER_1), be32(2, 16)),
    expression('cmp', be32(1, REGISTER_1), be32(2, 0), value(Uint8Array.of(protocol))),
    ...payloadIs(2, 2, Uint8Array.of(0, 53)),
    immediate(REGISTER_1, resolver),
  ]);
  return {
    udp: beforePort(IP_PROTOCOL.udp), tcp: beforePort(IP_PROTOCOL.tcp),
    // type destination, family, address from register 1, port from register 2
    afterPort: expression('nat', be32(1, 1), be32(2, NFPROTO_IPV4), be32(3, REGISTER_1), be32(5, REGISTER_2)),
  };
};
interface Template { udp: Buffer; tcp: Buffer; afterPort: Buffer }
let template: Template | undefined;

function redirect(tableName: string, protocol: 'udp' | 'tcp', port: number): Message {
  const { [protocol]: beforePort, afterPort } = template ??= encodeOnce();
  return message(MSG.NEWRULE, text(1, tableName), text(2, 'out'), nested(4, beforePort, immediate(REGISTER_2, Uint8Array.of(port >>> 8, port & 255)), afterPort));
}
