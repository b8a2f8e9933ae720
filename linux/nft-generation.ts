/** The generation of a namespace's nftables: a number that every transaction changes, whoever made it (NFT_MSG_GETGEN in linux/netfilter/nf_tables.h). */
import { parseAttributes } from './attributes.ts';
import type { NetlinkSocket } from './netlink-socket.ts';
import { nfgenmsg, NFNL_SUBSYS_NFTABLES, readBe32 } from './nfnetlink.ts';
import type { Nft } from './types.ts';

export const NEWGEN = (NFNL_SUBSYS_NFTABLES << 8) | 15;
const GETGEN = (NFNL_SUBSYS_NFTABLES << 8) | 16;
const NFTA_GEN_ID = 1;
const NFTA_GEN_PROC_PID = 2;

export interface Generation { id: number | undefined; pid: number | undefined }

/** The body of a NEWGEN message. `pid`: whose it is, by its number outside of every PID namespace. */
export function decodeGeneration(body: Buffer): Generation {
  const attributes = parseAttributes(body.subarray(4));
  return { id: readBe32(attributes.get(NFTA_GEN_ID)), pid: readBe32(attributes.get(NFTA_GEN_PROC_PID)) };
}

/** `pid` is the one that asks. Throws KernelError. */
export function askGeneration(socket: NetlinkSocket): Generation {
  const [answer] = socket.request('ask for the generation of nftables', { type: GETGEN, flags: 0, body: nfgenmsg(0) });
  return answer ? decodeGeneration(answer.body) : { id: undefined, pid: undefined };
}

/** Whether rules are right; they are looked at unless nothing in their namespace was changed since they were: reading a table takes milliseconds, asking for this 15 µs. */
export type RuleCheck = (areRight: () => boolean) => boolean;

export function createRuleCheck(nft: Nft): RuleCheck {
  let rightAt: number | undefined;
  return (areRight) => {
    // Before the look: what is changed during it makes the next one look again.
    const now = nft.generation();
    if (now !== undefined && now === rightAt) return true;
    const right = areRight();
    rightAt = right ? now : undefined;
    return right;
  };
}
