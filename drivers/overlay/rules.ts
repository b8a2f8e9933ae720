/** The rules of the fabric and of its uplink, as text. NAT is in the host; everything that knows other nodes is in the fabric. */
import { elements, foreignSource, ofFamily, quoted } from '../nft-table.ts';
import { HOST_BRIDGES } from '../names.ts';
import { SEALED_PREFIX, nodeMac, nodeMark, sealedMark } from './addressing.ts';
import { SEALED_LINK } from './encryption.ts';

/** The routed tunnel between the nodes, and the one for encrypted networks. */
export const TUNNEL = 'weft-in';
export const SEALED_TUNNEL = 'weft-in-wg';

export interface HostRules {
  nodeAddress: string;
  nodeAddress6: string;
  vxlanPort: number;
  /** VTEPs of all nodes. */
  members: readonly string[];
  /** Subnets that are routed (not those of internal networks). */
  subnets: readonly string[];
  dockerBridges: readonly string[];
  /** Where there are encrypted networks: this host's port of WireGuard, and where all nodes are spoken to by it, 'address . port'. */
  wireguard?: { port: number; places: readonly string[] };
}

/** Bit 96 of the transport header on is the top bit of the VNI: set for ours, never for Swarm's, which share the port. */
const OUR_VXLAN = '@th,96,1 0x1';

/** The tunnel's socket takes what is sent to all as well. */
const FOR_THIS_HOST = 'fib daddr type { local, broadcast, multicast, anycast }';

/**
 * Injection is stopped in three places: a container's packet towards a VTEP is dropped while it is forwarded, that of an
 * unprivileged process of the host while it leaves (both would pass every peer's list of members), an outsider's when it
 * comes in, and a container's whatever address it says it has. WireGuard knows a stranger by itself, and is kept from containers all the same; its members
 * may come from anywhere, as behind address translation. What runs inside of it has no business here. The kernel's own VXLAN packets belong to no user. The address is looked at before the routing table is asked, which members' packets never need. What a tunnel's packets are asked comes
 * first, and once.
 */
export const hostRules = ({ nodeAddress, nodeAddress6, vxlanPort, members, subnets, dockerBridges, wireguard }: HostRules): string => `
  set members { type ipv4_addr; ${elements(ofFamily(4, members))} }
  set members6 { type ipv6_addr; ${elements(ofFamily(6, members))} }
${wireguard ? `  set wireguard { type ipv4_addr . inet_service; ${elements(ofFamily(4, wireguard.places))} }\n  set wireguard6 { type ipv6_addr . inet_service; ${elements(ofFamily(6, wireguard.places))} }` : ''}
  set dockers { type ifname; ${elements(quoted(dockerBridges))} }
  set overlay { type ipv4_addr; flags interval; ${elements(ofFamily(4, subnets))} }
  set overlay6 { type ipv6_addr; flags interval; ${elements(ofFamily(6, subnets))} }
  set translated { type ipv4_addr; flags interval; ${elements([...ofFamily(4, subnets), '127.0.0.0/8'])} }
  chain raw_prerouting { type filter hook prerouting priority raw; policy accept;
${wireguard ? `    iifname "weft-up" ip daddr ${SEALED_PREFIX} drop\n    udp dport ${wireguard.port} jump containers` : ''}
    udp dport ${vxlanPort} goto tunnel
    iifname "weft-up" ip daddr 127.0.0.0/8 drop
  }
  chain tunnel {
    ${OUR_VXLAN} goto injected
    iifname "weft-up" ip daddr 127.0.0.0/8 drop
    notrack
  }
  chain injected {
    ip saddr != @members ${FOR_THIS_HOST} drop
    ip6 saddr != @members6 ${FOR_THIS_HOST} drop
    jump containers
    notrack
  }
  chain containers {
    iifname "weft-up" ${FOR_THIS_HOST} drop
    iifname "${HOST_BRIDGES}" ${FOR_THIS_HOST} drop
    iifname @dockers ${FOR_THIS_HOST} drop
  }
  chain raw_output { type filter hook output priority raw; policy accept;
    udp dport ${vxlanPort} goto tunnel_out
${wireguard ? '    meta skuid != 0 ip daddr . udp dport @wireguard drop\n    meta skuid != 0 ip6 daddr . udp dport @wireguard6 drop' : ''}
  }
  chain tunnel_out {
    meta skuid != 0 ${OUR_VXLAN} jump forged
    notrack
  }
  chain forged {
    ip daddr @members drop
    ip6 daddr @members6 drop
  }
  chain postrouting { type nat hook postrouting priority srcnat - 10; policy accept;
    oifname "weft-up" ip saddr @translated snat ip to ${nodeAddress}
    oifname "weft-up" ip6 saddr @overlay6 snat ip6 to ${nodeAddress6}
    iifname "weft-up" oifname != "weft-up" ip saddr @overlay masquerade
    iifname "weft-up" oifname != "weft-up" ip6 saddr @overlay6 masquerade
  }
  chain guard { type filter hook forward priority filter; policy accept;
    tcp flags syn jump mss
    udp dport ${vxlanPort} ${OUR_VXLAN} ip daddr @members drop
    udp dport ${vxlanPort} ${OUR_VXLAN} ip6 daddr @members6 drop
${wireguard ? '    ip daddr . udp dport @wireguard drop\n    ip6 daddr . udp dport @wireguard6 drop' : ''}
    ct state established,related accept
    oifname "weft-up" ct direction original ct status & dnat != dnat drop
    iifname "weft-up" oifname @dockers ct direction original ct status & dnat != dnat drop
  }
  chain mss {
    iifname "weft-up" tcp option maxseg size set rt mtu
    oifname "weft-up" tcp option maxseg size set rt mtu
  }`;

export interface FabricRules {
  /** Of the nodes' own addresses. */
  nodePrefix: string;
  nodePrefix6: string;
  /** Numbers of the other nodes. */
  peers: readonly number[];
  /** Of all networks, built here or not. */
  subnets: readonly string[];
  /** Of all networks. */
  bridges: readonly string[];
  /** Those of internal networks. */
  internalBridges: readonly string[];
  /** Published local backends, 'ip . protocol . port'. */
  backends: readonly string[];
  /** Where there are encrypted networks: their bridges. */
  sealed?: { bridges: readonly string[]; vxlanPort: number };
}

/**
 * A mark has done its work once a packet is routed; where it stayed, the host's rules would choose VXLAN's own way by it. Most
 * packets belong to a connection that has been let in: that is asked first, and nothing else of them. Zones keep apart two
 * connections of one client (same address, same port) that came through different nodes to one backend; the empty nat chain
 * makes NAT choose another port where their replies would clash. Within a network everything
 * is accepted: its frames get here when somebody loads br_netfilter, which filters bridged frames in every namespace. An
 * address of a network that is not built here is not to be had by the way out: containers of other networks would reach it
 * through the host, and what the host sends to one that nobody has would go back and forth. What comes from the host and has a container's
 * address has not been translated for a published port: the host drops that, unless somebody took its rules away.
 */
export const fabricRules = ({ nodePrefix, nodePrefix6, peers, subnets, bridges, internalBridges, backends, sealed }: FabricRules): string => {
  const tunnels = sealed ? `{ "${TUNNEL}", "${SEALED_TUNNEL}" }` : `"${TUNNEL}"`;
  return `
  set backends { type ipv4_addr . inet_proto . inet_service; ${elements(ofFamily(4, backends))} }
  set backends6 { type ipv6_addr . inet_proto . inet_service; ${elements(ofFamily(6, backends))} }
  set subnets { type ipv4_addr; flags interval; ${elements(ofFamily(4, subnets))} }
  set subnets6 { type ipv6_addr; flags interval; ${elements(ofFamily(6, subnets))} }
  set networks { type ifname . ifname; ${elements(quoted(bridges).map((name) => `${name} . ${name}`))} }
  set internal { type ifname; ${elements(quoted(internalBridges))} }
  chain raw_prerouting { type filter hook prerouting priority raw; policy accept;
    ${foreignSource('iifname "wb-*"')}
${byNode(peers, (map) => `iifname ${tunnels} ct original zone set ether saddr ${map}`, String)}
  }
  chain by_node_mark { type filter hook prerouting priority mangle; policy accept;
${byNode(peers, (map) => `ct state new iifname "weft-in" ct mark set ether saddr ${map}`, (number) => String(nodeMark(number)))}
${sealed ? byNode(peers, (map) => `ct state new iifname "${SEALED_TUNNEL}" ct mark set ether saddr ${map}`, (number) => String(sealedMark(number))) : ''}
    ct mark & 0xff000000 == 0x48000000 ct direction reply iifname != ${tunnels} meta mark set ct mark
  }
  chain clashes { type nat hook postrouting priority srcnat + 5; policy accept;
  }
  chain forward { type filter hook forward priority filter; policy drop;
    meta mark != 0 meta mark set 0
    tcp flags syn jump mss
    iifname "uplink" oifname "uplink" drop
${sealed ? SEALED_FORWARD : ''}
    ct state established,related accept
    iifname . oifname @networks accept
    ip daddr @subnets oifname "uplink" drop
    ip6 daddr @subnets6 oifname "uplink" drop
    ip saddr @subnets iifname "uplink" drop
    iifname @internal drop
    oifname @internal drop
    iifname ${tunnels} ip saddr ${nodePrefix} accept
    iifname ${tunnels} ip6 saddr ${nodePrefix6} accept
    iifname ${tunnels} ip daddr . meta l4proto . th dport @backends accept
    iifname ${tunnels} ip6 daddr . meta l4proto . th dport @backends6 accept
    iifname ${tunnels} drop
    iifname "uplink" accept
    oifname "uplink" accept
    oifname ${tunnels} accept
  }
  chain mss {
    iifname ${tunnels} tcp option maxseg size set rt mtu
    oifname ${tunnels} tcp option maxseg size set rt mtu
  }
${sealed ? sealedChains(sealed) : ''}`;
};

/**
 * Packets of an encrypted network do not cross by the tunnel that has no encryption, whoever sends them; and nobody is routed into the
 * WireGuard link or out of it.
 */
const SEALED_FORWARD = `    iifname "${SEALED_LINK}" drop
    oifname "${SEALED_LINK}" drop
    iifname "${TUNNEL}" oifname @sealed drop
    iifname @sealed oifname "${TUNNEL}" drop`;

/**
 * The socket of encrypted tunnels is the fabric's, and looks at no address: only what came out of the WireGuard link gets to it, and what
 * it sends leaves by that link or not at all, also where a route is missing.
 */
const sealedChains = ({ bridges, vxlanPort }: { bridges: readonly string[]; vxlanPort: number }): string => `
  set sealed { type ifname; ${elements(quoted(bridges))} }
  chain sealed_prerouting { type filter hook prerouting priority raw; policy accept;
    iifname "${SEALED_LINK}" udp dport ${vxlanPort} notrack
  }
  chain sealed_input { type filter hook input priority filter; policy accept;
    iifname "${SEALED_LINK}" udp dport ${vxlanPort} accept
    iifname "${SEALED_LINK}" drop
    udp dport ${vxlanPort} drop
  }
  chain sealed_output { type filter hook output priority raw; policy accept;
    oifname != "${SEALED_LINK}" ip daddr ${SEALED_PREFIX} drop
    oifname != "${SEALED_LINK}" udp dport ${vxlanPort} drop
    udp dport ${vxlanPort} notrack
  }`;

/** One rule whose value depends on the node that a packet came from; none where there are no other nodes. */
const byNode = (peers: readonly number[], rule: (map: string) => string, value: (number: number) => string): string =>
  (peers.length === 0 ? '' : `    ${rule(`map { ${peers.map((number) => `${nodeMac(number)} : ${value(number)}`).join(', ')} }`)}`);
