/** Tells that somebody took rules away: a flush, a deleted table, chain, rule or element. What is added is nobody's harm. */
import { monitor } from './netlink-monitor.ts';
import type { Netns } from './types.ts';

const NETLINK_NETFILTER = 12;
const NFNL_SUBSYS_NFTABLES = 10;
/** NFNLGRP_NFTABLES */
const GROUP = 1 << (7 - 1);
/** NFT_MSG_DELTABLE, DELCHAIN, DELRULE, DELSET, DELSETELEM (linux/netfilter/nf_tables.h) */
const DELETIONS = new Set([2, 5, 8, 11, 14]);

/** Returns the way to stop. Our own changes are told as well. */
export function watchNftDeletions(netns: Netns, onDeletion: () => void): () => void {
  return monitor({
    netns,
    protocol: NETLINK_NETFILTER,
    groups: GROUP,
    onMessages: (messages) => {
      if (messages.some(({ type }) => type >> 8 === NFNL_SUBSYS_NFTABLES && DELETIONS.has(type & 255))) onDeletion();
    },
    onLost: onDeletion,
  });
}
