import type { Socket } from 'node:net';
import type { Clock } from '../base/clock.ts';
import { HEADER } from './message.ts';
import { belongsTo } from './reply.ts';

/**
 * One query and its reply over a connection of their own (RFC 7766: a length of two bytes before each message).
 * `socket` is connecting; it is closed at the end. 'absent' where the other side refuses, closes or talks nonsense.
 */
export function exchangeOverTcp(socket: Socket, query: Buffer, end: number, { clock, timeoutMs }: { clock: Clock; timeoutMs: number }): Promise<Buffer | 'absent' | 'timeout'> {
  return new Promise((resolve) => {
    const finish = (result: Buffer | 'absent' | 'timeout'): void => {
      clock.clearTimeout(timer);
      socket.destroy();
      resolve(result);
    };
    const timer = clock.setTimeout(() => finish('timeout'), timeoutMs);
    const chunks: Buffer[] = [];
    let received = 0;
    socket.on('error', () => finish('absent'));
    socket.on('close', () => finish('absent'));
    socket.on('data', (chunk) => {
      chunks.push(chunk);
      received += chunk.length;
      if (received < 2) return;
      // The length may itself be cut in two.
      if (chunks[0]!.length < 2) chunks.splice(0, chunks.length, Buffer.concat(chunks));
      const length = chunks[0]!.readUInt16BE(0);
      if (length < HEADER) return finish('absent');
      if (received < 2 + length) return;
      const reply = Buffer.concat(chunks).subarray(2, 2 + length);
      finish(belongsTo(reply, query, end) ? reply : 'absent');
    });
    socket.write(withLength(query));
  });
}

export function withLength(message: Uint8Array): Buffer {
  const framed = Buffer.allocUnsafe(2 + message.length);
  framed.writeUInt16BE(message.length, 0);
  framed.set(message, 2);
  return framed;
}
