/** The host's rules for bridges of this node: isolation, way out, published ports. */
import { familyOf, type Family } from '../../base/prefix.ts';
import type { Protocol } from '../../cnm/model.ts';
import { HOST_BRIDGES, MADE_BY_WEFT } from '../names.ts';
import { elements, foreignSource, quoted } from '../nft-table.ts';
import type { BridgeSettings, GatewayMode } from './options.ts';

/** `hostIp` '' is every address of the host of the family of `ip`; `hostPort` undefined: nothing is translated, the container's own port is open. */
export interface PortRule { protocol: Protocol; hostIp: string; hostPort: number | undefined; ip: string; port: number }

/** `link` is the host's. */
export interface BridgeRule extends Pick<BridgeSettings, 'icc' | 'masquerade' | 'mode' | 'source' | 'trusted'> { link: string; subnets: readonly string[]; internal: boolean }

export interface BridgeRules {
  networks: readonly BridgeRule[];
  ports: readonly PortRule[];
  dockerBridges: readonly string[];
}

const FAMILIES = [4, 6] as const;
const ADDRESS = { 4: 'ipv4_addr', 6: 'ipv6_addr' } as const;
const IP = { 4: 'ip', 6: 'ip6' } as const;
/** Ends the names of a family's sets. */
const OF = { 4: '', 6: '6' } as const;
const PING = { 4: 'icmp type echo-request', 6: 'icmpv6 type echo-request' } as const;

const target = ({ ip, port }: PortRule): string => `${ip} . ${port}`;

/** Before Docker's own (dstnat, and -100 for what leaves the host): a published port is ours also where Docker has rules of its own. */
const TRANSLATE = FAMILIES.map((family) => `
    fib daddr type local meta l4proto { tcp, udp, sctp } dnat ${IP[family]} to ${IP[family]} daddr . meta l4proto . th dport map @bound${OF[family]}
    meta nfproto ipv${family} fib daddr type local meta l4proto { tcp, udp, sctp } dnat ${IP[family]} to meta l4proto . th dport map @ports${OF[family]}`).join('');

/**
 * Forwarded packets towards a bridge pass only when they answer something, when they were sent to a published port, or
 * when they come from the same bridge; those from an internal bridge never leave it, and none get to a network of Docker's
 * that is not theirs. Whoever routes to containers of an unprotected network comes from outside: not from another network
 * of this host's. Answers come first, for most packets are answers, or belong to what has been answered. What comes over a
 * link for 127.0.0.0/8 (RFC 1122 §3.2.1.3) is nobody's, also where somebody switched route_localnet on for all of them: a
 * port published there is for the host itself. What is sent to ::1 gets no further (RFC 4291 §2.5.3), and is refused rather than lost.
 */
export function bridgeRules({ networks, ports, dockerBridges }: BridgeRules): string {
  const open = networks.filter(({ internal }) => !internal);
  const links = (which: readonly BridgeRule[]): string[] => quoted(which.map(({ link }) => link));
  const inMode = (family: Family, mode: GatewayMode): BridgeRule[] => open.filter((network) => network.mode[family] === mode);
  const subnetsOf = (family: Family, which: readonly BridgeRule[]): string[] => which.flatMap(({ subnets }) => subnets.filter((subnet) => familyOf(subnet) === family));
  const leaving = (family: Family): BridgeRule[] => open.filter((network) => network.masquerade && network.mode[family] !== 'routed');
  const masqueraded = (family: Family): string[] => subnetsOf(family, leaving(family).filter(({ source }) => source[family] === undefined));
  const sources = (family: Family): string[] => leaving(family).flatMap((network) => {
    const source = network.source[family];
    return source === undefined ? [] : subnetsOf(family, [network]).map((subnet) => `${subnet} : ${source}`);
  });
  const translated = ports.filter(({ hostPort }) => hostPort !== undefined);
  const translatedTo = (family: Family): PortRule[] => translated.filter(({ ip }) => familyOf(ip) === family);
  const anywhere = (family: Family): string[] => translatedTo(family).filter(({ hostIp }) => hostIp === '').map((each) => `${each.protocol} . ${each.hostPort} : ${target(each)}`);
  const bound = (family: Family): string[] => translatedTo(family).filter(({ hostIp }) => hostIp !== '').map((each) => `${each.hostIp} . ${each.protocol} . ${each.hostPort} : ${target(each)}`);
  const backends = (family: Family, isDirect: boolean): string[] =>
    ports.filter(({ ip, hostPort }) => familyOf(ip) === family && (hostPort === undefined) === isDirect).map(({ ip, protocol, port }) => `${ip} . ${protocol} . ${port}`);
  const trusted = open.flatMap(({ trusted: from, link }) => from.map((each) => `"${each}" . "${link}"`));
  const perFamily = (text: (family: Family) => string): string => FAMILIES.map(text).join('');

  return `
  set bridges { type ifname; ${elements(links(networks))} }
  set networks { type ifname . ifname; ${elements(links(networks.filter(({ icc }) => icc)).map((name) => `${name} . ${name}`))} }
  set internal { type ifname; ${elements(links(networks.filter(({ internal }) => internal)))} }
  set dockers { type ifname; ${elements(quoted(dockerBridges))} }
  set others { type ifname; ${elements([...links(networks), ...quoted(dockerBridges), '"weft-up"'])} }
  set trusted { type ifname . ifname; ${elements(trusted)} }${perFamily((family) => `
  map ports${OF[family]} { type inet_proto . inet_service : ${ADDRESS[family]} . inet_service; ${elements(anywhere(family))} }
  map bound${OF[family]} { type ${ADDRESS[family]} . inet_proto . inet_service : ${ADDRESS[family]} . inet_service; ${elements(bound(family))} }
  set subnets${OF[family]} { type ${ADDRESS[family]}; flags interval; ${elements(subnetsOf(family, open))} }
  set masqueraded${OF[family]} { type ${ADDRESS[family]}; flags interval; ${elements(masqueraded(family))} }
  map sources${OF[family]} { type ${ADDRESS[family]} : ${ADDRESS[family]}; flags interval; ${elements(sources(family))} }
  set routed${OF[family]} { type ifname; ${elements(links(inMode(family, 'routed')))} }
  set unprotected${OF[family]} { type ifname; ${elements(links(inMode(family, 'nat-unprotected')))} }
  set direct${OF[family]} { type ${ADDRESS[family]} . inet_proto . inet_service; ${elements(backends(family, true))} }
  set backends${OF[family]} { type ${ADDRESS[family]} . inet_proto . inet_service; ${elements(backends(family, false))} }`)}
  chain prerouting { type nat hook prerouting priority dstnat - 10; policy accept;${TRANSLATE}
  }
  chain output { type nat hook output priority -110; policy accept;
    ip6 daddr ::1 return${TRANSLATE}
  }
  chain postrouting { type nat hook postrouting priority srcnat - 10; policy accept;
    ip saddr 127.0.0.0/8 oifname @bridges masquerade${perFamily((family) => `
    ${IP[family]} saddr @subnets${OF[family]} oifname @bridges ct status dnat masquerade
    ${IP[family]} saddr @masqueraded${OF[family]} oifname != @bridges masquerade
    oifname != @bridges snat ${IP[family]} to ${IP[family]} saddr map @sources${OF[family]}`)}
  }
  chain raw_prerouting { type filter hook prerouting priority raw; policy accept;
    ip daddr 127.0.0.0/8 iifname != "lo" drop
    ${foreignSource(`iifname "${HOST_BRIDGES}"`)}
    ${foreignSource(`iifgroup ${MADE_BY_WEFT}`)}
  }
  chain forward { type filter hook forward priority filter; policy accept;
    ct state established,related accept
    iifname . oifname @networks accept
    oifname @bridges goto to_bridge
    iifname @internal drop
    iifname @bridges oifname @dockers ct status & dnat != dnat drop
  }
  chain to_bridge {
    iifname @internal drop
    oifname @internal drop
    ct status dnat accept${perFamily((family) => `
    oifname @routed${OF[family]} ${PING[family]} accept
    ${IP[family]} daddr . meta l4proto . th dport @direct${OF[family]} accept
    iifname != @others oifname @unprotected${OF[family]} meta nfproto ipv${family} accept
    iifname . oifname @trusted ${IP[family]} daddr . meta l4proto . th dport @backends${OF[family]} accept`)}
    drop
  }`;
}
