/** One HTTP request to one endpoint of etcd's JSON gateway: connections, certificates, what an answer or a failure means. */
import http from 'node:http';
import type { Clock } from '../base/clock.ts';
import { errorText } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';
import { createTlsAgents, type TlsFiles } from './etcd-tls.ts';

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

export interface Request { endpoint: string; path: string; body: object; token: string | undefined }

export interface StreamHandlers { onMessage: (message: Record<string, unknown>) => void; onEnd: (reason: string) => void }

export interface HttpTransport {
  /** Rejects with GatewayError. */
  ask(request: Request, timeoutMs: number): Promise<Record<string, unknown>>;
  /** An answer that is a stream of JSON lines. onEnd comes once, unless stopped. */
  stream(request: Request, handlers: StreamHandlers): () => void;
  close(): void;
}

export function createTransport({ clock, log, tls = {} }: { clock: Clock; log: Logger; tls?: TlsFiles }): HttpTransport {
  const plainAgent = new http.Agent({ keepAlive: true });
  const tlsAgents = createTlsAgents({ files: tls, clock, log });

  function send({ endpoint, path, body, token }: Request): http.ClientRequest {
    const url = new URL(endpoint);
    const text = JSON.stringify(body);
    const options = {
      method: 'POST',
      // A member cut off from the others ends our watches instead of keeping silent (clientv3.WithRequireLeader).
      headers: {
        'content-type': 'application/json', 'content-length': Buffer.byteLength(text), 'grpc-metadata-hasleader': 'true',
        ...(token !== undefined && { authorization: token }),
      },
    };
    const sent = url.protocol === 'https:' ? tlsAgents.request(new URL(path, url), options)
      : url.protocol === 'unix:' ? http.request({ ...options, agent: plainAgent, socketPath: decodeURIComponent(url.pathname), path })
      : http.request(new URL(path, url), { ...options, agent: plainAgent });
    // TCP keep-alive: a peer that vanished is found after 10 s of silence and ten probes a second apart (libuv's setting).
    sent.setSocketKeepAlive(true, 10_000);
    sent.end(text);
    return sent;
  }

  /** Certificates that cannot be read keep a request from leaving. */
  function sendOrFail(request: Request): http.ClientRequest {
    try {
      return send(request);
    } catch (error) {
      throw new GatewayError(errorText(error), { notDone: true, unavailable: true });
    }
  }

  async function ask(request: Request, timeoutMs: number): Promise<Record<string, unknown>> {
    const sent = sendOrFail(request);
    return new Promise((resolve, reject) => {
      let connected = false;
      const fail = (error: GatewayError): void => {
        clock.clearTimeout(timer);
        sent.destroy();
        reject(error);
      };
      const broken = (detail: string): void => fail(new GatewayError(detail, { notDone: !connected, unavailable: true }));
      const timer = clock.setTimeout(() => broken(`no answer within ${Math.round(timeoutMs) / 1000} s`), timeoutMs);
      sent.on('socket', (socket) => {
        if (!socket.connecting) connected = true;
        else socket.once(request.endpoint.startsWith('https:') ? 'secureConnect' : 'connect', () => { connected = true; });
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

  function stream(request: Request, { onMessage, onEnd }: StreamHandlers): () => void {
    const sent = sendOrFail(request);
    let over = false;
    const end = (reason: string): void => {
      if (over) return;
      over = true;
      sent.destroy();
      onEnd(reason);
    };
    sent.on('error', (error) => end(errorText(error)));
    sent.on('response', (response) => {
      let rest = '';
      response.setEncoding('utf8');
      response.on('data', (text: string) => {
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
  }

  return {
    ask,
    stream,
    close: () => {
      plainAgent.destroy();
      tlsAgents.close();
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

/** Found before anything is proposed: by the hasleader metadata, because a learner serves nobody, because members are away. */
const NOT_PROPOSED = new Set(['etcdserver: no leader', 'etcdserver: rpc not supported for learner', 'etcdserver: unhealthy cluster']);

/** Errors are JSON as a rule, plain text where the gateway itself speaks. */
function refusal(httpStatus: number, text: string, parsed: Record<string, unknown> | undefined): GatewayError {
  const said = typeof parsed?.['message'] === 'string' ? parsed['message'] : text.trim().slice(0, MAX_ERROR_TEXT) || `HTTP status ${httpStatus}`;
  const message = said.startsWith('CommonName of client')
    ? `etcd's gateway refuses a client certificate that has a common name while users are switched on; use one without (it said: ${said})` : said;
  const status = typeof parsed?.['code'] === 'number' ? parsed['code'] : undefined;
  // 5xx: the request timed out inside etcd, or it shuts down; a proposal may be carried out all the same.
  return new GatewayError(message, { status, notDone: httpStatus < 500 || NOT_PROPOSED.has(message), unavailable: httpStatus >= 500 });
}
