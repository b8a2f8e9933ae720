/**
 * The host's rules for published ports: one verdict map (protocol . port → service's chain), and per service a map of
 * slots to backends. The table survives weftd; what knows other nodes lives in the fabric.
 */
import type { Protocol } from '../cnm/model.ts';
import { SLOTS } from './slots.ts';

const TABLE = 'inet weft-ports';

/**
 * dnat_pre comes before Docker's own (dstnat), so that a published port is ours even where Docker has rules of its own;
 * dnat_out before Docker's at -100.
 */
export const tableScript = `
table ${TABLE} {
  map ports { type inet_proto . inet_service : verdict; }
  chain prerouting { type nat hook prerouting priority dstnat - 10; policy accept;
    fib daddr type local meta l4proto { tcp, udp } meta l4proto . th dport vmap @ports
  }
  chain output { type nat hook output priority -110; policy accept;
    fib daddr type local meta l4proto { tcp, udp } meta l4proto . th dport vmap @ports
  }
}
`;

export const dropScript = `table ${TABLE}\ndelete table ${TABLE}\n`;

const nameOf = (protocol: Protocol, port: number): string => `${protocol}-${port}`;

/** `slots` are 'ip:port'. Makes the service's chain and map and enters the port. */
export function serviceScript(protocol: Protocol, port: number, slots: readonly string[]): string {
  const name = nameOf(protocol, port);
  return `
table ${TABLE} {
  map slots-${name} { typeof numgen random mod ${SLOTS} : ip daddr . ${protocol} dport; }
  chain service-${name} { }
}
flush chain ${TABLE} service-${name}
flush map ${TABLE} slots-${name}
add element ${TABLE} slots-${name} { ${slots.map(element).join(', ')} }
add rule ${TABLE} service-${name} meta nfproto ipv4 meta l4proto ${protocol} dnat ip to numgen random mod ${SLOTS} map @slots-${name}
add element ${TABLE} ports { ${protocol} . ${port} : jump service-${name} }
`;
}

/** Only the slots that changed, in one transaction: at no moment is a slot empty. */
export function slotsScript(protocol: Protocol, port: number, before: readonly string[], after: readonly string[]): string {
  const changed = after.flatMap((slot, i) => (slot === before[i] ? [] : [i]));
  if (changed.length === 0) return '';
  const map = `${TABLE} slots-${nameOf(protocol, port)}`;
  return `delete element ${map} { ${changed.join(', ')} }
add element ${map} { ${changed.map((i) => element(after[i]!, i)).join(', ')} }
`;
}

export function withdrawScript(protocol: Protocol, port: number): string {
  const name = nameOf(protocol, port);
  return `delete element ${TABLE} ports { ${protocol} . ${port} }
flush chain ${TABLE} service-${name}
delete chain ${TABLE} service-${name}
delete map ${TABLE} slots-${name}
`;
}

const element = (slot: string, index: number): string => `${index} : ${slot.replace(':', ' . ')}`;
