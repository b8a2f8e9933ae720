/** Between the Store's types and the gateway's JSON (int64 as text, bytes as base64, absent means zero or empty). */
import type { Compare, Entry, Write } from './store.ts';

export interface KeyValue { key?: string; value?: string; mod_revision?: string }
export interface Header { revision?: string; cluster_id?: string }
export interface RangeAnswer { header?: Header; kvs?: KeyValue[]; more?: boolean }
export interface TxnAnswer { header?: Header; succeeded?: boolean; responses?: { response_range?: RangeAnswer }[] }
export interface WatchAnswer {
  header?: Header;
  created?: boolean;
  canceled?: boolean;
  compact_revision?: string;
  cancel_reason?: string;
  events?: { type?: string; kv?: KeyValue }[];
}

const encodeText = (text: string): string => Buffer.from(text).toString('base64');
const decodeText = (base64: string | undefined): string => Buffer.from(base64 ?? '', 'base64').toString();

export const revisionOf = (header: Header | undefined): number => Number(header?.revision ?? 0);

/** First key after everything under the prefix. The last byte can be raised: UTF-8 has no 0xff. */
function rangeEnd(prefix: string): string {
  const bytes = Buffer.from(prefix);
  bytes[bytes.length - 1]! += 1;
  return bytes.toString('base64');
}

/** Keys on the wire begin with the cluster's prefix, which the Store's users never see. */
export function createCodec(root: string) {
  const entry = (kv: KeyValue): Entry => ({
    key: decodeText(kv.key).slice(root.length), value: decodeText(kv.value), revision: Number(kv.mod_revision ?? 0),
  });
  const key = (plain: string): string => encodeText(root + plain);

  return {
    entry,
    key,
    /** The range of keys under a prefix, beginning after `after` where it is given. */
    under: (prefix: string, after?: string) => ({
      key: after === undefined ? key(prefix) : encodeText(`${root}${after}\0`), range_end: rangeEnd(root + prefix),
    }),
    txn: (compares: readonly Compare[], writes: readonly Write[]) => ({
      compare: compares.map((compare) => ({ key: key(compare.key), target: 'MOD', result: 'EQUAL', mod_revision: String(compare.revision) })),
      success: writes.map((write) => ('put' in write
        ? { request_put: { key: key(write.put), value: encodeText(write.value), ...(write.lease && { lease: write.lease.id }) } }
        : { request_delete_range: { key: key(write.delete) } })),
      failure: compares.map((compare) => ({ request_range: { key: key(compare.key) } })),
    }),
  };
}

export type Codec = ReturnType<typeof createCodec>;
