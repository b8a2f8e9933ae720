/**
 * Docker sets the policy of FORWARD to DROP, and no accept in a table of ours can overrule that: the accepts for our
 * links go into that chain itself, appended, so that whatever a user drops before them stays dropped. They are native
 * nft rules, which iptables shows as its own. Where the chain does not exist nothing is dropped, and nothing is added.
 */
import type { Family } from '../base/prefix.ts';
import type { Nft, NftJson } from '../linux/types.ts';

const CHAINS = { 4: 'ip filter FORWARD', 6: 'ip6 filter FORWARD' } as const;

interface Accepts { add: string[]; handles: number[] }

function compare(nft: Nft, chain: string, pattern: string): Accepts | undefined {
  const objects = nft.query(`list chain ${chain}`);
  if (!objects) return undefined;
  const present = objects.flatMap((object) => acceptOf(object, pattern) ?? []);
  const wanted = ['iifname', 'oifname'];
  return {
    add: wanted.filter((key) => !present.some((each) => each.key === key)).map((key) => `add rule ${chain} ${key} "${pattern}" counter accept\n`),
    handles: present.map(({ handle }) => handle),
  };
}

/** libnftables-json(5): { rule: { expr: [{ match: { left: { meta: { key } }, right } }, …, { accept: null }], handle } } */
function acceptOf(object: NftJson, pattern: string): { key: string; handle: number } | undefined {
  const rule = object['rule'] as { handle: number; expr: Record<string, unknown>[] } | undefined;
  if (!rule?.expr.some((each) => 'accept' in each)) return undefined;
  const matches = rule.expr.flatMap((each) => (each['match'] as { left: { meta?: { key: string } }; right: unknown } | undefined) ?? []);
  const [only] = matches;
  return matches.length === 1 && only?.right === pattern && only.left.meta ? { key: only.left.meta.key, handle: rule.handle } : undefined;
}

/** `pattern` is an interface name, or a prefix with '*'. Returns whether something was missing. */
export function ensureForwardAccepts(nft: Nft, pattern: string, families: readonly Family[]): boolean {
  const missing = families.flatMap((family) => compare(nft, CHAINS[family], pattern)?.add ?? []);
  if (missing.length > 0) nft.run(missing.join(''));
  return missing.length > 0;
}

export function removeForwardAccepts(nft: Nft, pattern: string): void {
  for (const chain of Object.values(CHAINS)) {
    for (const handle of compare(nft, chain, pattern)?.handles ?? []) nft.run(`delete rule ${chain} handle ${handle}\n`);
  }
}
