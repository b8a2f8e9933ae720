/**
 * HTTP to etcd's JSON gateway (etcd.io/docs, "gRPC gateway"): POST with JSON under /v3/, int64 as text, bytes as
 * base64. Calls go to one endpoint until it fails, then to the next.
 */
import http from 'node:http';
import https from 'node:https';
import type { Clock } from '../base/clock.ts';
import { errorText } from '../base/errors.ts';

/** A client certificate for etcd must have no common name: etcd 3.4 refuses one that has, once authentication is on. */
export interface EtcdTls { ca?: string | Buffer; cert?: string | Buffer; key?: string | Buffer }

export interface GatewayOptions {
  endpoints: readonly string[];
  clock: Clock;
  /** For one call, all attempts together. */
  deadlineMs: number;
  tls?: EtcdTls;
}

/** Bounds one answer and one message of a stream; pages of a range and events of a transaction stay far below. */
const MAX_MESSAGE = 16 * 1024 * 1024;
const MAX_ERROR_TEXT = 300;

/** What a failed call says about itself. */
export class GatewayError extends Error {
  /** gRPC status code, where etcd gave one (grpc.github.io/grpc/core/md_doc_statuscodes.html). */
  readonly status: number | undefined;
  /** The request cannot have been carried out: it never left, or etcd refused it. */
  readonly notDone: boolean;
  /** Another endpoint may do better. */
  readonly unavailable: boolean;

  constructor(message: string, { status, notDone, unavailable }: { status?: number | undefined; notDone: boolean; unavailable: boolean }) {
    super(message);
    this.name = 'GatewayError';
    this.status = status;
    this.notDone = notDone;
    this.unavailable = unavailable;
  }
}

export const GRPC = { notFound: 5, failedPrecondition: 9, outOfRange: 11 } as const;

export interface Gateway {
  /**
   * One call. `safe`: it may be repeated on another endpoint though its outcome is unknown (reads, keep-alives); a
   * transaction must not be, since the repeat of one that was done fails its own compare.
   */
  call(path: string, body: object, options: { safe: boolean }): Promise<Record<string, unknown>>;
  /** A call whose answer is a stream of JSON lines. onEnd comes once, unless stopped. */
  stream(path: string, body: object, handlers: { onMessage: (message: Record<string, unknown>) => void; onEnd: (reason: string) => void }): () => void;
  /** Whether the last contact succeeded. */
  readonly healthy: boolean;
  close(): void;
}

export function createGateway({ endpoints, clock, deadlineMs, tls }: GatewayOptions): Gateway {
  if (endpoints.length === 0) throw new RangeError('no etcd endpoint is given');
  const agents = { 'http:': new http.Agent({ keepAlive: true }), 'https:': new https.Agent({ keepAlive: true, ...tls }) };
  const urls = endpoints.map((endpoint) => new URL(endpoint));
  let current = 0;
  let healthy = true;
  let closed = false;

  const request = (url: URL, path: string, body: object): http.ClientRequest => {
    const text = JSON.stringify(body);
    const { request: send } = url.protocol === 'https:' ? https : http;
    const sent = send(new URL(path, url), {
      method: 'POST',
      agent: agents[url.protocol as keyof typeof agents],
      // A member cut off from the others ends our watches instead of keeping silent (clientv3.WithRequireLeader).
      headers: { 'content-type': 'application/json', 'content-length': Buffer.byteLength(text), 'grpc-metadata-hasleader': 'true' },
    });
    // TCP keep-alive: a peer that vanished is found after 10 s of silence and ten probes a second apart (libuv's setting).
    sent.setSocketKeepAlive(true, 10_000);
    sent.end(text);
    return sent;
  };

  /** Moves on only if nobody has done so since: several calls may fail at once. */
  const leave = (index: number): void => {
    if (current === index) current = (index + 1) % urls.length;
  };

  function attempt(url: URL, path: string, body: object, timeoutMs: number): Promise<Record<string, unknown>> {
    return new Promise((resolve, reject) => {
      let connected = false;
      const sent = request(url, path, body);
      const fail = (error: GatewayError): void => {
        clock.clearTimeout(timer);
        sent.destroy();
        reject(error);
      };
      const broken = (detail: string): void => fail(new GatewayError(detail, { notDone: !connected, unavailable: true }));
      const timer = clock.setTimeout(() => broken(`no answer within ${Math.round(timeoutMs) / 1000} s`), timeoutMs);
      sent.on('socket', (socket) => {
        if (!socket.connecting) connected = true;
        else socket.once(url.protocol === 'https:' ? 'secureConnect' : 'connect', () => { connected = true; });
      });
      sent.on('error', (error) => broken(errorText(error)));
      sent.on('response', (response) => {
        const chunks: Buffer[] = [];
        let size = 0;
        response.on('data', (chunk: Buffer) => {
          chunks.push(chunk);
          size += chunk.length;
          if (size > MAX_MESSAGE) broken('the answer is too large');
        });
        response.on('error', (error) => broken(errorText(error)));
        response.on('end', () => {
          const text = Buffer.concat(chunks).toString();
          const parsed = parseObject(text);
          if (response.statusCode !== 200) return fail(refusal(response.statusCode ?? 0, text, parsed));
          if (!parsed) return broken('the answer is not JSON');
          clock.clearTimeout(timer);
          resolve(parsed);
        });
      });
    });
  }

  async function call(path: string, body: object, { safe }: { safe: boolean }): Promise<Record<string, unknown>> {
    const end = clock.now() + deadlineMs;
    for (let tries = 1; ; tries++) {
      const index = current;
      try {
        // A silent endpoint must leave time for the others.
        const answer = await attempt(urls[index]!, path, body, Math.min(deadlineMs / urls.length, end - clock.now()));
        healthy = true;
        return answer;
      } catch (error) {
        if (!(error instanceof GatewayError) || !error.unavailable) throw error;
        healthy = false;
        leave(index);
        if (closed || tries === urls.length || !(safe || error.notDone) || clock.now() >= end) throw error;
      }
    }
  }

  const stream: Gateway['stream'] = (path, body, { onMessage, onEnd }) => {
    const index = current;
    const sent = request(urls[index]!, path, body);
    let over = false;
    const end = (reason: string): void => {
      if (over) return;
      over = true;
      sent.destroy();
      leave(index);
      onEnd(reason);
    };
    sent.on('error', (error) => {
      if (!over) healthy = false;
      end(errorText(error));
    });
    sent.on('response', (response) => {
      let rest = '';
      response.setEncoding('utf8');
      response.on('data', (text: string) => {
        healthy = true;
        const lines = (rest + text).split('\n');
        rest = lines.pop()!;
        if (rest.length > MAX_MESSAGE) return end('a message is too large');
        for (const line of lines) {
          if (over) return;
          const message = parseObject(line);
          if (!message) return end(`the stream is not JSON: ${line.slice(0, MAX_ERROR_TEXT)}`);
          onMessage(message);
        }
      });
      response.on('error', (error) => end(errorText(error)));
      response.on('end', () => end(rest === '' ? 'the stream has ended' : rest.slice(0, MAX_ERROR_TEXT)));
    });
    return () => {
      over = true;
      sent.destroy();
    };
  };

  return {
    call,
    stream,
    get healthy() { return healthy; },
    close: () => {
      closed = true;
      agents['http:'].destroy();
      agents['https:'].destroy();
    },
  };
}

function parseObject(text: string): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : undefined;
  } catch {
    return undefined;
  }
}

/** Errors are JSON as a rule, plain text where the gateway itself speaks. */
function refusal(httpStatus: number, text: string, parsed: Record<string, unknown> | undefined): GatewayError {
  const message = typeof parsed?.['message'] === 'string' ? parsed['message'] : text.trim().slice(0, MAX_ERROR_TEXT) || `HTTP status ${httpStatus}`;
  const status = typeof parsed?.['code'] === 'number' ? parsed['code'] : undefined;
  // 5xx: the request timed out inside etcd, or it shuts down; a proposal may be carried out all the same. Having no leader
  // is found before anything is proposed, because of the hasleader metadata.
  const notDone = httpStatus < 500 || message === 'etcdserver: no leader';
  return new GatewayError(message, { status, notDone, unavailable: httpStatus >= 500 });
}
