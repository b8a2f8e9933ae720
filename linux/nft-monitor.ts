/**
 * Tells when somebody else changes nftables: a `flush ruleset`, a firewall that reloads, iptables in its nft form.
 * Tables that vanish with their owner's socket are not reported by the kernel.
 */
import { parseAttributes, readText } from './attributes.ts';
import { monitor } from './netlink-monitor.ts';
import { NETLINK_NETFILTER, openNetlink } from './netlink-socket.ts';
import { NFNL_SUBSYS_NFTABLES } from './nfnetlink.ts';
import { askGeneration, decodeGeneration, NEWGEN } from './nft-generation.ts';
import type { Netns } from './types.ts';

/** NFNLGRP_NFTABLES */
const GROUPS = 1 << (7 - 1);
/** The table's name, in the messages of tables, chains, rules, sets, elements and objects alike. */
const NFTA_TABLE = 1;
const FAMILIES: Readonly<Record<number, string>> = { 1: 'inet', 2: 'ip', 3: 'arp', 5: 'netdev', 7: 'bridge', 10: 'ip6' };

/** A table that was changed, as nft writes it; undefined when the kernel dropped notifications: it may be any. */
export type NftChange = { family: string; table: string } | undefined;

/**
 * Calls `onChange` once a turn of the event loop for every table that another process changed. A handler that throws is
 * reported as a process warning and goes on being called. Returns the way to stop (idempotent).
 */
export function watchNft(netns: Netns, onChange: (change: NftChange) => void): () => void {
  /** Of the transaction whose end has not come yet: only the end says who made it. */
  const unfinished = new Map<string, NftChange>();
  const waiting = new Map<string, NftChange>();
  let stopped = false;
  const self = ownPid(netns);

  function deliver(): void {
    const changes = [...waiting.values()];
    waiting.clear();
    for (const change of changes) {
      if (stopped) return;
      try {
        onChange(change);
      } catch (error) {
        process.emitWarning(error instanceof Error ? error : String(error));
      }
    }
  }

  function add(key: string, change: NftChange): void {
    if (waiting.size === 0) setImmediate(deliver);
    waiting.set(key, change);
  }

  const stop = monitor({
    netns,
    protocol: NETLINK_NETFILTER,
    groups: GROUPS,
    onMessages: (messages) => {
      for (const { type, body } of messages) {
        if (type >>> 8 !== NFNL_SUBSYS_NFTABLES || body.length < 4) continue;
        if (type === NEWGEN) {
          if (decodeGeneration(body).pid !== self) for (const [key, change] of unfinished) add(key, change);
          unfinished.clear();
        } else {
          const family = FAMILIES[body[0]!];
          const table = readText(parseAttributes(body.subarray(4)).get(NFTA_TABLE));
          if (family && table) unfinished.set(`${family} ${table}`, { family, table });
        }
      }
    },
    onLost: () => {
      unfinished.clear();
      add('', undefined);
    },
  });
  return () => {
    stopped = true;
    stop();
  };
}

/** This process as the kernel names it in its notifications: by its number outside of every PID namespace, which only the kernel knows. */
function ownPid(netns: Netns): number | undefined {
  const socket = openNetlink(netns, NETLINK_NETFILTER);
  try {
    return askGeneration(socket).pid;
  } finally {
    socket.close();
  }
}
