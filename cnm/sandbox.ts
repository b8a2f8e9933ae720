/**
 * What Docker does with a Join answer, for sandboxes that are not Docker's: moves the link in, names it, gives it its
 * address and routes. Any network namespace is a sandbox.
 */
import { weftError } from '../base/errors.ts';
import { familyOf } from '../base/prefix.ts';
import { isNetns } from '../linux/netns.ts';
import { writeSysctl } from '../linux/sysctl.ts';
import type { Netns, Rtnl } from '../linux/types.ts';
import type { Endpoint, JoinAnswer } from './model.ts';

export interface SandboxKernel {
  host: Rtnl;
  openNetns(path: string): Netns;
  openRtnl(netns: Netns): Rtnl;
}

/** Plugs a joined endpoint into its sandbox; returns the interface's name. Throws WEFT-SANDBOX-GONE. */
export async function plug(kernel: SandboxKernel, endpoint: Endpoint, answer: JoinAnswer): Promise<string> {
  const path = endpoint.sandbox ?? '';
  if (!isNetns(path)) throw weftError('WEFT-SANDBOX-GONE', { path });
  const netns = kernel.openNetns(path);
  try {
    const inside = kernel.openRtnl(netns);
    try {
      const source = kernel.host.link(answer.sourceName);
      if (!source) throw weftError('WEFT-ENDPOINT-UNKNOWN', { endpoint: endpoint.id.slice(0, 12) });
      const taken = new Set(inside.links().map((link) => link.name));
      const name = Array.from({ length: taken.size + 1 }, (_, i) => `${answer.prefix}${i}`).find((each) => !taken.has(each))!;
      await kernel.host.moveLink(source.index, netns, name);
      const link = inside.link(name)!;
      inside.setLink(inside.link('lo')!.index, { up: true });
      // An ipvlan has its parent's, and cannot be given another one.
      if (link.mac !== endpoint.mac) inside.setLink(link.index, { mac: endpoint.mac });
      prepareIpv6(netns, name, endpoint.addressIpv6 !== undefined);
      for (const address of [endpoint.address, endpoint.addressIpv6]) if (address !== undefined) inside.addAddress(link.index, address);
      inside.setLink(link.index, { up: true });
      const defaults = inside.routes().filter((route) => route.dst === 'default').map(({ via = '' }) => familyOf(via));
      const gateways = [answer.gateway, answer.gatewayIpv6].filter((via) => via !== undefined && !defaults.includes(familyOf(via)));
      inside.replaceRoutes([
        ...answer.routes.map(({ destination, nextHop }) => ({ dst: destination, dev: link.index, ...(nextHop !== undefined && { via: nextHop }) })),
        ...gateways.map((via) => ({ dst: 'default', via: via!, dev: link.index })),
      ]);
      return name;
    } finally {
      inside.close();
    }
  } finally {
    netns.close();
  }
}

/**
 * As Docker does: no IPv6 where the network has none; where it has, the gateway is told, not learnt from whoever advertises
 * himself as a router.
 */
function prepareIpv6(netns: Netns, link: string, wanted: boolean): void {
  const settings = wanted ? { accept_ra: '0', disable_ipv6: '0' } : { disable_ipv6: '1' };
  for (const [name, value] of Object.entries(settings)) writeSysctl(netns, `net/ipv6/conf/${link}/${name}`, value);
}
