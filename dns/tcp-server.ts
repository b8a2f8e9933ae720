/**
 * DNS over TCP (RFC 7766) on a listening socket made elsewhere. Everything is bounded: connections, the size of a
 * query, what is buffered of it, the time it may take to arrive, and the work done in one turn. Queries of one
 * connection are answered in their order, one at a time.
 */
import { createServer, type Socket } from 'node:net';
import type { Clock } from '../base/clock.ts';
import { HEADER } from './message.ts';
import type { Responder } from './responder.ts';
import { withLength } from './tcp-exchange.ts';

const MAX_CONNECTIONS = 64;
/** From one query's end to the next one's, so that dripping bytes gains nothing. */
const IDLE_MS = 10_000;
const MAX_QUERY = 4096;
const QUERIES_PER_TURN = 16;

/** Answers are copied out of it at once, so all connections share it. */
const scratch = Buffer.allocUnsafe(65_535);

export interface TcpServerOptions {
  chain: Responder;
  clock: Clock;
  /** A connection was turned away or cut off. */
  onDrop: () => void;
  onError: (error: Error) => void;
}

/** Takes the descriptor over. */
export function serveTcp(fd: number, { onError, ...options }: TcpServerOptions): { close(): void } {
  const service = createTcpService(options);
  // Clients may close their side and still wait for the answer.
  const server = createServer({ allowHalfOpen: true, noDelay: true }, service.serve);
  server.on('error', onError);
  server.listen({ fd });
  return {
    close: () => {
      server.close();
      service.close();
    },
  };
}

/** What becomes of connections that somebody else accepted. */
export interface TcpService {
  serve(socket: Socket): void;
  /** Ends those that there are. */
  close(): void;
}

export function createTcpService({ chain, clock, onDrop }: Omit<TcpServerOptions, 'onError'>): TcpService {
  /** Those that have been quiet for the longest first; true: others are working on its query. */
  const connections = new Map<Socket, boolean>();

  /** Idle connections may be closed at need (RFC 7766 §6.2.3), so that those who only hold them keep nobody out. */
  function makeRoom(): boolean {
    if (connections.size < MAX_CONNECTIONS) return true;
    onDrop();
    for (const [socket, answering] of connections) {
      if (answering) continue;
      connections.delete(socket);
      socket.destroy();
      return true;
    }
    return false;
  }

  function serve(socket: Socket): void {
    if (!makeRoom()) {
      socket.destroy();
      return;
    }
    let buffered = Buffer.alloc(0);
    let busy = false;
    let ended = false;
    let timer = clock.setTimeout(cut, IDLE_MS);
    connections.set(socket, false);

    function cut(): void {
      onDrop();
      socket.destroy();
    }

    /** It is the last to go now. */
    function note(answering: boolean): void {
      if (connections.delete(socket)) connections.set(socket, answering);
    }

    function resume(): void {
      busy = false;
      note(false);
      if (socket.destroyed) return;
      drain();
      if (!busy) socket.resume();
    }

    /** Stops reading until `resume`. */
    function pause(): void {
      busy = true;
      socket.pause();
    }

    function drain(): void {
      for (let done = 0; buffered.length >= 2; done++) {
        const length = buffered.readUInt16BE(0);
        if (length < HEADER || length > MAX_QUERY) return cut();
        if (buffered.length < 2 + length) break;
        if (done === QUERIES_PER_TURN) {
          pause();
          setImmediate(resume);
          return;
        }
        const message = buffered.subarray(2, 2 + length);
        buffered = buffered.subarray(2 + length);
        clock.clearTimeout(timer);
        timer = clock.setTimeout(cut, IDLE_MS);
        const answer = chain(message, 'tcp', scratch);
        if (typeof answer !== 'number') {
          pause();
          note(true);
          void answer.then((reply) => {
            note(false);
            if (send(reply)) resume();
          });
          return;
        }
        note(false);
        if (answer > 0 && !send(scratch.subarray(0, answer))) return;
      }
      if (ended) socket.end();
    }

    /** false where the client must first take what it was sent; reading goes on after that. */
    function send(reply: Uint8Array): boolean {
      if (socket.destroyed) return false;
      if (socket.write(withLength(reply))) return true;
      pause();
      socket.once('drain', resume);
      return false;
    }

    socket.on('data', (chunk) => {
      buffered = buffered.length === 0 ? chunk : Buffer.concat([buffered, chunk]);
      if (!busy) drain();
    });
    socket.on('end', () => {
      ended = true;
      if (!busy) socket.end();
    });
    socket.on('error', () => socket.destroy());
    socket.on('close', () => {
      clock.clearTimeout(timer);
      connections.delete(socket);
    });
  }

  return {
    serve,
    close: () => {
      for (const socket of connections.keys()) socket.destroy();
    },
  };
}
