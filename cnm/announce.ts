/**
 * Tells an endpoint's neighbours, in its own name, which MAC address its addresses have now: whoever remembers that of a
 * former holder would send into the void until he asks again. Frames go out by the sandbox's own interface, as its kernel would send them.
 */
import { ETHERTYPE_ARP, arpAnnouncement } from '../base/arp.ts';
import { withoutLength } from '../base/ip.ts';
import { ETHERTYPE_IPV6, unsolicitedAdvertisement } from '../base/neighbour-discovery.ts';
import { isNetns, openNetns } from '../linux/netns.ts';
import { openPacketSocket } from '../linux/packet-socket.ts';
import { withRtnl } from '../linux/rtnl.ts';
import { endpointLink } from './endpoint-link.ts';
import type { Endpoint } from './model.ts';

/** Nothing where the sandbox or the interface is not there. Throws KernelError. */
export function announce(endpoint: Endpoint): void {
  const { sandbox, address, addressIpv6 } = endpoint;
  if (sandbox === undefined || !isNetns(sandbox)) return;
  const netns = openNetns(sandbox);
  try {
    const link = withRtnl(netns, (rtnl) => endpointLink(rtnl, endpoint));
    if (!link) return;
    const { index, mac } = link;
    const frames = [
      ...(address === undefined ? [] : [{ type: ETHERTYPE_ARP, frame: arpAnnouncement(mac, withoutLength(address)) }]),
      ...(addressIpv6 === undefined ? [] : [{ type: ETHERTYPE_IPV6, frame: unsolicitedAdvertisement(mac, withoutLength(addressIpv6)) }]),
    ];
    for (const { type, frame } of frames) {
      const socket = openPacketSocket(netns, index, type);
      try {
        socket.send(frame);
      } finally {
        socket.close();
      }
    }
  } finally {
    netns.close();
  }
}
