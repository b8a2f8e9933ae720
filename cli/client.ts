import http from 'node:http';
import { weftError } from '../base/errors.ts';
import type { ErrorAnswer } from '../agent/api.ts';

/** An error that weftd answered; its message is ready to be shown. */
export class AnsweredError extends Error {}

/** One call to weftd's control socket. Rejects with WEFT-AGENT-DOWN when nobody listens there. */
export function call<T>(socket: string, method: string, path: string, body?: object): Promise<T> {
  return new Promise((resolve, reject) => {
    const text = body && JSON.stringify(body);
    // Its length is said: Node sends no body with a DELETE otherwise.
    const headers = { 'content-type': 'application/json', 'content-length': Buffer.byteLength(text ?? '') };
    const request = http.request({ socketPath: socket, method, path: `/v1/${path}`, headers }, (response) => {
      const chunks: Buffer[] = [];
      response.on('data', (chunk: Buffer) => chunks.push(chunk)).on('end', () => {
        const answer: unknown = JSON.parse(Buffer.concat(chunks).toString('utf8'));
        if (response.statusCode === 200) resolve(answer as T);
        else reject(new AnsweredError((answer as ErrorAnswer).message));
      });
    });
    request.on('error', (error) => reject(weftError('WEFT-AGENT-DOWN', { socket }, { cause: error })));
    request.end(text);
  });
}
