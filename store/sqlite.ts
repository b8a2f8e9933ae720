/** The embedded store: one node, one file. The whole state is in memory as well; the file makes it durable. */
import type { DatabaseSync } from 'node:sqlite';
import type { Clock } from '../base/clock.ts';
import { errorText, weftError } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';
import { inTransaction, openDatabase } from './database.ts';
import type { Compare, Entry, Lease, Store, TxnResult, WatchEvent, Write } from './store.ts';
import { checkTxn, leaseEnded } from './txn.ts';

const SCHEMA = `
  CREATE TABLE IF NOT EXISTS entries (key TEXT PRIMARY KEY, value TEXT NOT NULL, revision INTEGER NOT NULL, lease TEXT) WITHOUT ROWID;
  CREATE TABLE IF NOT EXISTS leases (id TEXT PRIMARY KEY, ttl INTEGER NOT NULL) WITHOUT ROWID;
  CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
  INSERT OR IGNORE INTO meta VALUES ('revision', 0), ('lease', 0);`;

interface Stored extends Entry { lease: string | null }

export interface EmbeddedStore extends Store {
  /** Id of the lease that a key was written with. */
  leaseOf(key: string): string | undefined;
}

interface Watcher { prefix: string; deliver(event: WatchEvent): void }

/** Code-point order, which is that of UTF-8 bytes, so of etcd. */
const byKey = (a: Entry, b: Entry): number => Buffer.compare(Buffer.from(a.key), Buffer.from(b.key));
const plain = ({ key, value, revision }: Stored): Entry => ({ key, value, revision });

/**
 * Opens the embedded store; this process is its only owner. A lease is renewed for as long as the process lives, so
 * one that is found at opening lost its holder: it ends after its time to live.
 * Throws WEFT-STORE-LOCKED, WEFT-STORE-UNREACHABLE.
 */
export function openSqliteStore(path: string, { clock, log }: { clock: Clock; log: Logger }): EmbeddedStore {
  const database = openDatabase(path, SCHEMA);
  try {
    return serve(path, database, { clock, log });
  } catch (error) {
    // What it holds cannot be read. Left open, it would be locked as well.
    database.close();
    throw weftError('WEFT-STORE-UNREACHABLE', { store: path, detail: errorText(error) }, { cause: error });
  }
}

function serve(path: string, database: DatabaseSync, { clock, log }: { clock: Clock; log: Logger }): EmbeddedStore {
  const upsert = database.prepare(`INSERT INTO entries VALUES (?, ?, ?, ?)
    ON CONFLICT (key) DO UPDATE SET value = excluded.value, revision = excluded.revision, lease = excluded.lease`);
  const remove = database.prepare('DELETE FROM entries WHERE key = ?');
  const setMeta = database.prepare('UPDATE meta SET value = ? WHERE name = ?');
  const meta = (name: string): number => (database.prepare('SELECT value FROM meta WHERE name = ?').get(name) as { value: number }).value;

  const entries = new Map<string, Stored>();
  for (const row of database.prepare('SELECT key, value, revision, lease FROM entries').iterate() as Iterable<Stored & Record<string, unknown>>) {
    entries.set(row.key, { key: row.key, value: row.value, revision: row.revision, lease: row.lease });
  }
  let revision = meta('revision');
  let lastLease = meta('lease');
  const leases = new Set<string>();
  const orphans = (database.prepare('SELECT id, ttl FROM leases').all() as { id: string; ttl: number }[]).map(({ id, ttl }) => {
    leases.add(id);
    return clock.setTimeout(() => endLease(id).catch((error: unknown) => log.error({ detail: errorText(error) }, 'a lease could not be ended')), ttl * 1000);
  });

  const watchers = new Set<Watcher>();
  let healthy = true;
  const unreachable = (detail: string, cause?: unknown): Error => weftError('WEFT-STORE-UNREACHABLE', { store: path, detail }, { cause });

  function commit(body: () => void): void {
    if (!database.isOpen) throw unreachable('it is closed');
    try {
      inTransaction(database, body);
      healthy = true;
    } catch (error) {
      healthy = false;
      throw unreachable(errorText(error), error);
    }
  }

  /** Memory and watchers follow only when the writes are on disk. */
  function apply(writes: readonly Write[], also: () => void = () => {}): void {
    const effective = writes.filter((write) => 'put' in write || entries.has(write.delete));
    const next = effective.length > 0 ? revision + 1 : revision;
    commit(() => {
      for (const write of effective) {
        if ('put' in write) upsert.run(write.put, write.value, next, write.lease?.id ?? null);
        else remove.run(write.delete);
      }
      if (next > revision) setMeta.run(next, 'revision');
      also();
    });
    revision = next;
    for (const write of effective) {
      if ('put' in write) {
        const stored = { key: write.put, value: write.value, revision, lease: write.lease?.id ?? null };
        entries.set(write.put, stored);
        announce(write.put, { type: 'put', entry: plain(stored) });
      } else {
        entries.delete(write.delete);
        announce(write.delete, { type: 'delete', key: write.delete, revision });
      }
    }
  }

  function announce(key: string, event: WatchEvent): void {
    for (const watcher of watchers) if (key.startsWith(watcher.prefix)) watcher.deliver(event);
  }

  function under(prefix: string): Entry[] {
    return [...entries.values()].filter(({ key }) => key.startsWith(prefix)).map(plain).sort(byKey);
  }

  async function txn(compares: readonly Compare[], writes: readonly Write[]): Promise<TxnResult> {
    checkTxn(compares, writes);
    if (compares.some((compare) => (entries.get(compare.key)?.revision ?? 0) !== compare.revision)) {
      return { succeeded: false, revision, current: compares.flatMap(({ key }) => entries.get(key) ?? []).map(plain) };
    }
    for (const write of writes) if ('put' in write && write.lease && !leases.has(write.lease.id)) throw leaseEnded(write.lease);
    apply(writes);
    return { succeeded: true, revision, current: [] };
  }

  async function endLease(id: string): Promise<void> {
    if (!leases.has(id)) return;
    const held = [...entries.values()].filter((entry) => entry.lease === id).map(({ key }) => ({ delete: key }));
    apply(held, () => database.prepare('DELETE FROM leases WHERE id = ?').run(id));
    leases.delete(id);
  }

  return {
    description: `embedded (${path})`,
    get healthy() { return healthy && database.isOpen; },
    get: async (key) => {
      const stored = entries.get(key);
      return stored && plain(stored);
    },
    range: async (prefix) => ({ entries: under(prefix), revision }),
    leaseOf: (key) => entries.get(key)?.lease ?? undefined,
    txn,

    watch: (prefix, onEvent) => {
      const queue: WatchEvent[] = [];
      const drain = (): void => {
        for (let event = queue.shift(); event; event = queue.shift()) {
          if (!watchers.has(watcher)) return;
          try {
            onEvent(event);
          } catch (error) {
            log.error({ prefix, detail: errorText(error) }, 'a watcher failed');
          }
        }
      };
      const deliver = (event: WatchEvent): void => {
        if (queue.push(event) === 1) queueMicrotask(drain);
      };
      const watcher: Watcher = { prefix, deliver };
      watchers.add(watcher);
      deliver({ type: 'snapshot', entries: under(prefix), revision });
      return () => void watchers.delete(watcher);
    },

    lease: async (ttl): Promise<Lease> => {
      const id = String(lastLease + 1);
      commit(() => {
        setMeta.run(lastLease + 1, 'lease');
        database.prepare('INSERT INTO leases VALUES (?, ?)').run(id, ttl);
      });
      lastLease++;
      leases.add(id);
      return { id, ttl, revoke: () => endLease(id) };
    },

    close: async () => {
      watchers.clear();
      for (const timer of orphans) clock.clearTimeout(timer);
      if (database.isOpen) database.close();
    },
  };
}
