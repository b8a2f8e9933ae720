/**
 * One nftables table that is ours alone: set as a whole in one transaction (never a moment without rules; open
 * connections do not notice), and known again by what it looked like when we left it.
 */
import { familyOf, type Family } from '../base/prefix.ts';
import { createRuleCheck } from '../linux/nft-generation.ts';
import type { Nft, NftJson } from '../linux/types.ts';

export interface NftTable {
  /** `body` is what stands between the table's braces. Nothing is done when it is what was set last. */
  set(body: string): void;
  /** Sets it again where it is not as left. Says whether it was. */
  repair(): boolean;
  /** Idempotent. */
  remove(): void;
}

export function createNftTable(nft: Nft, name: string): NftTable {
  let current: string | undefined;
  let fingerprint: string | undefined;
  const check = createRuleCheck(nft);

  const look = (): string | undefined => {
    const objects = nft.query(`list table ${name}`);
    return objects && JSON.stringify(objects.map(withoutState));
  };
  const apply = (body: string): void => {
    nft.run(`table ${name}\ndelete table ${name}\ntable ${name} {\n${body}\n}\n`);
    fingerprint = look();
  };

  return {
    set: (body) => {
      if (body === current) return;
      apply(body);
      current = body;
    },
    repair: () => {
      if (current === undefined || check(() => look() === fingerprint)) return false;
      apply(current);
      return true;
    },
    remove: () => {
      current = undefined;
      if (look() !== undefined) nft.run(`delete table ${name}\n`);
    },
  };
}

/** Handles and counters change without anybody's doing. */
const withoutState = (object: NftJson): unknown =>
  JSON.parse(JSON.stringify(object, (key, value: unknown) => (key === 'handle' || key === 'counter' || key === 'metainfo' ? undefined : value)));

/** Names of links, as nft wants them in a set; each once. */
export const quoted = (names: readonly string[]): string[] => [...new Set(names)].map((name) => `"${name}"`);

/** `elements = { … }` of a set, or nothing where there are none: nft refuses an empty list. */
export const elements = (items: readonly (string | number)[]): string => (items.length === 0 ? '' : `elements = { ${items.join(', ')} }`);

/** Those of the addresses or prefixes that belong to a set of that family. */
export const ofFamily = (family: Family, texts: readonly string[]): string[] => texts.filter((text) => familyOf(text) === family);

/**
 * Drops what comes in with an IPv6 source that is not routed to where it comes from: what rp_filter is for IPv4 (RFC 3704
 * §2.2). A host that looks for duplicates of an address has none yet (RFC 4862 §5.4.2).
 * `from`: the match of the links that it is about.
 */
export const foreignSource = (from: string): string => `${from} ip6 saddr != :: fib saddr . iif oif missing drop`;
