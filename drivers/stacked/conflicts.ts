/**
 * Address conflict detection on a LAN (RFC 5227; IPv6: RFC 4862 §5.4): an address is asked for before a container gets it. What
 * is asked is asked from the parent, where answers come without anything being made first.
 */
import { ETHERTYPE_ARP, arpProbe, parseArp, rivalFor } from '../../base/arp.ts';
import { sleep, type Clock } from '../../base/clock.ts';
import { weftError } from '../../base/errors.ts';
import { withoutLength } from '../../base/ip.ts';
import { ETHERTYPE_IPV6, duplicateProbe, ipv6RivalFor, probeGroups } from '../../base/neighbour-discovery.ts';
import { openPacketSocket } from '../../linux/packet-socket.ts';
import { KernelError, type Link, type Netns, type Rtnl } from '../../linux/types.ts';

/** PROBE_NUM of RFC 5227 §1.1. Its intervals of a second and more, and RFC 4862's, are for machines that nobody waits for. */
const PROBES = 3;

/** How the machines of a LAN are asked for an address of a family. */
interface Question {
  etherType: number;
  /** Ethernet addresses by which answers come, besides our own and everybody's. */
  groups: readonly string[];
  frame: Buffer;
  rival(answer: Buffer): string | undefined;
}

/** `isOnWire`: who has the address answers there. Throws WEFT-ADDRESS-ON-LAN. */
export async function probe(host: Rtnl, parent: Link, ip: string, { forMs, isOnWire, clock }: { forMs: number; isOnWire: boolean; clock: Clock }): Promise<void> {
  if (forMs === 0) return;
  const rival = ownerHere(host, ip) ?? (isOnWire ? await askLan(host.netns, parent.index, questionFor(ip, parent.mac), forMs, clock) : undefined);
  if (rival !== undefined) throw weftError('WEFT-ADDRESS-ON-LAN', { address: ip, mac: rival, parent: parent.name });
}

/** The host itself would not hear the question. */
function ownerHere(host: Rtnl, ip: string): string | undefined {
  const device = host.addresses().find(({ address }) => withoutLength(address) === ip)?.index;
  const link = device === undefined ? undefined : host.link(device);
  return link && `${link.mac} (${link.name} of this host)`;
}

function questionFor(ip: string, mac: string): Question {
  if (ip.includes(':')) return { etherType: ETHERTYPE_IPV6, groups: probeGroups(ip), frame: duplicateProbe(mac, ip), rival: (answer) => ipv6RivalFor(ip, mac, answer) };
  const rival = (answer: Buffer): string | undefined => {
    const arp = parseArp(answer);
    return arp && rivalFor(ip, mac, arp);
  };
  return { etherType: ETHERTYPE_ARP, groups: [], frame: arpProbe(mac, ip), rival };
}

async function askLan(netns: Netns, device: number, { etherType, groups, frame, rival }: Question, forMs: number, clock: Clock): Promise<string | undefined> {
  let socket;
  try {
    socket = openPacketSocket(netns, device, etherType);
    for (const group of groups) socket.join(group);
    for (let sent = 0; sent < PROBES; sent++) {
      socket.send(frame);
      await sleep(clock, forMs / PROBES);
      const found = socket.receive().map(rival).find((each) => each !== undefined);
      if (found !== undefined) return found;
    }
  } catch (error) {
    // A parent that is down reaches nobody, and nobody reaches it: the container may start, and waits for the link.
    if (!(error instanceof KernelError && (error.code === 'ENETDOWN' || error.code === 'ENXIO'))) throw error;
  } finally {
    socket?.close();
  }
  return undefined;
}
