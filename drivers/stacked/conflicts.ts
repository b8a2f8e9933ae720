/**
 * Address conflict detection on a LAN (RFC 5227): an address is asked for before a container gets it. What is
 * asked is asked from the parent, where answers come without anything being made first.
 */
import { ETHERTYPE_ARP, arpProbe, parseArp, rivalFor } from '../../base/arp.ts';
import { sleep, type Clock } from '../../base/clock.ts';
import { weftError } from '../../base/errors.ts';
import { withoutLength } from '../../base/ip.ts';
import { openPacketSocket } from '../../linux/packet-socket.ts';
import { KernelError, type Link, type Netns, type Rtnl } from '../../linux/types.ts';

/** PROBE_NUM of RFC 5227 §1.1. Its intervals of a second and more are for machines that nobody waits for. */
const PROBES = 3;

/** `isOnWire`: who has the address answers there. On an IPv4 address; others are left to the kernel's own detection. Throws WEFT-ADDRESS-ON-LAN. */
export async function probe(host: Rtnl, parent: Link, ip: string, { forMs, isOnWire, clock }: { forMs: number; isOnWire: boolean; clock: Clock }): Promise<void> {
  if (forMs === 0 || ip.includes(':')) return;
  const rival = ownerHere(host, ip) ?? (isOnWire ? await askLan(host.netns, parent, ip, forMs, clock) : undefined);
  if (rival !== undefined) throw weftError('WEFT-ADDRESS-ON-LAN', { address: ip, mac: rival, parent: parent.name });
}

/** The host itself would not hear the question. */
function ownerHere(host: Rtnl, ip: string): string | undefined {
  const device = host.addresses().find(({ address }) => withoutLength(address) === ip)?.index;
  const link = device === undefined ? undefined : host.link(device);
  return link && `${link.mac} (${link.name} of this host)`;
}

async function askLan(netns: Netns, { index, mac }: Link, ip: string, forMs: number, clock: Clock): Promise<string | undefined> {
  let socket;
  try {
    socket = openPacketSocket(netns, index, ETHERTYPE_ARP);
    for (let sent = 0; sent < PROBES; sent++) {
      socket.send(arpProbe(mac, ip));
      await sleep(clock, forMs / PROBES);
      const rival = socket.receive().flatMap((frame) => parseArp(frame) ?? []).map((arp) => rivalFor(ip, mac, arp)).find((each) => each !== undefined);
      if (rival !== undefined) return rival;
    }
  } catch (error) {
    // A parent that is down reaches nobody, and nobody reaches it: the container may start, and waits for the link.
    if (!(error instanceof KernelError && (error.code === 'ENETDOWN' || error.code === 'ENXIO'))) throw error;
  } finally {
    socket?.close();
  }
  return undefined;
}
