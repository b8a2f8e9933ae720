import { closeSync, mkdirSync, openSync, statSync } from 'node:fs';
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
    const { size } = statSync(path);
    const hadLog = (statSync(`${path}-wal`, { throwIfNoEntry: false })?.size ?? 0) > 0;
    database = new DatabaseSync(path);
    // With locking_mode=EXCLUSIVE set before the first access, the lock is taken by the first transaction and kept until
    // the file is closed or the process dies, and WAL needs no shared memory (sqlite.org/wal.html, §9).
    database.exec('PRAGMA locking_mode=EXCLUSIVE; PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; BEGIN EXCLUSIVE; COMMIT');
    checkWhole(database, size, hadLog);
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

/**
 * SQLite reads what lies beyond a file's end as zeros, and takes them for what was written: a file that ends within a page is
 * one that was cut. While there is a log, it may hold what the file lacks.
 */
function checkWhole(database: DatabaseSync, size: number, hadLog: boolean): void {
  const [{ page_size: pageSize }] = database.prepare('PRAGMA page_size').all() as [{ page_size: number }];
  if (!hadLog && size % pageSize !== 0) throw new Error('the file is damaged: its end is missing');
  const [{ quick_check: found }] = database.prepare('PRAGMA quick_check(1)').all() as [{ quick_check: string }];
  if (found !== 'ok') throw new Error(`the file is damaged: ${found}`);
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
