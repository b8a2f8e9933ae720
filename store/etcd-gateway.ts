/**
 * etcd's JSON gateway (etcd.io/docs, "gRPC gateway"): POST with JSON under /v3/, int64 as text, bytes as base64. Calls go
 * to one endpoint until it fails, then to the next.
 */
import type { Clock } from '../base/clock.ts';
import { errorText } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';
import { createAuthenticator, type Credentials, isStaleToken } from './etcd-auth.ts';
import { createTransport, GatewayError, type StreamHandlers } from './etcd-http.ts';
import type { TlsFiles } from './etcd-tls.ts';

export interface GatewayOptions {
  /** 'https://host:port', 'http://host:port' or 'unix:///path'. */
  endpoints: readonly string[];
  clock: Clock;
  log: Logger;
  /** For one call, all attempts together. */
  deadlineMs: number;
  tls?: TlsFiles;
  /** A user of etcd's own. */
  credentials?: Credentials;
}

export const GRPC = { notFound: 5, failedPrecondition: 9, outOfRange: 11 } as const;
/** Statuses that answer the question; any other says that the store does not serve us. */
const ANSWERS: ReadonlySet<number> = new Set(Object.values(GRPC));
/** Answered by one member of itself, also without a majority (etcd 3.4): no sign that the store is well. */
const LOCAL_CALLS: ReadonlySet<string> = new Set(['/v3/cluster/member/list']);

export interface Gateway {
  /**
   * One call. `safe`: it may be repeated on another endpoint though its outcome is unknown (reads, keep-alives); a
   * transaction must not be, since the repeat of one that was done fails its own compare. Rejects with GatewayError.
   */
  call(path: string, body: object, options: { safe: boolean }): Promise<Record<string, unknown>>;
  /** A call whose answer is a stream of JSON lines. onEnd comes once, unless stopped. */
  stream(path: string, body: object, handlers: StreamHandlers): () => void;
  /** Calls go to these from now on; open streams stay where they are. */
  useEndpoints(endpoints: readonly string[]): void;
  /** Whether the last contact succeeded. */
  readonly healthy: boolean;
  close(): void;
}

export function createGateway({ endpoints: first, clock, log, deadlineMs, tls, credentials }: GatewayOptions): Gateway {
  const transport = createTransport({ clock, log, ...(tls && { tls }) });
  const auth = createAuthenticator(credentials);
  let endpoints: readonly string[] = [];
  let current = '';
  let healthy = true;
  let closed = false;

  function useEndpoints(next: readonly string[]): void {
    if (next.length === 0) throw new RangeError('no etcd endpoint is given');
    endpoints = next;
    if (!endpoints.includes(current)) current = endpoints[0]!;
  }
  useEndpoints(first);

  /** Moves on only if nobody has done so since: several calls may fail at once. */
  const leave = (endpoint: string): void => {
    if (current === endpoint) current = endpoints[(endpoints.indexOf(endpoint) + 1) % endpoints.length]!;
  };

  const tokenFrom = (endpoint: string, timeoutMs: number): Promise<string | undefined> =>
    auth.token((body) => transport.ask({ endpoint, path: '/v3/auth/authenticate', body, token: undefined }, timeoutMs).catch((error: GatewayError) => {
      // What was asked for has not been sent yet, whatever became of this.
      throw new GatewayError(error.message, { status: error.status, notDone: true, unavailable: error.unavailable });
    }));

  /** One attempt at one endpoint, and a second one where the token had run out. */
  async function attempt(endpoint: string, path: string, body: object, end: number): Promise<Record<string, unknown>> {
    for (let renewed = false; ; renewed = true) {
      const token = await tokenFrom(endpoint, end - clock.now());
      try {
        return await transport.ask({ endpoint, path, body, token }, end - clock.now());
      } catch (error) {
        if (renewed || token === undefined || !(error instanceof GatewayError) || !isStaleToken(error.message)) throw error;
        auth.forget(token);
      }
    }
  }

  async function call(path: string, body: object, { safe }: { safe: boolean }): Promise<Record<string, unknown>> {
    const end = clock.now() + deadlineMs;
    for (let tries = 1; ; tries++) {
      const endpoint = current;
      try {
        // A silent endpoint must leave time for the others.
        const answer = await attempt(endpoint, path, body, Math.min(end, clock.now() + deadlineMs / endpoints.length));
        if (!LOCAL_CALLS.has(path)) healthy = true;
        return answer;
      } catch (error) {
        if (!(error instanceof GatewayError)) throw error;
        if (error.status === undefined || !ANSWERS.has(error.status)) healthy = false;
        if (!error.unavailable) throw error;
        leave(endpoint);
        if (closed || tries >= endpoints.length || !(safe || error.notDone) || clock.now() >= end) throw error;
      }
    }
  }

  function stream(path: string, body: object, { onMessage, onEnd }: StreamHandlers): () => void {
    const endpoint = current;
    let stop = (): void => {};
    let over = false;
    const end = (reason: string): void => {
      if (over) return;
      over = true;
      leave(endpoint);
      onEnd(reason);
    };
    tokenFrom(endpoint, deadlineMs).then((token) => {
      if (over) return;
      stop = transport.stream({ endpoint, path, body, token }, {
        onMessage: (message) => {
          healthy = true;
          if (isStaleToken(String((message['error'] as { message?: unknown } | undefined)?.message))) auth.forget(token);
          onMessage(message);
        },
        onEnd: (reason) => {
          healthy = false;
          if (isStaleToken(reason)) auth.forget(token);
          end(reason);
        },
      });
    }).catch((error: unknown) => end(errorText(error)));
    return () => {
      over = true;
      stop();
    };
  }

  return {
    call,
    stream,
    useEndpoints,
    get healthy() { return healthy; },
    close: () => {
      closed = true;
      transport.close();
    },
  };
}
