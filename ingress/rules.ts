/**
 * The host's rules for published ports, of each family its own: verdict maps (protocol . port → service's chain; with an address
 * before them for ports of this host alone), and per port a map of slots to backends. The table survives weftd; what knows other
 * nodes lives in the fabric.
 */
import { splitHostPort } from '../base/ip.ts';
import type { Family } from '../base/prefix.ts';
import type { Protocol } from '../cnm/model.ts';
import { SLOTS } from './slots.ts';

const TABLE = 'inet weft-ports';

/** `ip` '': every address of the host of that family. */
export interface PortAt { family: Family; protocol: Protocol; ip: string; port: number }

const TRANSLATE = `
    fib daddr type local meta l4proto { tcp, udp, sctp } ip daddr . meta l4proto . th dport vmap @bound
    fib daddr type local meta l4proto { tcp, udp, sctp } ip6 daddr . meta l4proto . th dport vmap @bound6
    meta nfproto ipv4 fib daddr type local meta l4proto { tcp, udp, sctp } meta l4proto . th dport vmap @ports
    meta nfproto ipv6 fib daddr type local meta l4proto { tcp, udp, sctp } meta l4proto . th dport vmap @ports6`;

/** What is there without any port. */
export const BARE = { rules: 10, maps: ['ports', 'ports6', 'bound', 'bound6'] } as const;

/**
 * prerouting comes before Docker's own (dstnat), so that a published port is ours even where Docker has rules of its own;
 * output before Docker's at -100. What comes over a link for 127.0.0.0/8 is nobody's (RFC 1122 §3.2.1.3): the kernel drops it,
 * but not where somebody switched route_localnet on (for NodePorts, say). Nothing is sent from ::1 to another link (RFC 4291 §2.5.3): who
 * asks there is refused at once, and not left waiting.
 */
export const tableScript = `
table ${TABLE} {
  map ports { type inet_proto . inet_service : verdict; }
  map ports6 { type inet_proto . inet_service : verdict; }
  map bound { type ipv4_addr . inet_proto . inet_service : verdict; }
  map bound6 { type ipv6_addr . inet_proto . inet_service : verdict; }
  chain raw_prerouting { type filter hook prerouting priority raw; policy accept;
    ip daddr 127.0.0.0/8 iifname != "lo" drop
  }
  chain prerouting { type nat hook prerouting priority dstnat - 10; policy accept;${TRANSLATE}
  }
  chain output { type nat hook output priority -110; policy accept;
    ip6 daddr ::1 return${TRANSLATE}
  }
}
`;

export const dropScript = `table ${TABLE}\ndelete table ${TABLE}\n`;

/** Ends the names of what is one family's. */
const OF = { 4: '', 6: '6' } as const;
const IP = { 4: 'ip', 6: 'ip6' } as const;

/** Ends the names of a port's chain and map, which have no colons. */
export const nameOf = ({ family, protocol, ip, port }: PortAt): string => [protocol + OF[family], ...(ip === '' ? [] : [ip.replaceAll(':', '_')]), port].join('-');

export const chainOf = (at: PortAt): string => `service-${nameOf(at)}`;

const key = ({ family, protocol, ip, port }: PortAt): string => (ip === '' ? `ports${OF[family]} { ${protocol} . ${port}` : `bound${OF[family]} { ${ip} . ${protocol} . ${port}`);

/** `slots` as hostPort() writes them. Makes the service's chain and map and enters the port. */
export function serviceScript(at: PortAt, slots: readonly string[]): string {
  const name = nameOf(at);
  const ip = IP[at.family];
  return `
table ${TABLE} {
  map slots-${name} { typeof numgen random mod ${SLOTS} : ${ip} daddr . ${at.protocol} dport; }
  chain service-${name} { }
}
flush chain ${TABLE} service-${name}
flush map ${TABLE} slots-${name}
add element ${TABLE} slots-${name} { ${slots.map(element).join(', ')} }
add rule ${TABLE} service-${name} meta nfproto ipv${at.family} meta l4proto ${at.protocol} dnat ${ip} to numgen random mod ${SLOTS} map @slots-${name}
add element ${TABLE} ${key(at)} : jump service-${name} }
`;
}

/** Only the slots that changed, in one transaction: at no moment is a slot empty. */
export function slotsScript(at: PortAt, before: readonly string[], after: readonly string[]): string {
  const changed = after.flatMap((slot, i) => (slot === before[i] ? [] : [i]));
  if (changed.length === 0) return '';
  const map = `${TABLE} slots-${nameOf(at)}`;
  return `delete element ${map} { ${changed.join(', ')} }
add element ${map} { ${changed.map((i) => element(after[i]!, i)).join(', ')} }
`;
}

export function withdrawScript(at: PortAt): string {
  const name = nameOf(at);
  return `delete element ${TABLE} ${key(at)} }
flush chain ${TABLE} service-${name}
delete chain ${TABLE} service-${name}
delete map ${TABLE} slots-${name}
`;
}

function element(slot: string, index: number): string {
  const { ip, port } = splitHostPort(slot);
  return `${index} : ${ip} . ${port}`;
}
