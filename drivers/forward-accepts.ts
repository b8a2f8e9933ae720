/**
 * Docker sets the policy of FORWARD to DROP, and no accept in a table of ours can overrule that: the accepts for our
 * links go into that chain itself, appended, so that whatever a user drops before them stays dropped. They are native
 * nft rules, which iptables shows as its own. Where the chain does not exist nothing is dropped, and nothing is added. A
 * comment tells them from a user's own for the same link.
 */
import type { Family } from '../base/prefix.ts';
import { createRuleCheck, type RuleCheck } from '../linux/nft-generation.ts';
import type { Nft, NftJson } from '../linux/types.ts';

const CHAINS = { 4: 'ip filter FORWARD', 6: 'ip6 filter FORWARD' } as const;
const COMMENT = 'weft';
/** What no link of a user's is called: a firewall that is saved and restored loses comments. */
const OURS = /^(weft-up|wbr-\*)$/;

interface Accept { chain: string; key: string; pattern: string; handle: number; isOurs: boolean }

/** undefined where there is no such chain. */
function acceptsIn(nft: Nft, chain: string): Accept[] | undefined {
  return nft.query(`list chain ${chain}`)?.flatMap((object) => acceptOf(object, chain));
}

/** libnftables-json(5): { rule: { expr: [{ match: { left: { meta: { key } }, right } }, …, { accept: null }], handle } } */
function acceptOf(object: NftJson, chain: string): Accept[] {
  const rule = object['rule'] as { handle: number; comment?: string; expr: Record<string, unknown>[] } | undefined;
  if (!rule?.expr.some((each) => 'accept' in each)) return [];
  const matches = rule.expr.flatMap((each) => (each['match'] as { left: { meta?: { key: string } }; right: unknown } | undefined) ?? []);
  const [only] = matches;
  if (matches.length !== 1 || typeof only?.right !== 'string' || !only.left.meta) return [];
  return [{ chain, key: only.left.meta.key, pattern: only.right, handle: rule.handle, isOurs: rule.comment === COMMENT || OURS.test(only.right) }];
}

/** By what is to be accepted: patterns are few, and the same all the time. */
const checks = new WeakMap<Nft, Map<string, RuleCheck>>();

function checkOf(nft: Nft, what: string): RuleCheck {
  const known = checks.get(nft) ?? new Map<string, RuleCheck>();
  checks.set(nft, known);
  const check = known.get(what) ?? createRuleCheck(nft);
  known.set(what, check);
  return check;
}

/** `pattern` is an interface name, or a prefix with '*'. Returns whether something was missing. */
export function ensureForwardAccepts(nft: Nft, pattern: string, families: readonly Family[]): boolean {
  const missing = (): string[] => families.flatMap((family) => {
    const chain = CHAINS[family];
    const present = acceptsIn(nft, chain);
    if (!present) return [];
    return ['iifname', 'oifname'].filter((key) => !present.some((each) => each.key === key && each.pattern === pattern))
      .map((key) => `add rule ${chain} ${key} "${pattern}" counter accept comment "${COMMENT}"\n`);
  });
  let found: string[] = [];
  if (checkOf(nft, `${pattern} ${families.join()}`)(() => (found = missing()).length === 0)) return false;
  nft.run(found.join(''));
  return true;
}

export const removeForwardAccepts = (nft: Nft, pattern: string): void => remove(nft, (each) => each.pattern === pattern);

/** Those of all links of ours. */
export const removeAllForwardAccepts = (nft: Nft): void => remove(nft, () => true);

function remove(nft: Nft, which: (accept: Accept) => boolean): void {
  for (const chain of Object.values(CHAINS)) {
    for (const accept of acceptsIn(nft, chain) ?? []) if (accept.isOurs && which(accept)) nft.run(`delete rule ${chain} handle ${accept.handle}\n`);
  }
}
