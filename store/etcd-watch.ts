/**
 * One watch that survives what happens to etcd: it resumes after the last event it passed on, begins again with a
 * snapshot when the history it needs is compacted or the store is another one, and does not trust silence.
 */
import type { Clock, TimerHandle } from '../base/clock.ts';
import { errorText } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';
import { type Codec, revisionOf, type WatchAnswer } from './etcd-codec.ts';
import type { Gateway } from './etcd-gateway.ts';
import type { Entry, WatchEvent } from './store.ts';

const FIRST_PAUSE_MS = 100;
const LAST_PAUSE_MS = 3000;
/**
 * After so long without a message, at the next multiple of it, the stream is checked against a read: etcd's own progress
 * notes come every 10 min only. The silent watches of a store ask at the same moment, and thereby once.
 */
const SILENCE_MS = 10_000;

export interface WatchOptions {
  gateway: Gateway;
  codec: Codec;
  prefix: string;
  list: () => Promise<{ entries: Entry[]; revision: number }>;
  /** The store's revision now; shared by who asks at the same time. */
  revision: () => Promise<number>;
  onEvent: (event: WatchEvent) => void;
  clock: Clock;
  log: Logger;
}

export function followPrefix({ gateway, codec, prefix, list, revision, onEvent, clock, log }: WatchOptions): () => void {
  let stopped = false;
  let pauseMs = FIRST_PAUSE_MS;
  /** Everything up to here was passed on; undefined: a snapshot is needed. */
  let seen: number | undefined;
  let cluster: string | undefined;
  let stopStream = (): void => {};

  function emit(event: WatchEvent): void {
    if (stopped) return;
    try {
      onEvent(event);
    } catch (error) {
      log.error({ prefix, detail: errorText(error) }, 'a watcher failed');
    }
  }

  async function follow(): Promise<void> {
    if (seen === undefined) {
      const { entries, revision: at } = await list();
      if (stopped) return;
      seen = at;
      emit({ type: 'snapshot', entries, revision: at });
    }
    const reason = await streamFrom(seen + 1);
    if (!stopped) log.debug({ prefix, reason, seen }, 'a watch is taken up again');
  }

  /** Resolves with the reason when the stream has ended. */
  function streamFrom(start: number): Promise<string> {
    return new Promise((resolve) => {
      /** The store's revision in the stream's latest message. */
      let vouched = 0;
      let heard = clock.now();
      const later = (): TimerHandle => clock.setTimeout(check, SILENCE_MS - (clock.now() % SILENCE_MS));
      let timer = later();
      const finish = (reason: string): void => {
        clock.clearTimeout(timer);
        closeStream();
        stopStream = () => {};
        resolve(reason);
      };

      function check(): void {
        if (clock.now() - heard < SILENCE_MS) {
          timer = later();
          return;
        }
        const since = heard;
        revision().then((at) => {
          if (heard === since && at > vouched) return finish('it kept silent while the store moved on');
          heard = clock.now();
          timer = later();
        }, (error: unknown) => finish(errorText(error)));
      }

      const closeStream = gateway.stream('/v3/watch', {
        create_request: { ...codec.under(prefix), start_revision: String(start) },
      }, {
        onEnd: finish,
        onMessage: (message) => {
          heard = clock.now();
          const answer = message['result'] as WatchAnswer | undefined;
          if (!answer) return finish(JSON.stringify(message['error'] ?? message).slice(0, 300));
          if (answer.canceled) {
            // compact_revision: the history from `start` on is gone.
            if (answer.compact_revision !== undefined) seen = undefined;
            return finish(answer.cancel_reason || 'etcd ended it');
          }
          const at = revisionOf(answer.header);
          cluster ??= answer.header?.cluster_id;
          if (answer.header?.cluster_id !== cluster || (answer.created && at < start - 1)) {
            cluster = seen = undefined;
            return finish('the store is another one, or went back in time');
          }
          pauseMs = FIRST_PAUSE_MS;
          vouched = Math.max(vouched, at);
          for (const { type, kv = {} } of answer.events ?? []) {
            const entry = codec.entry(kv);
            seen = entry.revision;
            emit(type === 'DELETE' ? { type: 'delete', key: entry.key, revision: entry.revision } : { type: 'put', entry });
          }
        },
      });
      stopStream = () => finish('stopped');
    });
  }

  async function run(): Promise<void> {
    while (!stopped) {
      try {
        await follow();
      } catch (error) {
        log.debug({ prefix, detail: errorText(error) }, 'the store cannot be watched for now');
      }
      if (stopped) break;
      await new Promise<void>((resolve) => {
        const timer = clock.setTimeout(resolve, pauseMs);
        stopStream = () => {
          clock.clearTimeout(timer);
          resolve();
        };
      });
      stopStream = () => {};
      pauseMs = Math.min(pauseMs * 2, LAST_PAUSE_MS);
    }
  }
  void run();

  return () => {
    stopped = true;
    stopStream();
  };
}
