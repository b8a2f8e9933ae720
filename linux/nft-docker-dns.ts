/**
 * Where Docker's own resolver listens in a sandbox, read from the rules that turn queries to it: iptables' in table
 * `ip nat` (in nft form), or those of engines that write nft themselves, in `ip docker-dns`. Raw, because nft's JSON
 * leaves the ports of iptables' targets out. Read anew each time: dockerd's restart changes them.
 * Expressions are those of linux/netfilter/nf_tables.h, the target is struct nf_nat_range2 of linux/netfilter/nf_nat.h.
 */
import { IP_PROTOCOL } from '../base/ip-protocols.ts';
import { eachAttribute, parseAttributes, readText } from './attributes.ts';
import { NETLINK_NETFILTER, openNetlink } from './netlink-socket.ts';
import { NFNL_SUBSYS_NFTABLES, nfgenmsg, readBe32 } from './nfnetlink.ts';
import type { Netns } from './types.ts';

const GETRULE = (NFNL_SUBSYS_NFTABLES << 8) | 7;
const NFPROTO_IPV4 = 2;
const RULE = { TABLE: 1, EXPRESSIONS: 4 } as const;
const TABLES = ['nat', 'docker-dns'];
const RESOLVER = Buffer.of(127, 0, 0, 11);
const NFT_META_L4PROTO = 16;
/** Revisions 1 and 2 of the target begin alike: flags, lowest address, highest address, lowest port. */
const RANGE = { ADDRESS: 4, PORT: 36, revisions: [1, 2] } as const;

const NOTHING = Buffer.alloc(0);

export interface DockerDnsPorts { udp: number; tcp: number }

/** undefined where Docker has no such rules, or has them in iptables' legacy form, which nft does not show. Throws KernelError. */
export function dockerDnsPorts(netns: Netns): DockerDnsPorts | undefined {
  const socket = openNetlink(netns, NETLINK_NETFILTER);
  try {
    const ports = new Map<number, number>();
    for (const { body } of socket.dump('read Docker\'s resolver rules', GETRULE, nfgenmsg(NFPROTO_IPV4))) {
      const rule = parseAttributes(body.subarray(4));
      if (!TABLES.includes(readText(rule.get(RULE.TABLE)) ?? '')) continue;
      const redirect = decodeRedirect(rule.get(RULE.EXPRESSIONS) ?? NOTHING);
      if (redirect) ports.set(redirect.protocol, redirect.port);
    }
    const [udp, tcp] = [ports.get(IP_PROTOCOL.udp), ports.get(IP_PROTOCOL.tcp)];
    return udp !== undefined && tcp !== undefined ? { udp, tcp } : undefined;
  } finally {
    socket.close();
  }
}

/** What a rule does with packets of one protocol, when it turns them to the resolver's address. */
function decodeRedirect(expressions: Buffer): { protocol: number; port: number } | undefined {
  const registers = new Map<number | undefined, Buffer>();
  let protocol: number | undefined;
  let asksProtocol = false;
  for (const [, expression] of eachAttribute(expressions)) {
    const { 1: name, 2: data } = Object.fromEntries(eachAttribute(expression));
    const fields = parseAttributes(data ?? NOTHING);
    const number = (type: number): number | undefined => readBe32(fields.get(type));
    const value = (type: number): Buffer => parseAttributes(fields.get(type) ?? NOTHING).get(1) ?? NOTHING;
    switch (readText(name)) {
      case 'meta':
        asksProtocol = number(2) === NFT_META_L4PROTO;
        break;
      case 'cmp':
        if (asksProtocol) protocol = value(3)[0];
        asksProtocol = false;
        break;
      case 'immediate':
        registers.set(number(1), value(2));
        break;
      case 'nat':
        return to(protocol, registers.get(number(3)), registers.get(number(5)));
      case 'target': {
        const range = fields.get(3) ?? NOTHING;
        if (readText(fields.get(1)) !== 'DNAT' || !RANGE.revisions.some((revision) => revision === number(2))) return undefined;
        return to(protocol, range.subarray(RANGE.ADDRESS, RANGE.ADDRESS + 4), range.subarray(RANGE.PORT, RANGE.PORT + 2));
      }
    }
  }
  return undefined;
}

const to = (protocol: number | undefined, address: Buffer | undefined, port: Buffer | undefined): { protocol: number; port: number } | undefined =>
  (protocol !== undefined && address?.equals(RESOLVER) && port && port.length >= 2 ? { protocol, port: port.readUInt16BE(0) } : undefined);
