/** The cluster's store: etcd 3.4 or newer over its JSON gateway. */
import type { Clock } from '../base/clock.ts';
import { errorText, weftError } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';
import { createCodec, type RangeAnswer, revisionOf, type TxnAnswer } from './etcd-codec.ts';
import type { Credentials } from './etcd-auth.ts';
import { createGateway, GRPC } from './etcd-gateway.ts';
import { GatewayError } from './etcd-http.ts';
import { createMembers, type Members } from './etcd-members.ts';
import { grantLease } from './etcd-lease.ts';
import type { TlsFiles } from './etcd-tls.ts';
import { followPrefix } from './etcd-watch.ts';
import type { Compare, Entry, Lease, Store, TxnResult, Write } from './store.ts';
import { checkTxn, leaseEnded } from './txn.ts';

const DEADLINE_MS = 3000;
/** Entries a page of a range; keeps one answer, and the parsing of it, small. */
const PAGE = 500;

export interface EtcdOptions {
  /** 'http://host:port' or 'https://…', tried in turn. */
  endpoints: readonly string[];
  /** Of all keys; ends with '/'. */
  prefix?: string;
  clock: Clock;
  log: Logger;
  tls?: TlsFiles;
  credentials?: Credentials;
}

export interface EtcdStore extends Store {
  /** The cluster's members have changed. */
  useEndpoints(endpoints: readonly string[]): void;
  readonly members: Members;
}

/** For people: this host's own socket is not a place. */
const placeOf = (endpoints: readonly string[]): string => {
  const remote = endpoints.filter((endpoint) => !endpoint.startsWith('unix:'));
  return (remote.length > 0 ? remote : endpoints).join(', ');
};

/** Connects at the first call, so that it can be opened while etcd is away. */
export function openEtcdStore({ endpoints, prefix: root = '/weft/v1/', clock, log, tls, credentials }: EtcdOptions): EtcdStore {
  const gateway = createGateway({ endpoints, clock, log, deadlineMs: DEADLINE_MS, ...(tls && { tls }), ...(credentials && { credentials }) });
  const codec = createCodec(root);
  let place = placeOf(endpoints);
  const stops = new Set<() => void>();
  let closed = false;

  const unreachable = (error: unknown): Error =>
    weftError('WEFT-STORE-UNREACHABLE', { store: place, detail: errorText(error).replaceAll(/\s+/g, ' ').trim() }, { cause: error });

  /** Throws WEFT-STORE-UNREACHABLE, or the GatewayError where its status is one of `expected`. */
  async function call(path: string, body: object, { safe, expected = [] }: { safe: boolean; expected?: readonly number[] }): Promise<Record<string, unknown>> {
    if (closed) throw unreachable('it is closed');
    try {
      return await gateway.call(path, body, { safe });
    } catch (error) {
      if (error instanceof GatewayError && error.status !== undefined && expected.includes(error.status)) throw error;
      throw unreachable(error);
    }
  }

  async function list(prefix: string): Promise<{ entries: Entry[]; revision: number }> {
    for (;;) {
      const listed = await listAtOneRevision(prefix);
      if (listed) return listed;
    }
  }

  /** Undefined when the revision of the first page was compacted before the last page was read. */
  async function listAtOneRevision(prefix: string): Promise<{ entries: Entry[]; revision: number } | undefined> {
    const entries: Entry[] = [];
    let revision = 0;
    for (;;) {
      const body = { ...codec.under(prefix, entries.at(-1)?.key), limit: String(PAGE), ...(revision > 0 && { revision: String(revision) }) };
      let page: RangeAnswer;
      try {
        page = await call('/v3/kv/range', body, { safe: true, expected: [GRPC.outOfRange] });
      } catch (error) {
        if (error instanceof GatewayError) return undefined;
        throw error;
      }
      revision ||= revisionOf(page.header);
      for (const kv of page.kvs ?? []) entries.push(codec.entry(kv));
      if (!page.more) return { entries, revision };
    }
  }

  let asking: Promise<number> | undefined;
  function revision(): Promise<number> {
    asking ??= call('/v3/kv/range', { key: codec.key(''), count_only: true }, { safe: true })
      .then(({ header }: RangeAnswer) => revisionOf(header))
      .finally(() => { asking = undefined; });
    return asking;
  }

  async function get(key: string): Promise<Entry | undefined> {
    const { kvs }: RangeAnswer = await call('/v3/kv/range', { key: codec.key(key) }, { safe: true });
    return kvs?.[0] && codec.entry(kvs[0]);
  }

  async function txn(compares: readonly Compare[], writes: readonly Write[]): Promise<TxnResult> {
    checkTxn(compares, writes);
    let answer: TxnAnswer;
    try {
      answer = await call('/v3/kv/txn', codec.txn(compares, writes), { safe: writes.length === 0, expected: [GRPC.notFound] });
    } catch (error) {
      const leased = writes.find((write) => 'put' in write && write.lease);
      if (error instanceof GatewayError && leased && 'put' in leased) throw leaseEnded(leased.lease!);
      throw error;
    }
    const succeeded = answer.succeeded ?? false;
    const current = succeeded ? [] : (answer.responses ?? []).flatMap(({ response_range }) => (response_range?.kvs ?? []).map(codec.entry));
    return { succeeded, revision: revisionOf(answer.header), current };
  }

  /** Runs until stopped or until the store is closed. */
  function background(start: () => () => void): () => void {
    const stop = start();
    const end = (): void => {
      stops.delete(end);
      stop();
    };
    stops.add(end);
    return end;
  }

  return {
    get description() { return `etcd at ${place}`; },
    get healthy() { return gateway.healthy; },
    useEndpoints: (next) => {
      gateway.useEndpoints(next);
      place = placeOf(next);
    },
    get,
    range: list,
    txn,
    watch: (prefix, onEvent) => background(() => followPrefix({
      gateway, codec, prefix, onEvent, clock, log, revision,
      list: () => list(prefix),
    })),
    members: createMembers(call),
    lease: async (ttl): Promise<Lease> => {
      const { lease, stop } = await grantLease({ call, ttl, clock, log });
      const end = background(() => stop);
      return { ...lease, revoke: () => { end(); return lease.revoke(); } };
    },
    close: async () => {
      closed = true;
      for (const stop of stops) stop();
      gateway.close();
    },
  };
}
