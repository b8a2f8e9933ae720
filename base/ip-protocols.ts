/** Assigned Internet Protocol Numbers (IANA, RFC 5237), by which IP headers, the kernel and Docker name protocols. */
export const IP_PROTOCOL = { tcp: 6, udp: 17, ipv6: 41, icmpv6: 58, sctp: 132 } as const;
