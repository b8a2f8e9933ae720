/**
 * A store that can change what is behind it while it is used: the embedded one becomes the cluster's. Writes wait while the
 * contents are copied; reads and watches go on. Whoever watches gets a new snapshot, as after an outage.
 */
import { copyInto } from './copy.ts';
import type { EmbeddedStore } from './sqlite.ts';
import type { Compare, Entry, Lease, Store, TxnResult, WatchEvent, Write } from './store.ts';
import { leaseEnded } from './txn.ts';

/** No key was ever written at this revision. */
const NEVER = Number.MAX_SAFE_INTEGER;

export interface MovableStore extends Store {
  /**
   * Copies everything to `target` and goes on there. `id` names the attempt over restarts; `commit` makes the change of
   * place durable: before it the old store counts, after it the new one, where finishCopy is left to do. When anything
   * fails before, all stays as it was.
   */
  moveTo(target: Store, options: { id: string; commit: () => void }): Promise<void>;
}

/**
 * Where the contents are. `offset` is added to every revision there, so that revisions go on rising over the move and those
 * of the first store match nothing in the second: a guard read before the move and used after it has to fail, never to hold
 * by accident.
 */
interface Place { store: Store; offset: number }

interface Watcher { prefix: string; onEvent(event: WatchEvent): void; stop(): void }

const shifted = (entry: Entry, offset: number): Entry => ({ ...entry, revision: entry.revision + offset });

function shiftedEvent(event: WatchEvent, offset: number): WatchEvent {
  if (event.type === 'snapshot') return { type: 'snapshot', entries: event.entries.map((entry) => shifted(entry, offset)), revision: event.revision + offset };
  if (event.type === 'put') return { type: 'put', entry: shifted(event.entry, offset) };
  return { ...event, revision: event.revision + offset };
}

export function createMovableStore(first: EmbeddedStore): MovableStore {
  let place: Place = { store: first, offset: 0 };
  let moving: Promise<void> | undefined;
  const watchers = new Set<Watcher>();
  /** By the id that their holders know. */
  const leases = new Map<string, Lease>();
  let lastLease = 0;

  /** Returns without a pause when nothing moves: a write that was begun is in the old store before a move reads it. */
  const settled = (): Promise<void> | undefined => moving?.then(settled);

  function subscribe(watcher: Watcher): void {
    const { store, offset } = place;
    watcher.stop = store.watch(watcher.prefix, (event) => watcher.onEvent(shiftedEvent(event, offset)));
  }

  const compareAt = ({ key, revision }: Compare, { offset }: Place): Compare =>
    ({ key, revision: revision === 0 ? 0 : revision > offset ? revision - offset : NEVER });

  function writeThere(write: Write): Write {
    if (!('put' in write) || !write.lease) return write;
    const lease = leases.get(write.lease.id);
    if (!lease) throw leaseEnded(write.lease);
    return { ...write, lease };
  }

  async function txn(compares: readonly Compare[], writes: readonly Write[]): Promise<TxnResult> {
    if (moving) await settled();
    const { store, offset } = place;
    const result = await store.txn(compares.map((compare) => compareAt(compare, place)), writes.map(writeThere));
    return { ...result, revision: result.revision + offset, current: result.current.map((entry) => shifted(entry, offset)) };
  }

  async function grant(ttl: number): Promise<Lease> {
    if (moving) await settled();
    const { store } = place;
    const lease = await store.lease(ttl);
    if (moving || store !== place.store) {
      // The move began while it was granted, and knows nothing of it.
      await lease.revoke();
      return grant(ttl);
    }
    const id = String(++lastLease);
    leases.set(id, lease);
    return { id, ttl, revoke: async () => {
      if (moving) await settled();
      await leases.get(id)?.revoke();
      leases.delete(id);
    } };
  }

  /** A key whose lease lost its holder in an earlier process was about to go: it stays behind. Returns the old store's revision. */
  async function copy(target: Store, id: string, granted: Map<string, Lease>): Promise<number> {
    const { entries, revision } = await first.range('');
    const byOldId = new Map<string, Lease>();
    for (const [known, old] of leases) {
      const lease = await target.lease(old.ttl);
      granted.set(known, lease);
      byOldId.set(old.id, lease);
    }
    await copyInto(target, entries.flatMap(({ key, value }) => {
      const held = first.leaseOf(key);
      const lease = held === undefined ? undefined : byOldId.get(held);
      return held !== undefined && !lease ? [] : [{ key, value, ...(lease && { lease }) }];
    }), id);
    return revision;
  }

  async function move(target: Store, id: string, commit: () => void): Promise<void> {
    const granted = new Map<string, Lease>();
    try {
      const offset = await copy(target, id, granted);
      commit();
      place = { store: target, offset };
    } catch (error) {
      for (const lease of granted.values()) await lease.revoke().catch(() => {});
      throw error;
    }
    for (const [known, lease] of granted) leases.set(known, lease);
    for (const watcher of watchers) {
      watcher.stop();
      subscribe(watcher);
    }
  }

  return {
    get description() { return place.store.description; },
    get healthy() { return place.store.healthy; },
    get: async (key) => {
      const { store, offset } = place;
      const entry = await store.get(key);
      return entry && shifted(entry, offset);
    },
    range: async (prefix) => {
      const { store, offset } = place;
      const { entries, revision } = await store.range(prefix);
      return { entries: entries.map((entry) => shifted(entry, offset)), revision: revision + offset };
    },
    txn,
    watch: (prefix, onEvent) => {
      const watcher: Watcher = { prefix, onEvent, stop: () => {} };
      subscribe(watcher);
      watchers.add(watcher);
      return () => {
        watchers.delete(watcher);
        watcher.stop();
      };
    },
    lease: grant,
    moveTo: async (target, { id, commit }) => {
      if (moving || place.store !== first) throw new RangeError('the store moves once');
      const done = move(target, id, commit);
      moving = done.catch(() => {}).finally(() => { moving = undefined; });
      await done;
    },
    close: () => place.store.close(),
  };
}
