import { existsSync, linkSync, renameSync, rmSync } from 'node:fs';
import { dirname } from 'node:path';
import type { Clock } from '../base/clock.ts';
import { errorText } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';
import type { BackupEntry } from './backup.ts';
import { copyInto, finishCopy } from './copy.ts';
import { syncFolder } from './files.ts';
import { openSqliteStore } from './sqlite.ts';

const SIDE_FILES = ['-wal', '-shm'];

/**
 * Puts an embedded store with these entries in place, whole or not at all; one that is there is kept at `keptAt`. Nobody may
 * have it open: WEFT-STORE-LOCKED. Throws WEFT-STORE-CONFLICT when what was written is not what is read.
 */
export async function restoreEmbedded(path: string, entries: readonly BackupEntry[], { keptAt, clock, log }: { keptAt: string; clock: Clock; log: Logger }): Promise<void> {
  const draft = `${path}.restored`;
  for (const suffix of ['', ...SIDE_FILES]) rmSync(`${draft}${suffix}`, { force: true });
  const store = openSqliteStore(draft, { clock, log });
  try {
    await copyInto(store, entries, 'restore');
    await finishCopy(store);
  } finally {
    await store.close();
  }
  if (existsSync(path)) await putAway(path, keptAt, { clock, log });
  renameSync(draft, path);
  syncFolder(dirname(path));
}

/** A second name for the file, which stays in place until the new one replaces it. Its log must not: it would be applied to the new one. */
async function putAway(path: string, keptAt: string, options: { clock: Clock; log: Logger }): Promise<void> {
  try {
    await openSqliteStore(path, options).close();
  } catch (error) {
    if ((error as { code?: string }).code === 'WEFT-STORE-LOCKED') throw error;
    options.log.warn({ path, keptAt, detail: errorText(error) }, 'the store in place is damaged; it is kept, too');
  }
  linkSync(path, keptAt);
  for (const suffix of SIDE_FILES) if (existsSync(`${path}${suffix}`)) renameSync(`${path}${suffix}`, `${keptAt}${suffix}`);
  syncFolder(dirname(path));
}
