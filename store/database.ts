import { closeSync, mkdirSync, openSync } from 'node:fs';
import { dirname } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { errorText, weftError } from '../base/errors.ts';

/**
 * Opens a SQLite file for this process alone: write-ahead log, fsynced at every commit, readable by its owner only (it
 * holds keys). Creates the file and its folder. Throws WEFT-STORE-LOCKED while another process has it, and
 * WEFT-STORE-UNREACHABLE when it cannot be used.
 */
export function openDatabase(path: string, schema: string): DatabaseSync {
  let database: DatabaseSync | undefined;
  try {
    mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
    create(path);
    database = new DatabaseSync(path);
    // With locking_mode=EXCLUSIVE set before the first access, the lock is taken by the first transaction and kept until
    // the file is closed or the process dies, and WAL needs no shared memory (sqlite.org/wal.html, §9).
    database.exec('PRAGMA locking_mode=EXCLUSIVE; PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; BEGIN EXCLUSIVE; COMMIT');
    database.exec(schema);
    return database;
  } catch (error) {
    database?.close();
    if (/database is locked/.test(errorText(error))) throw weftError('WEFT-STORE-LOCKED', { path }, { cause: error });
    throw weftError('WEFT-STORE-UNREACHABLE', { store: path, detail: errorText(error) }, { cause: error });
  }
}

function create(path: string): void {
  try {
    closeSync(openSync(path, 'wx', 0o600));
  } catch (error) {
    // An existing file is not opened here: closing it again would drop this process's POSIX locks on it (fcntl(2)).
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
  }
}

/** Runs body between BEGIN and COMMIT; what it throws, or the commit, rolls everything back. */
export function inTransaction<T>(database: DatabaseSync, body: () => T): T {
  database.exec('BEGIN IMMEDIATE');
  try {
    const result = body();
    database.exec('COMMIT');
    return result;
  } catch (error) {
    // A full disk may have rolled it back already (sqlite.org/lang_transaction.html).
    if (database.isTransaction) database.exec('ROLLBACK');
    throw error;
  }
}
