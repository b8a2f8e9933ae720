/** What was found when the ports between this host and others were tried, for people. */
import type { ReachabilityReport } from '../agent/reachability.ts';
import { errorText } from '../base/errors.ts';

/** A first start has to be given its number and the gossip keys, and to meet the others. */
const READY_MS = 15_000;
const AGAIN_MS = 300;

export function probeText({ ways, closed, untried }: ReachabilityReport): string {
  const pairs = [...new Set(ways.map(({ from, to }) => `${from} → ${to}`))];
  const portsOf = (pair: string): string => ways.filter(({ from, to, open }) => `${from} → ${to}` === pair && open).map(({ protocol, port }) => `${protocol.toUpperCase()} ${port}`).join(', ') || 'nothing';
  return [...pairs.map((pair) => `${pair}: ${portsOf(pair)}`), ...closed.map((each) => `! ${each}`), ...untried.map((each) => `not tried: ${each}`)].join('\n');
}

/** Tries when weftd is ready; never rejects, since the host has joined whatever this finds. */
export async function probeAtJoin(ask: <T>(method: string, path: string, body?: object) => Promise<T>): Promise<string> {
  for (const end = Date.now() + READY_MS; ; await new Promise((resolve) => setTimeout(resolve, AGAIN_MS))) {
    try {
      return probeText(await ask<ReachabilityReport>('POST', 'reachability/'));
    } catch (error) {
      if (Date.now() > end) return `the ports between the hosts were not tried (${errorText(error)}); try \`weft node probe\` later`;
    }
  }
}
