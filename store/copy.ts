/** Filling an empty store with another's contents, so that it may be interrupted anywhere and begun again. */
import { weftError } from '../base/errors.ts';
import type { Entry, Lease, Store, Write } from './store.ts';

/** Holds the id of the copy for as long as it is incomplete. */
export const COPY_MARK = 'store/copy';

/** Below a transaction's limit, and below etcd's 1.5 MB a request with values of 10 kB. */
const CHUNK = 100;

export interface CopiedEntry { key: string; value: string; lease?: Lease }

async function writeAll(to: Store, writes: readonly Write[]): Promise<void> {
  for (let at = 0; at < writes.length; at += CHUNK) await to.txn([], writes.slice(at, at + CHUNK));
}

const contents = (entries: readonly Entry[]): Map<string, string> =>
  new Map(entries.filter(({ key }) => key !== COPY_MARK).map(({ key, value }) => [key, value]));

/**
 * Copies and verifies; the mark stays until finishCopy. What an interrupted copy of the same id left is replaced. Throws
 * WEFT-STORE-OCCUPIED when the target holds anything else, WEFT-STORE-UNREACHABLE, WEFT-STORE-CONFLICT when the target
 * changed meanwhile.
 */
export async function copyInto(to: Store, entries: readonly CopiedEntry[], id: string): Promise<void> {
  const before = await to.range('');
  const isOurs = before.entries.some(({ key, value }) => key === COPY_MARK && value === JSON.stringify(id));
  if (before.entries.length > 0 && !isOurs) throw weftError('WEFT-STORE-OCCUPIED', { store: to.description, count: before.entries.length });
  if (!isOurs && !(await to.txn([{ key: COPY_MARK, revision: 0 }], [{ put: COPY_MARK, value: JSON.stringify(id) }])).succeeded) {
    throw weftError('WEFT-STORE-CONFLICT', { what: to.description });
  }
  const wanted = new Map(entries.map(({ key, value }) => [key, value]));
  await writeAll(to, [...contents(before.entries).keys()].filter((key) => !wanted.has(key)).map((key) => ({ delete: key })));
  await writeAll(to, entries.map(({ key, value, lease }) => ({ put: key, value, ...(lease && { lease }) })));
  const copied = contents((await to.range('')).entries);
  if (copied.size !== wanted.size || entries.some(({ key, value }) => copied.get(key) !== value)) throw weftError('WEFT-STORE-CONFLICT', { what: to.description });
}

/** The copy is in use. Idempotent. */
export const finishCopy = async (to: Store): Promise<void> => void await to.txn([], [{ delete: COPY_MARK }]);
