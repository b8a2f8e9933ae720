/**
 * One node, one host: the host on which it runs holds a claim in the store, for as long as it renews it. A copy that gets past
 * everything else finds that claim taken. Nothing that runs depends on it: while the store is away nobody loses it to anybody.
 */
import { randomUUID } from 'node:crypto';
import { readFileSync, readlinkSync } from 'node:fs';
import type { Clock, TimerHandle } from '../base/clock.ts';
import { errorText, weftError, type WeftError } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';
import type { Lease, Store } from '../store/store.ts';

/** Prefix; the node's id follows. */
export const CLAIMS = 'instances/';
const TTL_S = 45;
/** A claim that is not renewed is gone by then. */
const PATIENCE_MS = 60_000;
const RETRY_MS = 5_000;

interface Claim {
  /** Another one with each start. */
  instance: string;
  host: string;
  address: string;
  /** The node was there before, and is to be here now. */
  movedFrom?: string;
}

export interface InstanceOptions {
  store: Store;
  node: { id: string; name: string; address: string; movedFrom: string | undefined };
  clock: Clock;
  log: Logger;
  /** Default: this one, until its next boot. Several may share a kernel. */
  host?: string;
  /** The node runs on another host, and this one is the copy: WEFT-NODE-CLONED, with the address of the node. Called at most once. */
  onCloned(error: WeftError, address: string): void;
}

export interface InstanceClaim {
  /** Resolves when the claim is held for the first time, or when the store does not answer: no start waits for it. Rejects with WEFT-NODE-CLONED instead. */
  readonly settled: Promise<void>;
  /** Lets go of it, if the store answers; else it ends by itself. */
  close(): Promise<void>;
}

const thisHost = (): string => `${readFileSync('/proc/sys/kernel/random/boot_id', 'latin1').trim()} ${readlinkSync('/proc/self/ns/net')}`;

export function claimInstance({ store, node, clock, log, host = thisHost(), onCloned }: InstanceOptions): InstanceClaim {
  const key = CLAIMS + node.id;
  const mine: Claim = { instance: randomUUID(), host, address: node.address, ...(node.movedFrom !== undefined && { movedFrom: node.movedFrom }) };
  const { promise: settled, resolve, reject } = Promise.withResolvers<void>();
  settled.catch(() => {});
  let lease: Lease | undefined;
  let wasHeld = false;
  let rival: { instance: string; since: number } | undefined;
  let timer: TimerHandle;
  let over = false;
  let last = Promise.resolve();

  /** True when there is nothing more to do until the claim changes. */
  async function settle(): Promise<boolean> {
    lease ??= await store.lease(TTL_S);
    const entry = await store.get(key);
    const holder = entry && JSON.parse(entry.value) as Claim;
    const isOther = holder !== undefined && holder.instance !== mine.instance && holder.movedFrom !== node.address;
    if (isOther && (holder.host === host || holder.address === node.address)) {
      // The process before this one, or the one after.
      if (wasHeld) {
        await finish();
        return true;
      }
    } else if (isOther) {
      if (rival?.instance !== holder.instance) rival = { instance: holder.instance, since: clock.now() };
      if (!wasHeld && clock.now() - rival.since < PATIENCE_MS) return false;
      const error = weftError('WEFT-NODE-CLONED', { node: node.name, address: holder.address });
      onCloned(error, holder.address);
      reject(error);
      await finish();
      return true;
    }
    rival = undefined;
    if (holder?.instance !== mine.instance && !(await store.txn([{ key, revision: entry?.revision ?? 0 }], [{ put: key, value: JSON.stringify(mine), lease }])).succeeded) return settle();
    wasHeld = true;
    resolve();
    return true;
  }

  async function finish(): Promise<void> {
    over = true;
    clock.clearTimeout(timer);
    stop();
    await lease?.revoke().catch(() => {});
  }

  async function look(): Promise<void> {
    if (over) return;
    clock.clearTimeout(timer);
    let done = false;
    try {
      done = await settle();
    } catch (error) {
      log.debug({ detail: errorText(error) }, 'the claim to be this node could not be made; tried again');
      resolve();
    }
    if (!done && !over) timer = clock.setTimeout(again, RETRY_MS);
  }
  /** One after the other. */
  const again = (): void => void (last = last.then(look));
  // Also tells when it has ended with a lease that could not be renewed.
  const stop = store.watch(key, again);

  return {
    settled,
    close: async () => {
      over = true;
      await last;
      await finish();
    },
  };
}
