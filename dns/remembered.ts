/**
 * Answers by the very bytes of their questions. weftd runs without an optimizing compiler, and a question that is read letter by letter costs
 * more than the system calls around it; one that came before in the same bytes is looked up as a whole. Two thousand of all sandboxes together.
 */
import type { Random } from '../base/random.ts';

const MAX_ANSWERS = 2_048;
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

export interface Remembered {
  /** Writes the answer to the question in the first `length` bytes; 0: it is not known. */
  write(message: Buffer, length: number, out: Buffer): number;
  /** `answer` is copied. */
  add(message: Buffer, answer: Buffer, how: RememberedAnswer): void;
  clear(): void;
  close(): void;
}

interface Entry { variants: (Buffer | undefined)[]; until: number; onUse: () => void }

/** Makes one for each sandbox; together they are bounded. */
export function createMemory({ now, random }: { now: () => number; random: Random }): () => Remembered {
  const all = new Set<Map<string, Entry>>();
  let size = 0;

  function clearAll(): void {
    for (const entries of all) entries.clear();
    size = 0;
  }

  return () => {
    const entries = new Map<string, Entry>();
    all.add(entries);
    const clear = (): void => {
      size -= entries.size;
      entries.clear();
    };
    return {
      clear,
      close: () => {
        clear();
        all.delete(entries);
      },
      write: (message, length, out) => {
        if (length > LONGEST_QUESTION) return 0;
        const entry = entries.get(message.toString('latin1', 2, length));
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
        if (message.length > LONGEST_QUESTION || turns > MOST_TURNS) return;
        const key = message.toString('latin1', 2);
        let entry = entries.get(key);
        if (!entry || entry.until !== until || entry.variants.length !== turns) {
          if (!entry && size >= MAX_ANSWERS) clearAll();
          if (!entry) size++;
          entries.set(key, entry = { variants: Array.from({ length: turns }), until, onUse });
        }
        entry.variants[turn] = Buffer.from(answer);
      },
    };
  };
}
