/**
 * The connection to one name server over TLS (RFC 7858): opened when there is something to ask, used for all questions at once, closed when
 * there is nothing for a while. Nothing is written to it before the certificate has been found to be the server's: who answers in its place
 * learns no question.
 */
import { readFileSync } from 'node:fs';
import { connect, type TLSSocket } from 'node:tls';
import type { TimerHandle } from '../base/clock.ts';
import { errorText } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';
import { disguise, FORWARD_TIMEOUT_MS, type Failure, type ForwarderOptions } from './forwarder.ts';
import { HEADER, TYPE } from './message.ts';
import { belongsTo } from './reply.ts';
import { OPT_LENGTH } from './response.ts';
import { withLength } from './tcp-exchange.ts';
import type { TlsServer } from './tls-server.ts';

/** A handshake costs some milliseconds; an open connection the server's memory and ours (RFC 7858 §3.4). */
const IDLE_MS = 10_000;
/** Where no connection can be made, it is not tried for each question. */
const BROKEN_MS = 1_000;
const MAX_QUESTIONS = 256;
/** Of what a question is padded to, so that its length does not tell who asks for what (RFC 8467 §4.1). */
const BLOCK = 128;
const PADDING = 12;
/** An option's code and length. */
const OPTION_HEADER = 4;

export interface TlsConnectionOptions extends ForwarderOptions {
  server: TlsServer;
  /** A PEM file with the authorities that may vouch for it, instead of the well-known ones; read for each connection. */
  ca?: string | undefined;
  /** Something came that does not belong to a question. */
  onLie: () => void;
  log: Logger;
}

export interface TlsConnection {
  /** `end` is where the question ends. The reply has an id of ours; never rejects. */
  ask(message: Buffer, end: number): Promise<Buffer | Failure>;
  close(): void;
}

interface Pending {
  query: Buffer;
  end: number;
  /** It was on its way already when a connection ended. */
  again: boolean;
  done(result: Buffer | Failure): void;
}

export function createTlsConnection({ server, ca, clock, random, onLie, log }: TlsConnectionOptions): TlsConnection {
  const pending = new Map<number, Pending>();
  let socket: TLSSocket | undefined;
  let secure = false;
  /** Of the last connection: saves a round trip of the next one's handshake. */
  let session: Buffer | undefined;
  let buffered: Buffer = Buffer.alloc(0);
  let heardAt = -Infinity;
  let brokenUntil = -Infinity;
  let idle: TimerHandle;
  let closed = false;

  function open(): void {
    const { address, port, name } = server;
    const opened = connect({
      host: address, port, rejectUnauthorized: true, minVersion: 'TLSv1.2', ...(name !== undefined && { servername: name }), ...(ca !== undefined && { ca: readFileSync(ca) }), ...(session && { session }),
    });
    socket = opened;
    secure = false;
    buffered = Buffer.alloc(0);
    opened.setNoDelay();
    opened.on('secureConnect', () => {
      secure = true;
      for (const { query } of pending.values()) opened.write(withLength(query));
    });
    opened.on('session', (ticket) => (session = ticket));
    opened.on('data', (chunk) => receive(opened, chunk));
    opened.on('error', (error) => log.debug({ server: address, detail: errorText(error) }, 'a name server cannot be asked over TLS'));
    opened.on('close', () => lost(opened));
  }

  /** Servers close what is idle just when something is asked: that is asked once more (RFC 7766 §6.2.4). */
  function lost(ended: TLSSocket): void {
    if (socket !== ended) return;
    socket = undefined;
    if (!secure) {
      brokenUntil = clock.now() + BROKEN_MS;
      session = undefined;
    }
    for (const each of pending.values()) {
      if (each.again || !secure) each.done('absent');
      each.again = true;
    }
    if (pending.size > 0) attempt();
  }

  function attempt(): void {
    try {
      open();
    } catch (error) {
      log.warn({ server: server.address, detail: errorText(error) }, 'a name server cannot be asked over TLS');
      for (const each of pending.values()) each.done('absent');
    }
  }

  function receive(from: TLSSocket, chunk: Buffer): void {
    if (socket !== from) return;
    buffered = buffered.length === 0 ? chunk : Buffer.concat([buffered, chunk]);
    while (buffered.length >= 2) {
      const length = buffered.readUInt16BE(0);
      if (length < HEADER) {
        onLie();
        from.destroy();
        return;
      }
      if (buffered.length < 2 + length) return;
      // A copy: what is kept of it must not hold all that came with it.
      take(Buffer.from(buffered.subarray(2, 2 + length)));
      buffered = buffered.subarray(2 + length);
    }
  }

  function take(reply: Buffer): void {
    heardAt = clock.now();
    const each = pending.get(reply.readUInt16BE(0));
    if (each && belongsTo(reply, each.query, each.end)) each.done(reply);
    else onLie();
  }

  function rest(): void {
    clock.clearTimeout(idle);
    idle = clock.setTimeout(() => {
      const ended = socket;
      socket = undefined;
      ended?.destroySoon();
    }, IDLE_MS);
  }

  function ask(message: Buffer, end: number): Promise<Buffer | Failure> {
    if (closed) return Promise.resolve('closed');
    if (pending.size >= MAX_QUESTIONS) return Promise.resolve('busy');
    if (!socket && clock.now() < brokenUntil) return Promise.resolve('absent');
    clock.clearTimeout(idle);
    return new Promise((resolve) => {
      const asked = padded(message, end);
      let query = disguise(asked, random);
      while (pending.has(query.readUInt16BE(0))) query = disguise(asked, random);
      const id = query.readUInt16BE(0);
      const sentAt = clock.now();
      const timer = clock.setTimeout(() => {
        done('timeout');
        // Nothing has come since: whatever is at the other end, it is this connection's no more.
        if (heardAt < sentAt) socket?.destroy();
      }, FORWARD_TIMEOUT_MS);
      const done = (result: Buffer | Failure): void => {
        pending.delete(id);
        clock.clearTimeout(timer);
        if (pending.size === 0) rest();
        resolve(result);
      };
      pending.set(id, { query, end, again: false, done });
      if (!socket) attempt();
      else if (secure) socket.write(withLength(query));
    });
  }

  return {
    ask,
    close: () => {
      closed = true;
      for (const each of pending.values()) each.done('closed');
      clock.clearTimeout(idle);
      socket?.destroy();
      socket = undefined;
    },
  };
}

/** With EDNS's padding (RFC 7830) where the question is of our own making, with an OPT record that has no options; a client's stays as it is. */
function padded(message: Buffer, end: number): Buffer {
  const { length } = message;
  if (length !== end + OPT_LENGTH || message[end] !== 0 || message.readUInt16BE(end + 1) !== TYPE.OPT) return message;
  const room = Math.ceil((length + OPTION_HEADER) / BLOCK) * BLOCK - length - OPTION_HEADER;
  const out = Buffer.alloc(length + OPTION_HEADER + room);
  message.copy(out);
  out.writeUInt16BE(OPTION_HEADER + room, length - 2);
  out.writeUInt16BE(PADDING, length);
  out.writeUInt16BE(room, length + 2);
  return out;
}
