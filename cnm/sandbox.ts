/**
 * What Docker does with a Join answer, for sandboxes that are not Docker's: moves the link in, names it, gives it its
 * address and routes. Any network namespace is a sandbox.
 */
import { weftError } from '../base/errors.ts';
import { isNetns } from '../linux/netns.ts';
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
      inside.setLink(link.index, { mac: endpoint.mac });
      if (endpoint.address !== undefined) inside.addAddress(link.index, endpoint.address);
      inside.setLink(link.index, { up: true });
      const hasDefault = inside.routes().some((route) => route.dst === 'default');
      inside.replaceRoutes([
        ...answer.routes.map(({ destination, nextHop }) => ({ dst: destination, dev: link.index, ...(nextHop !== undefined && { via: nextHop }) })),
        ...(answer.gateway !== undefined && !hasDefault ? [{ dst: 'default', via: answer.gateway, dev: link.index }] : []),
      ]);
      return name;
    } finally {
      inside.close();
    }
  } finally {
    netns.close();
  }
}
