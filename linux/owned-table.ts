/**
 * The table that turns a sandbox's queries to our resolver, as one raw transaction on a socket of its own (140 µs and
 * 15 KB; a libnftables context per sandbox would cost 0.6 MB). `flags owner` ties the table to that socket: nobody
 * else can change or flush it, and when the socket closes, our death included, the kernel removes the table and
 * Docker's own resolver answers again.
 *
 *   table ip NAME { flags owner
 *     chain out-udp { type filter hook output priority -310; policy accept
 *       oif != lo accept
 *       ip saddr 127.0.0.11 udp sport UDP notrack udp sport set 53
 *       ip daddr 127.0.0.11 udp dport 53 notrack udp dport set UDP }
 *     chain out-tcp { type nat hook output priority -110; policy accept
 *       ip daddr 127.0.0.11 tcp dport 53 dnat to 127.0.0.11:TCP } }
 *
 * Datagrams pass by connection tracking, which would keep a client that keeps its socket with the resolver that it first met: who comes, goes or
 * is killed has no flows to be forgotten, and what Docker's resolver was asked before is answered by it. Numbers from linux/netfilter/nf_tables.h.
 */
import { IP_PROTOCOL } from '../base/ip-protocols.ts';
import { attribute, nested, text } from './attributes.ts';
import { NLM_F_APPEND, NLM_F_CREATE, type Message } from './netlink-message.ts';
import { NETLINK_NETFILTER, openNetlink } from './netlink-socket.ts';
import { be32, NFNL_SUBSYS_NFTABLES, nfgenmsg, transact } from './nfnetlink.ts';
import { KernelError, type Netns } from './types.ts';

const MSG = { NEWTABLE: 0, DELTABLE: 2, NEWCHAIN: 3, NEWRULE: 6, DELRULE: 8 } as const;
const NFPROTO_IPV4 = 2;
const NF_INET_LOCAL_OUT = 3;
const NF_ACCEPT = 1;
const NFT_TABLE_F_OWNER = 2;
/** Before connection tracking at -200, and whatever containers have in iptables' raw table at -300. */
const BEFORE_TRACKING = -310;
/** Before Docker's own rules at -100, in iptables' and in nftables' form. */
const BEFORE_DOCKER = -110;
const LOOPBACK_INDEX = 1;
const DNS_PORT = 53;
const VERDICT = 0;
const REGISTER_1 = 1;
const REGISTER_2 = 2;

export interface DnsHookOptions {
  /** Of this process alone: a table of another owner is refused (EPERM), any other of that name is replaced. */
  tableName: string;
  /** Where our resolver listens on 127.0.0.11 in the namespace. */
  udpPort: number;
  tcpPort: number;
}

export interface DnsHook {
  /** false where the kernel has no owned tables (before 5.12): then the table outlives a crash, and only `close` removes it. */
  readonly owned: boolean;
  /** The next query goes where it went before; what was asked of us until now can still be answered. */
  release(): void;
  /** The table goes. Idempotent. */
  close(): void;
}

/** Synchronous and complete when it returns. Throws KernelError, leaving nothing behind. */
export function hookDns(netns: Netns, { tableName, udpPort, tcpPort }: DnsHookOptions): DnsHook {
  const socket = openNetlink(netns, NETLINK_NETFILTER);
  const what = 'hook up the resolver';
  const table = (type: number, ...attributes: Buffer[]): Message => message(type, text(1, tableName), ...attributes);
  const remove = table(MSG.DELTABLE);
  const chain = (name: string, type: string, priority: number): Message =>
    table(MSG.NEWCHAIN, text(3, name), nested(4, be32(1, NF_INET_LOCAL_OUT), be32(2, priority)), be32(5, NF_ACCEPT), text(7, type));
  const rule = (name: string, ...expressions: Buffer[]): Message => table(MSG.NEWRULE, text(2, name), nested(4, ...expressions));
  const flush = (name: string): Message => table(MSG.DELRULE, text(2, name));
  const { notLoopback, answer, answered, query, turned, connection, redirected } = template ??= encodeOnce();
  const answers = [rule('out-udp', notLoopback), rule('out-udp', answer, ...portIs('source', udpPort), answered)];
  const install = (flags: number): void => transact(socket.fd, what, [
    // A table without an owner may be left of a crash: adding to it first makes sure that there is one to delete.
    table(MSG.NEWTABLE), remove,
    table(MSG.NEWTABLE, be32(2, flags)),
    chain('out-udp', 'filter', BEFORE_TRACKING), ...answers, rule('out-udp', query, loadPort(REGISTER_1, udpPort), turned),
    chain('out-tcp', 'nat', BEFORE_DOCKER), rule('out-tcp', connection, loadPort(REGISTER_2, tcpPort), redirected),
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
    release: () => transact(socket.fd, 'leave the queries of a sandbox', [flush('out-udp'), ...answers, flush('out-tcp')]),
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
/** NFTA_DATA_VALUE, and NFTA_DATA_VERDICT with its code. */
const value = (bytes: Uint8Array): Buffer => attribute(1, bytes);
const verdict = (code: number): Buffer => nested(2, be32(1, code));
const portBytes = (port: number): Uint8Array => Uint8Array.of(port >>> 8, port & 255);

/** Goes on only where register 1 holds these bytes, or, `unless`, where it holds others. */
const compare = (bytes: Uint8Array, unless = false): Buffer => expression('cmp', be32(1, REGISTER_1), be32(2, unless ? 1 : 0), nested(3, value(bytes)));
/** Of a header: network (1) or transport (2). */
const payloadIs = (base: number, offset: number, bytes: Uint8Array): Buffer[] =>
  [expression('payload', be32(1, REGISTER_1), be32(2, base), be32(3, offset), be32(4, bytes.length)), compare(bytes)];
const metaIs = (key: number, bytes: Uint8Array, unless?: boolean): Buffer[] => [expression('meta', be32(1, REGISTER_1), be32(2, key)), compare(bytes, unless)];

const immediate = (register: number, data: Buffer): Buffer => expression('immediate', be32(1, register), nested(2, data));

const RESOLVER = Uint8Array.of(127, 0, 0, 11);
const META = { OIF: 5, L4PROTO: 16 } as const;
/** Where addresses are in an IPv4 header, and ports in those of UDP and TCP. */
const AT = { source: { address: 12, port: 0 }, destination: { address: 16, port: 2 } } as const;
const UDP_CHECKSUM = 6;

const fromOrTo = (end: keyof typeof AT, protocol: number): Buffer[] => [...payloadIs(1, AT[end].address, RESOLVER), ...metaIs(META.L4PROTO, Uint8Array.of(protocol))];
const portIs = (end: keyof typeof AT, port: number): Buffer[] => payloadIs(2, AT[end].port, portBytes(port));
const loadPort = (register: number, port: number): Buffer => immediate(register, value(portBytes(port)));
/** From register 1 into the header; the checksum, of the Internet's kind, follows. */
const writePort = (end: keyof typeof AT): Buffer => expression('payload', be32(5, REGISTER_1), be32(2, 2), be32(3, AT[end].port), be32(4, 2), be32(6, 1), be32(7, UDP_CHECKSUM), be32(8, 0));

/** The same in every sandbox, before and behind its ports: encoding all of it each time would take longer than the kernel does. */
const encodeOnce = () => {
  const untracked = nested(1, text(1, 'notrack'));
  return {
    /** The other packets of the container: one look at each. */
    notLoopback: Buffer.concat([...metaIs(META.OIF, Uint8Array.of(LOOPBACK_INDEX, 0, 0, 0), true), immediate(VERDICT, verdict(NF_ACCEPT))]),
    answer: Buffer.concat(fromOrTo('source', IP_PROTOCOL.udp)),
    answered: Buffer.concat([untracked, loadPort(REGISTER_1, DNS_PORT), writePort('source')]),
    query: Buffer.concat([...fromOrTo('destination', IP_PROTOCOL.udp), ...portIs('destination', DNS_PORT), untracked]),
    turned: writePort('destination'),
    connection: Buffer.concat([...fromOrTo('destination', IP_PROTOCOL.tcp), ...portIs('destination', DNS_PORT), immediate(REGISTER_1, value(RESOLVER))]),
    // type destination, family, address from register 1, port from register 2
    redirected: expression('nat', be32(1, 1), be32(2, NFPROTO_IPV4), be32(3, REGISTER_1), be32(5, REGISTER_2)),
  };
};
let template: ReturnType<typeof encodeOnce> | undefined;
