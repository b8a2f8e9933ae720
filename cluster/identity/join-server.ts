import type { X509Certificate } from 'node:crypto';
import http from 'node:http';
import https from 'node:https';
import type { Socket } from 'node:net';
import type { SecureContextOptions, TLSSocket } from 'node:tls';
import * as v from 'valibot';
import { WeftError, errorText, weftError } from '../../base/errors.ts';
import { readJson } from '../../base/json-body.ts';
import type { Logger } from '../../base/log.ts';
import { JOIN_PATH, JOIN_TIMEOUT_MS, JoinRequest, MAX_BODY, type JoinAnswer } from './join.ts';

/** PEM. */
export interface Credentials { certificate: string; authority: string; key: string; /** Certificates that are refused (RFC 5280 §5). */ revoked?: string }

/** A joiner knows the authority by its hash: it is shown. Named as the only one believed, it keeps Node from loading the world's. */
const contextOf = ({ certificate, authority, key, revoked }: Credentials): SecureContextOptions =>
  ({ cert: `${certificate}\n${authority}\n`, key, ca: authority, ...(revoked !== undefined && { crl: revoked }), minVersion: 'TLSv1.3' });

export interface JoinServer {
  /** A TCP connection that begins with a TLS handshake. */
  accept(socket: Socket): void;
  /** From the next connection on. */
  renew(credentials: Credentials): void;
  close(): void;
}

/** What members may ask besides, by path; the caller's certificate is of this cluster. */
export type MemberCalls = Readonly<Record<string, (body: unknown, caller: X509Certificate) => Promise<unknown>>>;

export interface JoinServerOptions {
  credentials: Credentials;
  /** Checks the secret and issues the certificate; throws WEFT-TOKEN-REFUSED. */
  admit(request: JoinRequest, from: string): Promise<JoinAnswer>;
  memberCalls?: MemberCalls;
  log: Logger;
}

export function createJoinServer({ credentials, admit, memberCalls = {}, log }: JoinServerOptions): JoinServer {
  const open = new Set<Socket>();
  const server = https.createServer({
    // Who joins has no certificate yet.
    ...contextOf(credentials), requestCert: true, rejectUnauthorized: false, handshakeTimeout: JOIN_TIMEOUT_MS, requestTimeout: JOIN_TIMEOUT_MS, headersTimeout: JOIN_TIMEOUT_MS,
  }, (request, response) => {
    const from = request.socket.remoteAddress ?? '';
    void answer(request, from).then(({ status, body }) => {
      response.writeHead(status, { 'content-type': 'application/json', connection: 'close' });
      response.end(JSON.stringify(body));
    });
  });
  // A scanner's garbage is no event of ours.
  server.on('tlsClientError', () => {}).on('clientError', (_, socket) => socket.destroy());

  async function answer(request: http.IncomingMessage, from: string): Promise<{ status: number; body: unknown }> {
    try {
      const { method, url = '' } = request;
      if (method === 'POST' && url === JOIN_PATH) return { status: 200, body: await admit(requestOf(await readJson(request, MAX_BODY)), from) };
      const socket = request.socket as TLSSocket;
      const call = method === 'POST' && socket.authorized && Object.hasOwn(memberCalls, url) ? memberCalls[url] : undefined;
      const caller = call && socket.getPeerX509Certificate();
      if (!caller) throw weftError('WEFT-CALL-UNKNOWN', { call: `${method} ${url}` });
      return { status: 200, body: await call(await readJson(request, MAX_BODY), caller) };
    } catch (error) {
      log.warn({ from, detail: errorText(error) }, 'a call at the gossip port was refused');
      // To somebody unknown nothing is told of what went wrong inside.
      const told = error instanceof WeftError ? error : weftError('WEFT-TOKEN-REFUSED', { detail: 'the node that was asked could not admit it; see its log' });
      return { status: 403, body: { code: told.code, message: told.message } };
    }
  }

  return {
    accept: (socket) => {
      open.add(socket);
      socket.on('close', () => open.delete(socket));
      server.emit('connection', socket);
    },
    renew: (renewed) => server.setSecureContext(contextOf(renewed)),
    close: () => open.forEach((socket) => socket.destroy()),
  };
}

function requestOf(value: unknown): JoinRequest {
  const result = v.safeParse(JoinRequest, value);
  if (!result.success) throw weftError('WEFT-INPUT-MALFORMED', { what: 'the request to join', detail: v.getDotPath(result.issues[0]) ?? 'it' });
  return result.output;
}
