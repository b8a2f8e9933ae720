import { errorText, weftError } from '../base/errors.ts';
import { inTransaction, openDatabase } from './database.ts';
import type { LocalStore, WriteOptions } from './store.ts';

const SCHEMA = 'CREATE TABLE IF NOT EXISTS entries (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID';

/** This node's own state in one SQLite file. Throws WEFT-STORE-LOCKED, WEFT-STORE-UNREACHABLE. Its writes throw WEFT-DISK and have no effect then. */
export function openLocalStore(path: string): LocalStore {
  const database = openDatabase(path, SCHEMA);
  const select = database.prepare('SELECT value FROM entries WHERE key = ?');
  const selectFrom = database.prepare('SELECT key, value FROM entries WHERE key >= ? ORDER BY key');
  const upsert = database.prepare('INSERT INTO entries (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value');
  const remove = database.prepare('DELETE FROM entries WHERE key = ?');

  let problem: string | undefined;
  function write<T>(body: () => T): T {
    try {
      const result = body();
      problem = undefined;
      return result;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ERR_SQLITE_ERROR') throw error;
      problem = errorText(error);
      throw weftError('WEFT-DISK', { path, detail: problem }, { cause: error });
    }
  }

  function writeWith<T>({ flush = true }: WriteOptions, body: () => T): T {
    if (flush || database.isTransaction) return write(body);
    database.exec('PRAGMA synchronous=NORMAL');
    try {
      return write(body);
    } finally {
      database.exec('PRAGMA synchronous=FULL');
    }
  }

  return {
    get problem() { return problem; },
    get: (key) => (select.get(key) as { value: string } | undefined)?.value,
    list: (prefix) => {
      const found: { key: string; value: string }[] = [];
      for (const row of selectFrom.iterate(prefix) as Iterable<{ key: string; value: string }>) {
        if (!row.key.startsWith(prefix)) break;
        found.push({ key: row.key, value: row.value });
      }
      return found;
    },
    put: (key, value, options = {}) => writeWith(options, () => void upsert.run(key, value)),
    delete: (key, options = {}) => writeWith(options, () => void remove.run(key)),
    transaction: (body, options = {}) => (database.isTransaction ? body() : writeWith(options, () => inTransaction(database, body))),
    close: () => {
      if (database.isOpen) database.close();
    },
  };
}
