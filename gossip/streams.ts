/** Streams between members: one message each way, the largest and the most important ones. */
import { errorText } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';
import type { Random } from '../base/random.ts';
import type { Keyring } from './keyring.ts';
import { encodeError, type Address } from './messages.ts';
import { SealMismatch, createStreamReader, sealStream, type StreamMessage } from './stream-message.ts';
import type { Timers } from './timers.ts';
import type { Stream, Transport } from './transport.ts';

export interface Streams {
  /** Sends a message and resolves with the answer. */
  exchange(to: Address, message: Buffer, timeoutMs: number): Promise<StreamMessage>;
  /** Sends a message that has no answer; resolves once the other side has read it and closed. */
  send(to: Address, message: Buffer, timeoutMs: number): Promise<void>;
  /** Handles what others begin; returns the answer, if there is one. */
  serve(handler: (message: StreamMessage) => Buffer | undefined): void;
}

export interface StreamsOptions { transport: Transport; keyring: Keyring | undefined; random: Random; timers: Timers; log: Logger; timeoutMs: number }

export function createStreams({ transport, keyring, random, timers, log, timeoutMs: serverTimeoutMs }: StreamsOptions): Streams {
  const seal = (message: Buffer): Buffer => sealStream(message, keyring, random);

  /** Settles as `attach` says; rejects when the time is over first. */
  function within<T>(timeoutMs: number, attach: (resolve: (value: T) => void, reject: (error: unknown) => void) => void): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      const timer = timers.after(timeoutMs, () => reject(new Error('the stream took too long')));
      attach((value) => {
        timers.cancel(timer);
        resolve(value);
      }, (error) => {
        timers.cancel(timer);
        reject(error instanceof Error ? error : new Error(String(error)));
      });
    });
  }

  const read = (stream: Stream, timeoutMs: number): Promise<StreamMessage> => within(timeoutMs, (resolve, reject) => {
    const reader = createStreamReader(keyring);
    stream.onEnd((error) => reject(error ?? new Error('the stream ended early')));
    stream.onData((piece) => {
      try {
        const message = reader(piece);
        if (message) resolve(message);
      } catch (error) {
        reject(error);
      }
    });
  });

  return {
    exchange: async (to, message, timeoutMs) => {
      const stream = await transport.dial(to, timeoutMs);
      try {
        const answer = read(stream, timeoutMs);
        stream.write(seal(message));
        return await answer;
      } finally {
        stream.close();
      }
    },
    send: async (to, message, timeoutMs) => {
      const stream = await transport.dial(to, timeoutMs);
      try {
        await within<void>(timeoutMs, (resolve, reject) => {
          stream.onData(() => {});
          stream.onEnd((error) => (error ? reject(error) : resolve()));
          stream.write(seal(message));
        });
      } finally {
        stream.close();
      }
    },
    serve: (handler) => transport.onStream(async (stream, from) => {
      try {
        const answer = handler(await read(stream, serverTimeoutMs));
        if (answer) stream.write(seal(answer));
      } catch (error) {
        log.debug({ from: from.host, detail: errorText(error) }, 'a stream made no sense');
        // Said in the clear, as memberlist does, or its operator would never find out.
        if (error instanceof SealMismatch) stream.write(encodeError(error.message));
      } finally {
        stream.close();
      }
    }),
  };
}
