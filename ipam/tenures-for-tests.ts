/**
 * The history of who was given which address, and the check that no address was ever two holders'. An address is an
 * object with two operations, acquire and release, each of which takes effect at some instant between its call and its
 * answer. The history of one address is linearizable if and only if the intervals from the answer of each acquisition to
 * the call of the release that ends it do not overlap: acquisitions can then be placed at their answers and releases at
 * their calls, and nothing else can be earlier. One without an answer may have had no effect, so it says nothing.
 */
export interface Tenure {
  address: string;
  holder: string;
  node: number;
  /** When the acquisition was answered, in the order of events of the whole history; and on the clock, in ms. */
  from: number;
  fromMs: number;
  /** When the release was called, and when it was answered on the clock; undefined: it is held to the end. */
  to?: number;
  endedMs?: number;
}

export interface Violation { address: string; what: 'held twice' | 'did not rest'; first: Tenure; second: Tenure }

/** `restMs`: what must lie between a release and an acquisition on another node. */
export function violations(history: readonly Tenure[], restMs: number): Violation[] {
  const found: Violation[] = [];
  for (const [address, tenures] of Map.groupBy(history, (each) => each.address)) {
    tenures.sort((a, b) => a.from - b.from);
    let latest: Tenure | undefined;
    for (const tenure of tenures) {
      if (latest && (latest.to === undefined || latest.to > tenure.from)) {
        if (latest.holder !== tenure.holder) found.push({ address, what: 'held twice', first: latest, second: tenure });
      } else if (latest && latest.node !== tenure.node && tenure.fromMs < latest.endedMs! + restMs) {
        found.push({ address, what: 'did not rest', first: latest, second: tenure });
      }
      if (!latest || latest.to !== undefined && (tenure.to === undefined || tenure.to > latest.to)) latest = tenure;
    }
  }
  return found;
}
