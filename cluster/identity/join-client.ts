import { X509Certificate } from 'node:crypto';
import { once } from 'node:events';
import https from 'node:https';
import tls from 'node:tls';
import * as v from 'valibot';
import { ERRORS, WeftError, errorText, weftError, type ErrorCode } from '../../base/errors.ts';
import { hostPort } from '../../base/ip.ts';
import { fingerprint } from './authority.ts';
import { JOIN_PATH, JOIN_TIMEOUT_MS, JoinAnswer, JoinRefusal, MAX_BODY, type JoinRequest } from './join.ts';
import type { Token } from './token.ts';

/**
 * Joins by a token. Nothing is said before the other side has proved to be of the token's cluster. Throws
 * WEFT-JOIN-UNREACHABLE, WEFT-JOIN-STRANGER, and what the cluster refuses with (WEFT-TOKEN-REFUSED).
 */
export async function join(token: Token, request: Omit<JoinRequest, 'secret'>): Promise<JoinAnswer> {
  const unreachable = (detail: string): WeftError => weftError('WEFT-JOIN-UNREACHABLE', { address: hostPort(token.host, token.port), port: token.port, detail });
  // Judged by the token below, since nobody here knows the authority yet.
  const socket = tls.connect({ host: token.host, port: token.port, rejectUnauthorized: false, minVersion: 'TLSv1.3' });
  const timer = setTimeout(() => socket.destroy(new Error(`no answer within ${JOIN_TIMEOUT_MS / 1000} s`)), JOIN_TIMEOUT_MS);
  try {
    await once(socket, 'secureConnect').catch((error: unknown) => {
      throw unreachable(errorText(error));
    });
    const authority = authorityOf(socket, token);
    const { status, text } = await ask(socket, JSON.stringify({ ...request, secret: token.secret })).catch((error: unknown) => {
      throw unreachable(errorText(error));
    });
    if (status !== 200) throw refusal(text, unreachable);
    const answer = v.safeParse(JoinAnswer, parse(text));
    if (!answer.success) throw unreachable('it answers what this version does not understand');
    const certificate = new X509Certificate(answer.output.certificate);
    if (fingerprint(answer.output.authority) !== token.authority || !certificate.verify(authority.publicKey)) throw weftError('WEFT-JOIN-STRANGER', { address: hostPort(token.host, token.port) });
    return answer.output;
  } finally {
    clearTimeout(timer);
    socket.destroy();
  }
}

/** The authority of who answers, which must be the token's and must have signed the other side's certificate. */
function authorityOf(socket: tls.TLSSocket, token: Token): X509Certificate {
  const peer = socket.getPeerX509Certificate();
  const authority = peer?.issuerCertificate;
  const now = Date.now();
  const isValid = peer && authority && fingerprint(authority) === token.authority && peer.checkIssued(authority) && peer.verify(authority.publicKey)
    && Date.parse(peer.validFrom) <= now && now <= Date.parse(peer.validTo);
  if (!isValid) throw weftError('WEFT-JOIN-STRANGER', { address: hostPort(token.host, token.port) });
  return authority;
}

function ask(socket: tls.TLSSocket, body: string): Promise<{ status: number; text: string }> {
  return new Promise((resolve, reject) => {
    const request = https.request({ method: 'POST', path: JOIN_PATH, createConnection: () => socket, headers: { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) } }, (response) => {
      let text = '';
      response.on('data', (chunk: Buffer) => {
        text += chunk.toString();
        if (text.length > MAX_BODY) response.destroy(new Error('its answer is too long'));
      });
      response.on('end', () => resolve({ status: response.statusCode ?? 0, text })).on('error', reject);
    });
    request.on('error', reject);
    request.end(body);
  });
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** In the cluster's words. */
function refusal(text: string, otherwise: (detail: string) => WeftError): Error {
  const result = v.safeParse(JoinRefusal, parse(text));
  if (!result.success || !(result.output.code in ERRORS)) return otherwise('it refuses without a reason');
  const error = new WeftError(result.output.code as ErrorCode, {});
  error.message = result.output.message;
  return error;
}
