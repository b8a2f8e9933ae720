/**
 * Asks others by way of the cache: once for all who ask the same at the same time, ahead of time for names that are asked for often, and with
 * what is past its time while nobody answers (RFC 2308, RFC 8767).
 */
import type { Clock, TimerHandle } from '../base/clock.ts';
import type { AnswerCache, CacheEntry } from './answer-cache.ts';
import { composeQuery, type Failure, type Forwarder } from './forwarder.ts';
import { keep, type Age, type KeptAnswer } from './kept-answer.ts';
import { FLAG, HEADER, RCODE } from './message.ts';
import type { Query } from './query.ts';
import { rcodeOf } from './reply.ts';
import { surveyReply } from './survey.ts';

/** Nothing is kept for longer, whatever its owner says; what is not there may be there soon (RFC 2308 §5). Seconds. */
const LONGEST = 86_400;
const LONGEST_NEGATIVE = 300;
/** How long something that is past its time may be used when nobody answers, and what TTL it is given. */
const STALE_MS = 86_400_000;
const STALE_TTL = 30;
/** For how long nobody is asked again after that. */
const FAILED_MS = 30_000;
/** A client is not kept waiting for longer where there is something stale to give. */
const PATIENCE_MS = 1_800;
/** In the last tenth of its time a name that was asked for again is asked for ahead of time, unless that time is short. */
const AHEAD = 0.1;
const SHORTEST_AHEAD_S = 10;
const FLAGS_ASKED = FLAG.AD | FLAG.CD;

/** `until`: how long the same bytes may be given again, in milliseconds on the clock; 0: not at all. */
export interface Found { answer: KeptAnswer; age: Age; source: 'cached' | 'stale' | 'asked'; until: number }
/** lied: what came could not be believed; discarded: it was not wanted. */
export type NotFound = Failure | 'lied' | 'discarded';

export interface CachingForwarder {
  /** What is kept and may be given at once. */
  kept(message: Buffer, query: Query): Found | undefined;
  /** Rejects only where the forwarder does. */
  find(message: Buffer, query: Query): Promise<Found | NotFound>;
  /** What there is for when nobody else knows either, in or past its time. */
  lastResort(message: Buffer, query: Query): Found | undefined;
}

export interface CachingOptions {
  cache: AnswerCache;
  /** Whose answers may differ from others': a part of the cache of its own. */
  scope: string;
  forwarder: Forwarder;
  /** An answer that is none here, for reasons of ours. */
  discards?: (reply: Buffer, end: number) => boolean;
  /** An answer that may be wrong at any time, whatever its TTL: it is given, and not kept. */
  isPassing?: (reply: Buffer, query: Query) => boolean;
  clock: Clock;
}

export function createCachingForwarder({ cache, scope, forwarder, discards = () => false, isPassing = () => false, clock }: CachingOptions): CachingForwarder {
  const underWay = new Map<string, Promise<KeptAnswer | NotFound>>();

  function usable(key: string): { entry: CacheEntry; found: Found } | undefined {
    const entry = cache.get(scope, key);
    if (!entry) return undefined;
    const now = clock.now();
    const { answer, storedAt, freshUntil } = entry;
    const seconds = Math.floor((now - storedAt) / 1000);
    if (now < freshUntil) return { entry, found: { answer, age: { seconds }, source: 'cached', until: storedAt + (seconds + 1) * 1000 } };
    return now < freshUntil + STALE_MS ? { entry, found: stale(answer) } : undefined;
  }

  function kept(message: Buffer, query: Query): Found | undefined {
    const key = keyOf(message, query);
    const { entry, found } = usable(key) ?? {};
    if (!entry || !found) return undefined;
    const now = clock.now();
    if (found.source === 'stale') return now < entry.failedUntil ? found : undefined;
    const lasts = entry.freshUntil - entry.storedAt;
    if (entry.hits++ > 0 && lasts >= SHORTEST_AHEAD_S * 1000 && entry.freshUntil - now < lasts * AHEAD && now >= entry.failedUntil) {
      // Nobody waits for it: whoever asks next sees what is wrong.
      ask(key, message, query).catch(() => {});
    }
    return found;
  }

  /** One question to others at a time. */
  function ask(key: string, message: Buffer, query: Query): Promise<KeptAnswer | NotFound> {
    const present = underWay.get(key);
    if (present) return present;
    const asked = fetch(composeQuery(message, query), query).then((result) => {
      const now = clock.now();
      const seconds = typeof result === 'string' ? 0 : Math.min(result.survey.ttl, result.survey.negative ? LONGEST_NEGATIVE : LONGEST);
      if (typeof result !== 'string' && seconds > 0 && !isPassing(result.message, query)) {
        cache.put(scope, key, { answer: result, storedAt: now, freshUntil: now + seconds * 1000, failedUntil: 0, hits: 0 });
      } else if (isFailure(result)) {
        const entry = cache.get(scope, key);
        if (entry) entry.failedUntil = now + FAILED_MS;
      }
      return result;
    }).finally(() => underWay.delete(key));
    underWay.set(key, asked);
    return asked;
  }

  /** Over UDP, and once more over TCP where that was cut short. */
  async function fetch(composed: Buffer, { end, type }: Query): Promise<KeptAnswer | NotFound> {
    let reply = await forwarder.ask(composed, end, 'udp');
    if (typeof reply !== 'string' && reply.readUInt16BE(2) & FLAG.TC) {
      const whole = await forwarder.ask(composed, end, 'tcp');
      if (typeof whole !== 'string') reply = whole;
    }
    if (typeof reply === 'string') return reply;
    // Some servers leave the question out of errors.
    if (reply.readUInt16BE(4) === 0) reply = Buffer.concat([reply.subarray(0, 4), Buffer.from([0, 1, 0, 0, 0, 0, 0, 0]), composed.subarray(HEADER, end)]);
    const survey = surveyReply(reply, end, type);
    if (!survey) return 'lied';
    return discards(reply, end) ? 'discarded' : keep(reply, survey);
  }

  return {
    kept,
    lastResort: (message, query) => usable(keyOf(message, query))?.found,
    find: async (message, query) => {
      const present = kept(message, query);
      if (present) return present;
      const key = keyOf(message, query);
      const fallback = usable(key)?.found;
      const asking = ask(key, message, query);
      const result = await (fallback ? Promise.race([asking, patience(clock, asking)]) : asking);
      if (fallback && isFailure(result)) return stale(fallback.answer);
      return typeof result === 'string' ? result : { answer: result, age: { seconds: 0 }, source: 'asked', until: 0 };
    },
  };
}

const stale = (answer: KeptAnswer): Found => ({ answer, age: { seconds: 0, ttl: STALE_TTL }, source: 'stale', until: 0 });

/** 'timeout', unless it is over before. */
function patience(clock: Clock, asking: Promise<unknown>): Promise<'timeout'> {
  return new Promise((resolve) => {
    const timer: TimerHandle = clock.setTimeout(() => resolve('timeout'), PATIENCE_MS);
    const stop = (): void => clock.clearTimeout(timer);
    asking.then(stop, stop);
  });
}

/** Who was asked could say nothing: what was said before may still be right. Where nobody is there, others are asked first. */
const isFailure = (result: KeptAnswer | NotFound): boolean =>
  (typeof result === 'string' ? result !== 'discarded' && result !== 'closed' && result !== 'absent' : rcodeOf(result.message) === RCODE.SERVFAIL || rcodeOf(result.message) === RCODE.REFUSED);

/** Whatever may change the answer. */
const keyOf = (message: Buffer, { key, type, dnssecOk }: Query): string => `${type} ${(message.readUInt16BE(2) & FLAGS_ASKED) | (dnssecOk ? 1 : 0)} ${key}`;
