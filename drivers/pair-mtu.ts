/**
 * The MTU of an endpoint's pair while its container runs. The end in the sandbox is what the container goes by. The port, which is ours alone, says what
 * that end was given: so one that somebody has made smaller is left alone, and a new weftd knows it as well.
 */
import type { Repair } from '../cnm/driver.ts';
import { endpointLink } from '../cnm/endpoint-link.ts';
import type { Endpoint } from '../cnm/model.ts';
import { isNetns, openNetns } from '../linux/netns.ts';
import { withRtnl } from '../linux/rtnl.ts';
import { KernelError, type Link, type Rtnl } from '../linux/types.ts';
import { hostEnd } from './names.ts';

/** `port` is as it was read in this turn. The larger end has what the smaller one sends, and drops nothing: the port goes last, so that all of it is done again after a failure. */
export function ensurePairMtu(host: Rtnl, inside: Rtnl, port: Link, endpoint: Endpoint, mtu: number, found: Repair[]): void {
  if (port.mtu === mtu) return;
  const isReached = atOtherEnd(host, port, endpoint, (there, end) => {
    if (end.mtu > mtu || end.mtu === port.mtu) there.setLink(end.index, { mtu });
  });
  // It goes on sending what fits the larger one.
  if (!isReached && port.mtu > mtu) return;
  inside.setLink(port.index, { mtu });
  found.push({ what: `link ${port.name} had another mtu` });
}

/** Returns whether the other end was found: in the host's namespace until it is moved, then in the sandbox. */
function atOtherEnd(host: Rtnl, port: Link, endpoint: Endpoint, work: (there: Rtnl, end: Link) => void): boolean {
  const visit = (there: Rtnl, end: Link | undefined): boolean => {
    // The index of its peer: a sandbox may have been given the same address by somebody else.
    if (end?.parent !== port.index) return false;
    work(there, end);
    return true;
  };
  if (visit(host, host.link(hostEnd(endpoint.id)))) return true;
  const { sandbox } = endpoint;
  if (sandbox === undefined || !isNetns(sandbox)) return false;
  try {
    const netns = openNetns(sandbox);
    try {
      return withRtnl(netns, (there) => visit(there, endpointLink(there, endpoint)));
    } finally {
      netns.close();
    }
  } catch (error) {
    if (!(error instanceof KernelError)) throw error;
    // On its way out; the next repair sees it gone, or reaches it.
    return false;
  }
}
