/** The rules of the fabric and of its uplink, as text. NAT is in the host; everything that knows other nodes is in the fabric. */
import { elements } from '../nft-table.ts';
import { NODE_PREFIX, nodeMac, nodeMark } from './addressing.ts';

export interface HostRules {
  nodeAddress: string;
  vxlanPort: number;
  /** VTEPs of all nodes. */
  members: readonly string[];
  /** Subnets that are routed (not those of internal networks). */
  subnets: readonly string[];
}

/** Bit 96 of the transport header on is the top bit of the VNI: set for ours, never for Swarm's, which share the port. */
const OUR_VXLAN = '@th,96,1 0x1';

/**
 * Injection is stopped in two places: a container's packet towards a VTEP is dropped while it is forwarded (masqueraded,
 * it would pass every peer's list of members), an outsider's when it comes in.
 */
export const hostRules = ({ nodeAddress, vxlanPort, members, subnets }: HostRules): string => `
  set members { type ipv4_addr; ${elements(members)} }
  set overlay { type ipv4_addr; flags interval; ${elements(subnets)} }
  set translated { type ipv4_addr; flags interval; ${elements([...subnets, '127.0.0.0/8'])} }
  chain raw_prerouting { type filter hook prerouting priority raw; policy accept;
    udp dport ${vxlanPort} ${OUR_VXLAN} fib daddr type local ip saddr != @members drop
    udp dport ${vxlanPort} notrack
    iifname "weft-up" ip daddr 127.0.0.0/8 drop
  }
  chain raw_output { type filter hook output priority raw; policy accept;
    udp dport ${vxlanPort} notrack
  }
  chain postrouting { type nat hook postrouting priority srcnat - 10; policy accept;
    oifname "weft-up" ip saddr @translated snat ip to ${nodeAddress}
    iifname "weft-up" oifname != "weft-up" ip saddr @overlay masquerade
  }
  chain guard { type filter hook forward priority filter; policy accept;
    udp dport ${vxlanPort} ${OUR_VXLAN} ip daddr @members drop
    oifname "weft-up" iifname != "weft-up" ct direction original ct status & dnat != dnat drop
  }
  chain mss { type filter hook forward priority mangle; policy accept;
    iifname "weft-up" tcp flags syn tcp option maxseg size set rt mtu
    oifname "weft-up" tcp flags syn tcp option maxseg size set rt mtu
  }`;

export interface FabricRules {
  /** Numbers of the other nodes. */
  peers: readonly number[];
  /** Bridges of internal networks. */
  internalBridges: readonly string[];
  /** Published local backends, 'ip . protocol . port'. */
  backends: readonly string[];
}

/**
 * Zones keep apart two connections of one client (same address, same port) that came through different nodes to one
 * backend; the empty nat chain makes NAT choose another port where their replies would clash.
 */
export const fabricRules = ({ peers, internalBridges, backends }: FabricRules): string => `
  set backends { type ipv4_addr . inet_proto . inet_service; ${elements(backends)} }
  chain by_node_zone { type filter hook prerouting priority raw; policy accept;
${peers.map((number) => `    iifname "weft-in" ether saddr ${nodeMac(number)} ct original zone set ${number}`).join('\n')}
  }
  chain by_node_mark { type filter hook prerouting priority mangle; policy accept;
${peers.map((number) => `    iifname "weft-in" ct state new ether saddr ${nodeMac(number)} ct mark set ${nodeMark(number)}`).join('\n')}
    iifname != "weft-in" ct direction reply ct mark & 0xff000000 == 0x48000000 meta mark set ct mark
  }
  chain clashes { type nat hook postrouting priority srcnat + 5; policy accept;
  }
  chain by_node_unmark { type filter hook postrouting priority srcnat + 10; policy accept;
    oifname "weft-in" meta mark set 0
  }
  chain forward { type filter hook forward priority filter; policy drop;
${internalBridges.map((name) => `    iifname "${name}" drop\n    oifname "${name}" drop`).join('\n')}
    iifname "weft-in" ct state established,related accept
    iifname "weft-in" ip saddr ${NODE_PREFIX} accept
    iifname "weft-in" ip daddr . meta l4proto . th dport @backends accept
    iifname "weft-in" drop
    iifname "uplink" accept
    oifname { "uplink", "weft-in" } accept
  }
  chain mss { type filter hook forward priority mangle; policy accept;
    iifname "weft-in" tcp flags syn tcp option maxseg size set rt mtu
    oifname "weft-in" tcp flags syn tcp option maxseg size set rt mtu
  }`;
