/**
 * What an endpoint may receive and send. What goes to it waits at its port for tokens; what comes from it is led through a link of its own (ifb)
 * that does the same, after its source was looked at. Both are the kernel's when weftd ends.
 */
import type { Repair } from '../cnm/driver.ts';
import type { Link, Rtnl, TokenBucket } from '../linux/types.ts';
import { ensureLink } from './ensure.ts';
import { disableIpv6 } from './ipv6.ts';
import { limiter } from './names.ts';

/** Bits per second. */
export interface Rates { in?: number; out?: number }

/** A packet of the largest MTU goes through whatever the rate. */
const LEAST_BURST = 64 << 10;
/** So much of the rate at once, and so much longer may the rest wait: a sender of TCP is slowed rather than cut off. */
const BURST_SECONDS = 0.01;
const WAIT_SECONDS = 0.05;

function bucketFor(bitsPerSecond: number): TokenBucket {
  const bytesPerSecond = Math.round(bitsPerSecond / 8);
  const burst = Math.max(LEAST_BURST, Math.round(bytesPerSecond * BURST_SECONDS));
  return { bytesPerSecond, burst, limit: burst + Math.round(bytesPerSecond * WAIT_SECONDS) };
}

/** `port` is the endpoint's. */
export function ensureLimits(rtnl: Rtnl, port: Pick<Link, 'index' | 'name'>, endpointId: string, rates: Rates, found: Repair[]): void {
  if (rates.in !== undefined) ensureBucket(rtnl, port, rates.in, found);
  if (rates.out === undefined) return;
  const name = limiter(endpointId);
  const index = ensureLink(rtnl, name, { up: true }, () => {
    rtnl.addLink({ kind: 'ifb', name });
    disableIpv6(rtnl.netns, name);
  }, found);
  ensureBucket(rtnl, { index, name }, rates.out, found);
  if (rtnl.hasIngressRedirect(port.index, index)) return;
  rtnl.setIngressRedirect(port.index, index);
  found.push({ what: `what port ${port.name} lets in was not limited` });
}

function ensureBucket(rtnl: Rtnl, { index, name }: Pick<Link, 'index' | 'name'>, rate: number, found: Repair[]): void {
  const bucket = bucketFor(rate);
  if (rtnl.tokenBucketRate(index) === bucket.bytesPerSecond) return;
  rtnl.setTokenBucket(index, bucket);
  found.push({ what: `link ${name} was not limited to ${rate} bit/s` });
}
