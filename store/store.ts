/**
 * Hard state: what nodes must never disagree about. Keys are '/'-separated text, values are JSON text. Every guard is
 * a compare on a revision inside txn; leases and locks guard nothing.
 */
export interface Entry { key: string; value: string; /** Store-wide revision of the last write of this key, ≥ 1. */ revision: number }

/** The key must have been last written at `revision`; 0: it must not exist. */
export interface Compare { key: string; revision: number }

export type Write = { put: string; value: string; lease?: Lease } | { delete: string };

export interface TxnResult {
  succeeded: boolean;
  /** Store-wide revision after the transaction. */
  revision: number;
  /** When it did not succeed: the compared keys as they are now (absent keys left out). */
  current: Entry[];
}

export type WatchEvent =
  /** Everything under the prefix as of `revision`: sent first, and again whenever events may have been missed (compaction). */
  | { type: 'snapshot'; entries: Entry[]; revision: number }
  | { type: 'put'; entry: Entry }
  | { type: 'delete'; key: string; revision: number };

/** A time to live that the holder renews; keys written with it vanish when it ends. */
export interface Lease { readonly id: string; /** Seconds. */ readonly ttl: number; revoke(): Promise<void> }

/** All methods reject with WEFT-STORE-UNREACHABLE when the store does not answer within its deadline (default 3 s). */
export interface Store {
  /** For people: 'embedded (/var/lib/weft/store.db)' or 'etcd at https://…'. */
  readonly description: string;
  get(key: string): Promise<Entry | undefined>;
  range(prefix: string): Promise<{ entries: Entry[]; revision: number }>;
  /** All compares hold → all writes are done, atomically. */
  txn(compares: readonly Compare[], writes: readonly Write[]): Promise<TxnResult>;
  /**
   * Calls back with a snapshot, then every change in order, for ever: outages and compaction are survived (a new
   * snapshot follows). Returns the way to stop.
   */
  watch(prefix: string, onEvent: (event: WatchEvent) => void): () => void;
  lease(ttlSeconds: number): Promise<Lease>;
  /** Whether the last contact succeeded; for `weft status`. */
  readonly healthy: boolean;
  close(): Promise<void>;
}

export interface WriteOptions {
  /**
   * False: not fsynced before the call returns. Outlives this process, not the machine; is on disk with the next write that is fsynced, never after
   * it. For what no power cut leaves anything of. Of no effect in a transaction. Default true.
   */
  flush?: boolean;
}

/**
 * This node's own durable state. Synchronous and fsynced before it returns (about 0.5 ms), so that what was answered
 * to Docker is never lost. Values are JSON text.
 */
export interface LocalStore {
  get(key: string): string | undefined;
  list(prefix: string): { key: string; value: string }[];
  put(key: string, value: string, options?: WriteOptions): void;
  delete(key: string, options?: WriteOptions): void;
  /** All or nothing, one fsync, or none until later ones. */
  transaction<T>(body: () => T, options?: WriteOptions): T;
  /** Why the last write failed, in words; absent when it did not. */
  readonly problem?: string | undefined;
  close(): void;
}
