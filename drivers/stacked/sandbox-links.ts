/**
 * An endpoint's link in its sandbox. No other end of it stays with the host, so whether it works is looked at inside:
 * often for a moment after Join, while Docker moves it there, and at every repair.
 */
import type { Clock, TimerHandle } from '../../base/clock.ts';
import { withoutLength } from '../../base/ip.ts';
import { announce } from '../../cnm/announce.ts';
import { endpointLink } from '../../cnm/endpoint-link.ts';
import type { Endpoint } from '../../cnm/model.ts';
import { isNetns, openNetns } from '../../linux/netns.ts';
import { openRtnl } from '../../linux/rtnl.ts';
import { KernelError, type Link, type Netns, type Rtnl } from '../../linux/types.ts';

const LOOK_MS = 10;
/** Docker takes some 100 ms; what takes longer than this is seen by the next repair. */
const PATIENCE_MS = 5_000;
/** ANNOUNCE_INTERVAL of RFC 5227 §1.1; there are two announcements. */
const ANNOUNCE_AGAIN_MS = 2_000;

export interface SandboxLinks {
  /** `endpoint.sandbox` is where it will be. */
  expect(endpoint: Endpoint): void;
  /** How it is now. */
  look(endpoint: Endpoint): void;
  /** Deletes it where it was last expected or seen, if it is still there. */
  remove(endpointId: string): Promise<void>;
  close(): void;
}

export interface SandboxLinksOptions {
  clock: Clock;
  onCarrier(endpointId: string, up: boolean): void;
}

interface Entry { endpoint: Endpoint; up: boolean; timer?: TimerHandle }

export function createSandboxLinks({ clock, onCarrier }: SandboxLinksOptions): SandboxLinks {
  const entries = new Map<string, Entry>();

  function entryOf(endpoint: Endpoint): Entry {
    const known = entries.get(endpoint.id);
    if (known?.endpoint.sandbox === endpoint.sandbox) return known!;
    clock.clearTimeout(known?.timer);
    const entry = { endpoint, up: false };
    entries.set(endpoint.id, entry);
    return entry;
  }

  function check(entry: Entry): void {
    const { endpoint } = entry;
    const up = inSandbox(endpoint, (_, link) => link.up && link.carrier) ?? false;
    if (up === entry.up) return;
    entry.up = up;
    onCarrier(endpoint.id, up);
    if (!up) return;
    tell(endpoint);
    entry.timer = clock.setTimeout(() => tell(endpoint), ANNOUNCE_AGAIN_MS);
  }

  function poll(entry: Entry, until: number): void {
    check(entry);
    if (entry.up || clock.now() >= until) return;
    entry.timer = clock.setTimeout(() => poll(entry, until), LOOK_MS);
  }

  return {
    expect: (endpoint) => {
      const entry = entryOf(endpoint);
      clock.clearTimeout(entry.timer);
      entry.timer = clock.setTimeout(() => poll(entry, clock.now() + PATIENCE_MS), LOOK_MS);
    },
    look: (endpoint) => check(entryOf(endpoint)),
    remove: async (endpointId) => {
      const entry = entries.get(endpointId);
      if (!entry) return;
      clock.clearTimeout(entry.timer);
      entries.delete(endpointId);
      await inSandbox(entry.endpoint, (rtnl, { index }) => rtnl.deleteLink(index));
    },
    close: () => {
      for (const { timer } of entries.values()) clock.clearTimeout(timer);
    },
  };
}

function tell(endpoint: Endpoint): void {
  try {
    announce(endpoint);
  } catch (error) {
    // It went down in between: it is announced when it is up again.
    if (!(error instanceof KernelError)) throw error;
  }
}

/** Of both families, plain. */
export const addressesOf = ({ address, addressIpv6 }: Endpoint): string[] => [address, addressIpv6].flatMap((each) => (each === undefined ? [] : [withoutLength(each)]));

/** undefined where the sandbox, or the link in it, is not there. Nothing is held open: that would keep a dead sandbox alive. */
function inSandbox<T>(endpoint: Endpoint, work: (rtnl: Rtnl, link: Link) => T): T | undefined {
  const { sandbox = '' } = endpoint;
  const netns: Netns | undefined = isNetns(sandbox) ? openNetns(sandbox) : undefined;
  if (!netns) return undefined;
  const rtnl = openRtnl(netns);
  const close = (): void => {
    rtnl.close();
    netns.close();
  };
  let result: T | undefined;
  try {
    const link = endpointLink(rtnl, endpoint);
    // In a namespace that is not the sandbox (any more) that may be somebody else's.
    const isOfUs = link && (link.macvlan ?? link.ipvlan) !== undefined;
    result = isOfUs ? work(rtnl, link) : undefined;
  } finally {
    if (result instanceof Promise) void result.finally(close).catch(() => {});
    else close();
  }
  return result;
}
