/**
 * Docker's plugin protocol on a unix socket. dockerd sends HTTP/1.1 POSTs with an empty Host and no Content-Type, has
 * no time limit of its own for socket plugins, and repeats a call whose connection broke without its body. So no
 * connection is ever closed first while the server runs, every call is answered, and within a deadline.
 */
import { rmSync } from 'node:fs';
import http from 'node:http';
import type { Clock } from '../base/clock.ts';
import { WeftError, errorText, weftError } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';
import { plainCall, type Call } from './call.ts';
import { withDeadline } from './deadline.ts';
import { ipamCalls } from './ipam-calls.ts';
import { networkCalls } from './network-calls.ts';
import type { IpamDriverHandlers, NetworkDriverHandlers } from './types.ts';

const MAX_BODY = 1024 * 1024;
const CLOSE_GRACE_MS = 1_000;
const CONTENT_TYPE = 'application/vnd.docker.plugins.v1.1+json';

export interface PluginOptions {
  /** The socket's name, which is the driver's name for Docker; here for the log only. */
  name: string;
  network?: NetworkDriverHandlers;
  ipam?: IpamDriverHandlers;
  /** A dockerd uses the plugin for the first time in its life (`Plugin.Activate`). */
  onActivate?(): void;
  log: Logger;
  clock: Clock;
  /** What a call may take before it is answered with WEFT-CALL-TIMEOUT. Its handler goes on; its end is logged. */
  deadlineMs?: number;
}

export interface PluginServer {
  /** Serves at a socket file made here (0600, replacing a stale one), or at an inherited listening socket. */
  listen(at: { path: string } | { fd: number }): Promise<void>;
  /** Ends idle connections at once, and those with a running call when it is answered, after 1 s at the latest. */
  close(): Promise<void>;
}

export function servePlugin({ name, network, ipam, onActivate, log: parentLog, clock, deadlineMs = 10_000 }: PluginOptions): PluginServer {
  const log = parentLog.child({ plugin: name });
  const implemented = [...(network ? ['NetworkDriver'] : []), ...(ipam ? ['IpamDriver'] : [])];
  const calls = new Map<string, Call>([
    ['Plugin.Activate', plainCall(() => {
      onActivate?.();
      return { Implements: implemented };
    })],
    ...(network ? networkCalls(network) : []),
    ...(ipam ? ipamCalls(ipam) : []),
  ]);
  let closing = false;

  async function answer(method: string, request: http.IncomingMessage): Promise<{ status: number; body: object; error?: unknown }> {
    const call = calls.get(method);
    if (!call) {
      request.resume();
      const error = weftError('WEFT-CALL-UNKNOWN', { call: method });
      return { status: 404, body: { Err: error.message }, error };
    }
    try {
      const body = await readBody(request);
      return { status: 200, body: await withDeadline(call(body), { call: method, deadlineMs, clock, log }) };
    } catch (error) {
      // Docker reads an IPAM driver's error from another key than a network driver's; an empty one would be a success.
      return { status: 200, body: { [method.startsWith('IpamDriver.') ? 'Error' : 'Err']: errorText(error) || 'unknown error' }, error };
    }
  }

  async function serve(request: http.IncomingMessage, response: http.ServerResponse): Promise<void> {
    const started = clock.now();
    const method = (request.url ?? '').slice(1, 100);
    const { status, body, error } = await answer(method, request);
    if (closing) response.setHeader('connection', 'close');
    // Not writeHead: without a length, Node would send the body in chunks.
    response.statusCode = status;
    response.setHeader('content-type', CONTENT_TYPE);
    response.end(`${JSON.stringify(body)}\n`);
    const fields = { call: method, us: Math.round((clock.now() - started) * 1000) };
    if (error === undefined) log.debug(fields, 'call');
    else if (error instanceof WeftError) log.debug({ ...fields, error: error.message }, 'call refused');
    else log.error({ ...fields, err: error }, 'call failed');
  }

  const server = http.createServer(
    // No time limits: the only client is dockerd, and a connection that we close under it costs it the body.
    { requireHostHeader: false, keepAliveTimeout: 0, headersTimeout: 0, requestTimeout: 0 },
    (request, response) => void serve(request, response),
  );

  return {
    listen: (at) => new Promise((resolve, reject) => {
      if ('path' in at) rmSync(at.path, { force: true });
      server.once('error', reject);
      // The file is made within listen(), so that no other code runs under this mask.
      const mask = process.umask(0o177);
      try {
        server.listen(at, () => {
          server.off('error', reject).on('error', (error) => log.error({ err: error }, 'plugin socket'));
          resolve();
        });
      } finally {
        process.umask(mask);
      }
    }),
    close: () => new Promise((resolve) => {
      closing = true;
      const timer = clock.setTimeout(() => server.closeAllConnections(), CLOSE_GRACE_MS);
      server.close(() => {
        clock.clearTimeout(timer);
        resolve();
      });
    }),
  };
}

/** All of the body; what is beyond the limit is read and dropped, so that the client gets to the answer. By events: a stream's iterator costs a call a tenth of a millisecond. */
function readBody(request: http.IncomingMessage): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    let size = 0;
    request.on('data', (chunk: Buffer) => {
      size += chunk.length;
      if (size <= MAX_BODY) chunks.push(chunk);
    });
    request.on('end', () => {
      if (size > MAX_BODY) reject(weftError('WEFT-INPUT-MALFORMED', { what: 'the request', detail: `more than ${MAX_BODY} bytes` }));
      else resolve(Buffer.concat(chunks));
    });
    request.on('error', reject);
  });
}
