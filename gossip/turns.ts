/**
 * How a node's work is spread over turns of the event loop. libuv hands out some 32 packets of a socket each turn, so that
 * who takes long turns loses packets: long work is cut into steps, and a turn takes steps until its share is used up.
 */

/** Milliseconds of a turn. The last step begins within them, so that a turn takes one step more at most. */
const SHARE_MS = 0.2;
/** As many as memberlist lets wait. */
const MAX_WAITING = 1_024;
/** Encoding so many members, or taking them in, is some 20 µs. */
const PER_STEP = 8;

/** Work that can be interrupted wherever it yields. */
export type Steps<T> = Generator<undefined, T, undefined>;

/** All of it at one go. */
export function finish<T>(steps: Steps<T>): T {
  for (;;) {
    const { done, value } = steps.next();
    if (done) return value;
  }
}

/** Calls back with each item, a few in a step. */
export function* each<T>(items: Iterable<T>, run: (item: T) => void): Steps<void> {
  let done = 0;
  for (const item of items) {
    run(item);
    if (++done % PER_STEP === 0) yield;
  }
}

export interface Turns {
  /** For what is short: now, or in one of the next turns when this one's share is used up; in order. False when so many wait that it is left out. */
  soon(run: () => void): boolean;
  /** For what may be long, or a single step that is not short: one after the other, with what the short leaves of each turn. Settles as the work does; never once stopped. */
  work<T>(work: Steps<T> | (() => T | Promise<T>)): Promise<T>;
  /** Nothing that waits will happen. */
  stop(): void;
}

/** `nextTurn` calls back after packets that wait have been handed out. */
export function createTurns(now: () => number, nextTurn: (run: () => void) => void): Turns {
  const short: (() => void)[] = [];
  /** Each takes one step, and says whether it was the last. */
  const long: (() => boolean)[] = [];
  /** When this turn began, as far as this node has taken part in it. */
  let began: number | undefined;
  let isBusy = false;
  let isTurnAsked = false;
  let stopped = false;

  const hasTime = (): boolean => began === undefined || now() - began < SHARE_MS;

  function take<T>(step: () => T): T {
    began ??= now();
    isBusy = true;
    try {
      return step();
    } finally {
      isBusy = false;
    }
  }

  function takeLong(): void {
    if (take(long[0]!)) long.shift();
  }

  function goOn(): void {
    while ((short.length > 0 || long.length > 0) && hasTime()) {
      if (short.length > 0) take(short.shift()!);
      else takeLong();
    }
    if (isTurnAsked || stopped) return;
    // On a clock that stands still there is but one turn.
    if (short.length === 0 && long.length === 0 && (began === undefined || now() === began)) {
      began = undefined;
      return;
    }
    isTurnAsked = true;
    nextTurn(turn);
  }

  function turn(): void {
    isTurnAsked = false;
    began = undefined;
    // However many packets come, what was begun comes to an end.
    if (long.length > 0) takeLong();
    goOn();
  }

  return {
    soon: (run) => {
      if (stopped || short.length === MAX_WAITING) return false;
      if (isBusy && short.length === 0 && hasTime()) run();
      else short.push(run);
      if (!isBusy) goOn();
      return true;
    },
    work: (work) => new Promise((resolve, reject) => {
      if (stopped) return;
      const next = typeof work === 'function' ? () => ({ done: true, value: work() }) as const : () => work.next();
      long.push(() => {
        try {
          const { done, value } = next();
          if (done) resolve(value);
          return done === true;
        } catch (error) {
          reject(error as Error);
          return true;
        }
      });
      if (!isBusy) goOn();
    }),
    stop: () => {
      stopped = true;
      short.length = 0;
      long.length = 0;
    },
  };
}
