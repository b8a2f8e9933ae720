/** What an eBPF program for packets is given, may call and may answer (linux/bpf.h, linux/pkt_cls.h, bpf-helpers(7)). */

/** Offsets in struct __sk_buff, the program's context. */
export const CONTEXT = { length: 0, type: 4, mark: 8, protocol: 16, vlanPresent: 20, ifindex: 40, data: 76, dataEnd: 80, gsoSize: 176 } as const;

/** The type of a packet that is for this host: for its link's own address, that is (linux/if_packet.h). */
export const PACKET_HOST = 0;

/** linux/if_ether.h, as a program reads them on a little-endian machine. */
export const ETHERTYPE = { ipv4: 0x0008, ipv6: 0xdd86, arp: 0x0608 } as const;

/** IANA's protocol numbers. */
export const PROTOCOL = { tcp: 6, udp: 17, icmpv6: 58 } as const;

export const HELPER = {
  mapLookup: 1, random: 7, redirect: 23, changeType: 32, hashRecalc: 34, pullData: 39, adjustRoom: 50, fibLookup: 69, jiffies: 118, redirectNeighbour: 152, redirectPeer: 155,
} as const;

/** `next`: what comes next decides; after the last program, whose the packet would be without it. */
export const VERDICT = { next: -1, drop: 2 } as const;

/** The register that holds the stack's end; addresses on it are below. */
export const STACK = 10;
