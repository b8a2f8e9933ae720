/**
 * Answers by the very bytes of their questions. weftd runs without an optimizing compiler, and a question that is read letter by letter costs
 * more than the system calls around it; one that came before in the same bytes is looked up as a whole. Those of all sandboxes together
 * are bounded by bytes, and the oldest go first.
 */
import type { Random } from '../base/random.ts';

const MAX_BYTES = 1 << 20;
/** What an answer takes besides its bytes: itself, its place in the maps, a buffer's head. */
const OVERHEAD_BYTES = 300;
/** Longer answers are dear to keep, and writing them costs as much as finding them. */
const LONGEST_ANSWER = 512;
/** Longer ones have options that differ each time, such as cookies. */
const LONGEST_QUESTION = 300;
/** Of addresses that take turns. */
const MOST_TURNS = 16;

export interface RememberedAnswer {
  /** In how many orders it may be given, and which one this is. */
  turns: number;
  turn: number;
  /** On the clock, in milliseconds. */
  until: number;
  /** Called each time that it is given. */
  onUse: () => void;
}

export interface KnownAnswers {
  /** Writes the answer to the question in the first `length` bytes; 0: it is not known. */
  write(message: Buffer, length: number, out: Buffer): number;
}

export const NOTHING_KNOWN: KnownAnswers = { write: () => 0 };

export interface Remembered extends KnownAnswers {
  /** `answer` is copied. */
  add(message: Buffer, answer: Buffer, how: RememberedAnswer): void;
  clear(): void;
}

/** All but the id. What `toString('latin1')` calls in the end: looking its name up takes as long as the work, and this is done for each question. */
const keyOf = (message: Buffer, length: number): string => (message as Buffer & { latin1Slice(start: number, end: number): string }).latin1Slice(2, length);

interface Entry { within: Map<string, Entry>; key: string; bytes: number; variants: (Buffer | undefined)[]; until: number; onUse: () => void }

/** Makes one for each sandbox; together they are bounded. */
export function createMemory({ now, random }: { now: () => number; random: Random }): () => Remembered {
  /** In the order in which they came. */
  const all = new Set<Entry>();
  let bytes = 0;

  function grow(entry: Entry, by: number): void {
    entry.bytes += by;
    bytes += by;
  }

  function remove(entry: Entry): void {
    all.delete(entry);
    entry.within.delete(entry.key);
    bytes -= entry.bytes;
  }

  function shrink(): void {
    for (const oldest of all) {
      if (bytes <= MAX_BYTES) return;
      remove(oldest);
    }
  }

  return () => {
    const entries = new Map<string, Entry>();
    const clear = (): void => entries.forEach(remove);
    return {
      clear,
      write: (message, length, out) => {
        if (length > LONGEST_QUESTION) return 0;
        const entry = entries.get(keyOf(message, length));
        if (!entry || (entry.until !== Infinity && now() >= entry.until)) return 0;
        const { variants } = entry;
        const answer = variants.length === 1 ? variants[0] : variants[random.int(variants.length)];
        if (!answer) return 0;
        out.set(answer);
        out[0] = message[0]!;
        out[1] = message[1]!;
        entry.onUse();
        return answer.length;
      },
      add: (message, answer, { turns, turn, until, onUse }) => {
        if (message.length > LONGEST_QUESTION || answer.length > LONGEST_ANSWER || turns > MOST_TURNS) return;
        const key = keyOf(message, message.length);
        let entry = entries.get(key);
        if (!entry || entry.until !== until || entry.variants.length !== turns) {
          if (entry) remove(entry);
          entry = { within: entries, key, bytes: 0, variants: Array.from({ length: turns }), until, onUse };
          entries.set(key, entry);
          all.add(entry);
          grow(entry, OVERHEAD_BYTES + key.length);
        }
        grow(entry, OVERHEAD_BYTES + answer.length - (entry.variants[turn] ? OVERHEAD_BYTES + entry.variants[turn].length : 0));
        entry.variants[turn] = Buffer.from(answer);
        shrink();
      },
    };
  };
}
