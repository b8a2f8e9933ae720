/** The order in which several are answered. Clients take the first: those that are equally near take turns at that, each answer begins with another one. */
import type { FoundAddresses, ServiceTarget } from './lookup.ts';
import type { Answer } from './response.ts';

/** Which of so many comes first. */
export type BeginAt = (count: number) => number;

export function addressesInTurn({ ips, groups }: FoundAddresses, beginAt: BeginAt, ttl: number): Answer {
  const { all, ...turn } = inTurn(ips, groups, beginAt);
  return { kind: 'addresses', ips: all, ...turn, ttl };
}

/** `targets`: the nearest first. */
export function servicesInTurn(targets: readonly ServiceTarget[], beginAt: BeginAt, ttl: number): Answer {
  const { all, ...turn } = inTurn(targets, [...Map.groupBy(targets, ({ priority }) => priority).values()].map(({ length }) => length), beginAt);
  return { kind: 'services', targets: all, ...turn, ttl };
}

/** `groups`: how many in a row are equally near. The first ones have `first` and `near` to be turned by, the others are where they belong. */
function inTurn<T>(all: readonly T[], groups: readonly number[] | undefined, beginAt: BeginAt): { all: readonly T[]; first: number; near: number } {
  if (groups === undefined || groups.length < 2) return { all, first: beginAt(all.length), near: all.length };
  const [near, ...further] = groups as [number, ...number[]];
  let end = near;
  const rest = further.flatMap((size) => {
    const group = all.slice(end, end += size);
    const first = beginAt(size);
    return [...group.slice(first), ...group.slice(0, first)];
  });
  return { all: [...all.slice(0, near), ...rest], first: beginAt(near), near };
}
