/** The host's rules for bridges of this node: isolation, way out, published ports. */
import type { Protocol } from '../../cnm/model.ts';
import { elements } from '../nft-table.ts';

/** Matches all of our bridges. */
export const BRIDGES = 'wbr-*';

export interface BridgeRules {
  networks: readonly { bridge: string; subnet: string; internal: boolean }[];
  /** hostIp '' is every address of the host. */
  ports: readonly { protocol: Protocol; hostIp: string; hostPort: number; ip: string; port: number }[];
}

/**
 * Forwarded packets towards a bridge pass only when they answer something, when they were sent to a published port, or
 * when they come from the same bridge; those from an internal bridge never leave it.
 */
export function bridgeRules({ networks, ports }: BridgeRules): string {
  const routed = networks.filter(({ internal }) => !internal);
  const anywhere = ports.filter(({ hostIp }) => hostIp === '');
  const bound = ports.filter(({ hostIp }) => hostIp !== '');
  const target = ({ ip, port }: { ip: string; port: number }): string => `${ip} . ${port}`;
  const dnat = `
    fib daddr type local meta l4proto { tcp, udp } dnat ip to ip daddr . meta l4proto . th dport map @bound
    fib daddr type local meta l4proto { tcp, udp } dnat ip to meta l4proto . th dport map @ports`;
  return `
  map ports { type inet_proto . inet_service : ipv4_addr . inet_service; ${elements(anywhere.map((each) => `${each.protocol} . ${each.hostPort} : ${target(each)}`))} }
  map bound { type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service; ${elements(bound.map((each) => `${each.hostIp} . ${each.protocol} . ${each.hostPort} : ${target(each)}`))} }
  set subnets { type ipv4_addr; flags interval; ${elements(routed.map(({ subnet }) => subnet))} }
  chain prerouting { type nat hook prerouting priority dstnat - 10; policy accept;${dnat}
  }
  chain output { type nat hook output priority -110; policy accept;${dnat}
  }
  chain postrouting { type nat hook postrouting priority srcnat - 10; policy accept;
    ip saddr 127.0.0.0/8 oifname "${BRIDGES}" masquerade
    ip saddr @subnets oifname "${BRIDGES}" ct status dnat masquerade
    ip saddr @subnets oifname != "${BRIDGES}" masquerade
  }
  chain raw_prerouting { type filter hook prerouting priority raw; policy accept;
    iifname "${BRIDGES}" ip daddr 127.0.0.0/8 drop
  }
  chain forward { type filter hook forward priority filter; policy accept;
    iifname != "${BRIDGES}" oifname != "${BRIDGES}" return
${networks.map(({ bridge }) => `    iifname "${bridge}" oifname "${bridge}" accept`).join('\n')}
${networks.filter(({ internal }) => internal).map(({ bridge }) => `    iifname "${bridge}" drop\n    oifname "${bridge}" drop`).join('\n')}
    ct state established,related accept
    ct status dnat accept
    oifname "${BRIDGES}" drop
  }`;
}
