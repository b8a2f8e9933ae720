/**
 * Which certificates are out, and which of them are refused: kept in the store, so that a node can be taken out although
 * nobody reaches it any more.
 */
import { X509Certificate } from 'node:crypto';
import { weftError } from '../../base/errors.ts';
import type { Compare, Store, Write } from '../../store/store.ts';
import { nodeOf, revocationList } from './authority.ts';
import { clusterAuthority } from './credentials.ts';

/** Followed by a node's id: Issued[], those of its certificates that may still be valid. */
const ISSUED = 'identity/certificates/';
/** Followed by the id of a node that was taken out: it gets no certificate any more, for ids do not come back. */
const REMOVED = 'identity/removed/';
const REVOKED = 'identity/revoked';

/** `expires` in milliseconds since the Unix epoch. */
interface Issued { serial: string; expires: number }

export interface Revocations {
  /** Those that would be valid otherwise, and where their holder was. */
  certificates: (Issued & { address: string })[];
  /** The authority's word on it (RFC 5280 §5), PEM. */
  list: string;
}

/**
 * Enters a certificate; only then may it be handed out. False where one of the guards does not hold, or another one of this
 * node's was entered at the same moment. Throws WEFT-NODE-REMOVED.
 */
export async function enterCertificate(store: Store, certificate: string, now: number, guards: readonly Compare[] = []): Promise<boolean> {
  const parsed = new X509Certificate(certificate);
  const { serialNumber: serial } = parsed;
  const node = nodeOf(parsed);
  const [entry, removed] = await Promise.all([store.get(ISSUED + node), store.get(REMOVED + node)]);
  if (removed) throw weftError('WEFT-NODE-REMOVED', {});
  const known = entry ? JSON.parse(entry.value) as Issued[] : [];
  if (known.some((each) => each.serial === serial)) return true;
  const value = JSON.stringify([...known.filter(({ expires }) => expires > now), { serial, expires: Date.parse(parsed.validTo) }] satisfies Issued[]);
  const compares = [{ key: ISSUED + node, revision: entry?.revision ?? 0 }, { key: REMOVED + node, revision: 0 }, ...guards];
  return (await store.txn(compares, [{ put: ISSUED + node, value }])).succeeded;
}

/** The list of what is refused; made, with nothing on it, by whoever comes first. */
export async function revocations(store: Store, now: number): Promise<Revocations> {
  for (;;) {
    const entry = await store.get(REVOKED);
    if (entry) return JSON.parse(entry.value) as Revocations;
    const list = await revocationList(await clusterAuthority(store), [], now);
    await store.txn([{ key: REVOKED, revision: 0 }], [{ put: REVOKED, value: JSON.stringify({ certificates: [], list } satisfies Revocations) }]);
  }
}

/** What has to be written so that a node's certificates are refused from then on, and under which conditions that is right. */
export async function revocationOf(store: Store, node: { id: string; address: string }, now: number): Promise<{ compares: Compare[]; writes: Write[] }> {
  const [issued, before] = await Promise.all([store.get(ISSUED + node.id), store.get(REVOKED)]);
  const theirs = issued ? JSON.parse(issued.value) as Issued[] : [];
  const certificates = [
    ...(before ? (JSON.parse(before.value) as Revocations).certificates : []),
    ...theirs.map((each) => ({ ...each, address: node.address })),
  ].filter(({ expires }) => expires > now);
  const list = await revocationList(await clusterAuthority(store), certificates.map(({ serial }) => serial), now);
  return {
    compares: [{ key: ISSUED + node.id, revision: issued?.revision ?? 0 }, { key: REVOKED, revision: before?.revision ?? 0 }],
    writes: [
      { put: REVOKED, value: JSON.stringify({ certificates, list } satisfies Revocations) },
      { put: REMOVED + node.id, value: JSON.stringify(now) },
      ...(issued ? [{ delete: ISSUED + node.id }] : []),
    ],
  };
}

/** Calls back with the list as it is, and whenever it has changed. Returns the way to stop. */
export const watchRevocations = (store: Store, onChange: (revocations: Revocations) => void): () => void => store.watch(REVOKED, (event) => {
  const entry = event.type === 'put' ? event.entry : event.type === 'snapshot' ? event.entries.find(({ key }) => key === REVOKED) : undefined;
  if (entry) onChange(JSON.parse(entry.value) as Revocations);
});
