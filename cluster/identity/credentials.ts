/** What the store keeps of the cluster's identity: its authority and the join token. */
import { weftError } from '../../base/errors.ts';
import type { Compare, Store, Write } from '../../store/store.ts';
import { createAuthority, fingerprint, type Authority } from './authority.ts';
import { newSecret, sameSecret } from './token.ts';

const AUTHORITY = 'identity/authority';
const TOKEN = 'identity/token';
const TOKEN_LIFETIME_MS = 24 * 3_600_000;

export interface JoinSecret {
  secret: string;
  /** Milliseconds since the Unix epoch. */
  expires: number;
}

/**
 * The cluster's authority. Throws WEFT-STORE-EMPTY where there is none, and WEFT-NODE-REMOVED where it is not `known`, the certificate of
 * the one that this node was let in by: the store is another cluster's, since a backup was restored.
 */
export async function clusterAuthority(store: Store, known?: string): Promise<Authority> {
  const entry = await store.get(AUTHORITY);
  if (!entry) throw weftError('WEFT-STORE-EMPTY', { store: store.description });
  const authority = JSON.parse(entry.value) as Authority;
  if (known !== undefined && fingerprint(known) !== fingerprint(authority.certificate)) throw weftError('WEFT-NODE-REMOVED', {});
  return authority;
}

/** The authority of a cluster that this node is not in yet; made by whoever comes first. */
export async function foundAuthority(store: Store): Promise<Authority> {
  for (;;) {
    const entry = await store.get(AUTHORITY);
    if (entry) return JSON.parse(entry.value) as Authority;
    await store.txn([{ key: AUTHORITY, revision: 0 }], [{ put: AUTHORITY, value: JSON.stringify(await createAuthority()) }]);
  }
}

/** The token's secret, made anew where there is none, where it has expired, or to `rotate` it: the old one is refused from then on. */
export async function joinSecret(store: Store, now: number, rotate = false): Promise<JoinSecret> {
  for (;;) {
    const entry = await store.get(TOKEN);
    const known = entry && (JSON.parse(entry.value) as JoinSecret);
    if (known && known.expires > now && !rotate) return known;
    const made = { secret: newSecret(), expires: now + TOKEN_LIFETIME_MS };
    if ((await store.txn([{ key: TOKEN, revision: entry?.revision ?? 0 }], [{ put: TOKEN, value: JSON.stringify(made) }])).succeeded) return made;
  }
}

/** What has to be written so that nobody joins by the token any more; the next one is another. */
export const forgetJoinSecret: Write = { delete: TOKEN };

/** Throws WEFT-TOKEN-REFUSED. What it returns holds as long as the token is this one. */
export async function checkSecret(store: Store, secret: string, now: number): Promise<Compare> {
  const entry = await store.get(TOKEN);
  const known = entry && (JSON.parse(entry.value) as JoinSecret);
  if (!entry || !known || !sameSecret(known.secret, secret)) throw weftError('WEFT-TOKEN-REFUSED', { detail: 'it was changed, or is another cluster\'s' });
  if (known.expires <= now) throw weftError('WEFT-TOKEN-REFUSED', { detail: 'it has expired' });
  return { key: TOKEN, revision: entry.revision };
}
