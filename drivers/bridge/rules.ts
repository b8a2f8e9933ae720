/** The host's rules for bridges of this node: isolation, way out, published ports. */
import type { Protocol } from '../../cnm/model.ts';
import { HOST_BRIDGES } from '../names.ts';
import { elements, foreignSource, ofFamily, quoted } from '../nft-table.ts';

/** `hostIp` '' is every address of the host. */
export interface PortRule { protocol: Protocol; hostIp: string; hostPort: number; ip: string; port: number }

export interface BridgeRules {
  networks: readonly { bridge: string; subnet: string; internal: boolean }[];
  ports: readonly PortRule[];
  dockerBridges: readonly string[];
}

const target = ({ ip, port }: PortRule): string => `${ip} . ${port}`;

/** Before Docker's own (dstnat, and -100 for what leaves the host): a published port is ours also where Docker has rules of its own. */
const TRANSLATE = `
    fib daddr type local meta l4proto { tcp, udp, sctp } dnat ip to ip daddr . meta l4proto . th dport map @bound
    fib daddr type local meta l4proto { tcp, udp, sctp } dnat ip to meta l4proto . th dport map @ports`;

/**
 * Forwarded packets towards a bridge pass only when they answer something, when they were sent to a published port, or
 * when they come from the same bridge; those from an internal bridge never leave it, and none get to a network of Docker's
 * that is not theirs. What comes over a link for 127.0.0.0/8 (RFC 1122 §3.2.1.3) is nobody's, also where somebody switched
 * route_localnet on for all of them: a port published there is for the host itself.
 */
export function bridgeRules({ networks, ports, dockerBridges }: BridgeRules): string {
  const routed = networks.filter(({ internal }) => !internal);
  const internal = networks.filter((network) => network.internal);
  const anywhere = ports.filter(({ hostIp }) => hostIp === '').map((each) => `${each.protocol} . ${each.hostPort} : ${target(each)}`);
  const bound = ports.filter(({ hostIp }) => hostIp !== '').map((each) => `${each.hostIp} . ${each.protocol} . ${each.hostPort} : ${target(each)}`);
  return `
  map ports { type inet_proto . inet_service : ipv4_addr . inet_service; ${elements(anywhere)} }
  map bound { type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service; ${elements(bound)} }
  set subnets { type ipv4_addr; flags interval; ${elements(ofFamily(4, routed.map(({ subnet }) => subnet)))} }
  set subnets6 { type ipv6_addr; flags interval; ${elements(ofFamily(6, routed.map(({ subnet }) => subnet)))} }
  set networks { type ifname . ifname; ${elements(quoted(networks.map(({ bridge }) => bridge)).map((name) => `${name} . ${name}`))} }
  set internal { type ifname; ${elements(quoted(internal.map(({ bridge }) => bridge)))} }
  set dockers { type ifname; ${elements(quoted(dockerBridges))} }
  chain prerouting { type nat hook prerouting priority dstnat - 10; policy accept;${TRANSLATE}
  }
  chain output { type nat hook output priority -110; policy accept;${TRANSLATE}
  }
  chain postrouting { type nat hook postrouting priority srcnat - 10; policy accept;
    ip saddr 127.0.0.0/8 oifname "${HOST_BRIDGES}" masquerade
    ip saddr @subnets oifname "${HOST_BRIDGES}" ct status dnat masquerade
    ip saddr @subnets oifname != "${HOST_BRIDGES}" masquerade
    ip6 saddr @subnets6 oifname != "${HOST_BRIDGES}" masquerade
  }
  chain raw_prerouting { type filter hook prerouting priority raw; policy accept;
    iifname != "lo" ip daddr 127.0.0.0/8 drop
    ${foreignSource(HOST_BRIDGES)}
  }
  chain forward { type filter hook forward priority filter; policy accept;
    iifname != "${HOST_BRIDGES}" oifname != "${HOST_BRIDGES}" return
    iifname . oifname @networks accept
    iifname @internal drop
    oifname @internal drop
    ct state established,related accept
    ct status dnat accept
    oifname "${HOST_BRIDGES}" drop
    oifname @dockers drop
  }`;
}
