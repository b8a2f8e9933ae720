/** Streams between members: one message each way, the largest and the most important ones. */
import { errorText } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';
import { Refused, type DropReason, type GossipStats } from './counters.ts';
import type { Envelope } from './envelope.ts';
import { encodeError, type Address } from './messages.ts';
import { LATER, SealMismatch, type StreamMessage } from './stream-message.ts';
import type { Timers } from './timers.ts';
import type { Stream, Transport } from './transport.ts';
import type { Tuning } from './tuning.ts';

export interface StreamCall {
  /** Milliseconds for all of it, dialling included. */
  timeoutMs: number;
  signal?: AbortSignal | undefined;
}

export interface Streams {
  /** Sends a message and resolves with the answer. */
  exchange(to: Address, message: Buffer, call: StreamCall): Promise<StreamMessage>;
  /** Sends a message that has no answer; resolves once the other side has read it and closed. */
  send(to: Address, message: Buffer, call: StreamCall): Promise<void>;
  /** Handles what others begin; returns the answer, if there is one. */
  serve(handler: Handler): void;
}

type Handler = (message: StreamMessage) => Buffer | undefined | Promise<Buffer>;

export interface StreamsOptions {
  transport: Transport;
  envelope: Envelope;
  timers: Timers;
  log: Logger;
  tuning: Tuning;
  stats: GossipStats;
  onDrop(reason: DropReason): void;
}

const NOTHING = Buffer.alloc(0);

export function createStreams({ transport, envelope, timers, log, tuning, stats, onDrop }: StreamsOptions): Streams {
  const openBySource = new Map<string, number>();

  /** Settles as `attach` says; rejects when the time is over first, or with the signal's reason. */
  function within<T>({ timeoutMs, signal }: StreamCall, attach: (resolve: (value: T) => void, reject: (error: unknown) => void) => void): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      const timer = timers.after(timeoutMs, () => fail(new Error('the stream took too long')));
      const abort = (): void => fail(signal!.reason);
      const end = (): void => {
        timers.cancel(timer);
        signal?.removeEventListener('abort', abort);
      };
      const fail = (error: unknown): void => {
        end();
        reject(error instanceof Error ? error : new Error(String(error)));
      };
      if (signal?.aborted) return abort();
      signal?.addEventListener('abort', abort);
      attach((value) => {
        end();
        resolve(value);
      }, fail);
    });
  }

  const read = (stream: Stream, dialled: boolean, call: StreamCall): Promise<StreamMessage> => within(call, (resolve, reject) => {
    const reader = envelope.createReader(dialled);
    /** How it ended, while what came before is still being read. */
    let end: Error | undefined;
    let reading = false;
    const take = (piece: Uint8Array): void => {
      try {
        const message = reader(piece);
        if (message === LATER) {
          if (!reading) timers.after(0, goOn);
          reading = true;
        } else if (message) resolve(message);
        else if (end) reject(end);
      } catch (error) {
        reject(error);
      }
    };
    const goOn = (): void => {
      reading = false;
      take(NOTHING);
    };
    stream.onEnd((error) => {
      end = error ?? new Error('the stream ended early');
      if (!reading) reject(end);
    });
    stream.onData(take);
  });

  /** Dials, runs, and closes whatever happens. */
  async function onStream<T>(to: Address, call: StreamCall, run: (stream: Stream) => Promise<T>): Promise<T> {
    call.signal?.throwIfAborted();
    stats.streamsDialled++;
    const dialling = transport.dial(to, call.timeoutMs);
    const stream = await within<Stream>(call, (resolve, reject) => void dialling.then(resolve, reject)).catch((error: unknown) => {
      dialling.then((late) => late.close(), () => {});
      throw error;
    });
    try {
      return await run(stream);
    } finally {
      stream.close();
    }
  }

  async function answer(stream: Stream, from: Address, handler: Handler): Promise<void> {
    try {
      const message = await read(stream, false, { timeoutMs: tuning.streamTimeout });
      await timers.nextTurn();
      const reply = await handler(message);
      if (reply) stream.write(envelope.wrapStream(reply, false));
    } catch (error) {
      onDrop(error instanceof Refused ? error.reason : 'malformed');
      log.debug({ from: from.host, detail: errorText(error) }, 'a stream made no sense');
      // Said in the clear, as memberlist does, or its operator would never find out.
      if (error instanceof SealMismatch) stream.write(encodeError(error.message));
    } finally {
      stream.close();
    }
  }

  return {
    exchange: (to, message, call) => onStream(to, call, async (stream) => {
      const reading = read(stream, true, call);
      stream.write(envelope.wrapStream(message, true));
      const reply = await reading;
      await timers.nextTurn();
      return reply;
    }),
    send: (to, message, call) => onStream(to, call, (stream) => within<void>(call, (resolve, reject) => {
      stream.onData(() => {});
      stream.onEnd((error) => (error ? reject(error) : resolve()));
      stream.write(envelope.wrapStream(message, true));
    })),
    serve: (handler) => transport.onStream(async (stream, from) => {
      const open = openBySource.get(from.host) ?? 0;
      if (open >= tuning.streamsPerSource) {
        onDrop('flood');
        return stream.close();
      }
      stats.streamsAccepted++;
      openBySource.set(from.host, open + 1);
      await answer(stream, from, handler);
      const left = openBySource.get(from.host)! - 1;
      if (left > 0) openBySource.set(from.host, left);
      else openBySource.delete(from.host);
    }),
  };
}
