/**
 * IPv6 on a host. What networks of IPv4 need is on every host; IPv6 may be missing from the kernel, or switched off by
 * whoever runs the host, and then it stays off.
 */
import { weftError } from '../base/errors.ts';
import { familyOf } from '../base/prefix.ts';
import type { Repair } from '../cnm/driver.ts';
import { nameOf, type Network } from '../cnm/model.ts';
import { readSysctl, writeSysctl } from '../linux/sysctl.ts';
import type { Netns, Rtnl } from '../linux/types.ts';
import { setHostSysctl, type Journal } from './host-sysctls.ts';

const SWITCH = 'net.ipv6.conf.all.disable_ipv6';
/** linux/rtnetlink.h: the kernel made the route of a router advertisement. */
const RTPROT_RA = 9;

/** What the kernel gives an IPv6 route that has none of its own, in both ways of saying it (linux/ipv6_route.h, IP6_RT_PRIO_USER). */
export const IPV6_METRIC = 1024;

export const hasIpv6 = ({ subnets }: Pick<Network, 'subnets'>): boolean => subnets.some(({ subnet }) => familyOf(subnet) === 6);

export const isIpv6On = (host: Netns): boolean => readSysctl(host, SWITCH) === '0';

/** Throws WEFT-IPV6-DISABLED where the network needs what this host does not have. */
export function requireIpv6(host: Netns, network: Network): void {
  if (!hasIpv6(network)) return;
  const value = readSysctl(host, SWITCH);
  if (value === '0') return;
  const [detail, hint] = value === undefined
    ? ['its kernel has none', 'start it without ipv6.disable=1']
    : [`${SWITCH} is ${value}`, `switch it on: \`sysctl -w ${SWITCH}=0\``];
  throw weftError('WEFT-IPV6-DISABLED', { network: nameOf(network), detail, hint });
}

/** IN6_ADDR_GEN_MODE_NONE of linux/if_link.h. */
const NO_LINK_LOCAL = '1';

/**
 * For a link of ours: the kernel neither looks for duplicates of its addresses, which are ours to give, nor believes a
 * container that says it is a router. `quiet`: it has only the addresses that it is given, or none.
 */
export function enableIpv6(netns: Netns, link: string, { quiet = false } = {}): void {
  const settings = { accept_ra: '0', accept_dad: '0', ...(quiet && { addr_gen_mode: NO_LINK_LOCAL }), disable_ipv6: '0' };
  for (const [name, value] of Object.entries(settings)) writeSysctl(netns, `net/ipv6/conf/${link}/${name}`, value);
}

export const disableIpv6 = (netns: Netns, link: string): void => void writeSysctl(netns, `net/ipv6/conf/${link}/disable_ipv6`, '1');

/**
 * Makes the host a router of IPv6. A router believes no other one (RFC 4861 §6.2.7): links that the host has its way out by
 * have to be told to, or it would lose that way (accept_ra=2, kernel doc networking/ip-sysctl).
 */
export function ensureIpv6Forwarding(host: Netns, rtnl: Rtnl, journal: Journal, found: Repair[]): void {
  const name = 'net/ipv6/conf/all/forwarding';
  if (readSysctl(host, name) !== '0') return;
  const advertised = rtnl.routes({ table: 254 }).filter(({ dst, protocol, dev }) => dst === 'default' && protocol === RTPROT_RA && dev !== undefined);
  for (const { dev } of advertised) {
    const link = rtnl.link(dev!)?.name;
    if (link !== undefined) setHostSysctl(host, `net/ipv6/conf/${link}/accept_ra`, '2', journal);
  }
  setHostSysctl(host, name, '1', journal);
  found.push({ what: `sysctl ${name} was 0` });
}
