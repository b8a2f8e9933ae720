/**
 * Answers of others, kept for as long as they may be and a while longer. Bounded by bytes, over all scopes together; when
 * it is full the scope that holds the most gives up what it used longest ago, so that one container cannot drive out the rest.
 */
import type { KeptAnswer } from './kept-answer.ts';

export interface CacheEntry {
  answer: KeptAnswer;
  /** On the clock, in milliseconds. */
  storedAt: number;
  freshUntil: number;
  /** Asking again failed: until then nobody is asked, and what there is has to do (RFC 8767 §5). */
  failedUntil: number;
  hits: number;
}

/** What an entry takes besides its message: itself, its place in the map, a buffer's head. */
const OVERHEAD_BYTES = 400;

interface Scope { entries: Map<string, CacheEntry>; bytes: number }

export interface AnswerCache {
  /** Counts as used. */
  get(scope: string, key: string): CacheEntry | undefined;
  put(scope: string, key: string, entry: CacheEntry): void;
  clear(scope: string): void;
  readonly bytes: number;
  readonly size: number;
}

export function createAnswerCache(maxBytes: number): AnswerCache {
  const scopes = new Map<string, Scope>();
  let bytes = 0;

  const cost = (key: string, { answer }: CacheEntry): number => OVERHEAD_BYTES + key.length + answer.message.length + 8 * answer.survey.ttls.length;

  function remove(scope: Scope, key: string): void {
    const entry = scope.entries.get(key);
    if (!entry || !scope.entries.delete(key)) return;
    scope.bytes -= cost(key, entry);
    bytes -= cost(key, entry);
  }

  function shrink(): void {
    while (bytes > maxBytes) {
      let largest: Scope | undefined;
      for (const scope of scopes.values()) if (scope.bytes > (largest?.bytes ?? 0)) largest = scope;
      const [oldest] = largest!.entries.keys();
      remove(largest!, oldest!);
    }
  }

  return {
    get: (scope, key) => {
      const entries = scopes.get(scope)?.entries;
      const entry = entries?.get(key);
      if (!entry || !entries) return undefined;
      // A map keeps the order in which its keys came.
      entries.delete(key);
      entries.set(key, entry);
      return entry;
    },
    put: (name, key, entry) => {
      let scope = scopes.get(name);
      if (!scope) scopes.set(name, scope = { entries: new Map(), bytes: 0 });
      remove(scope, key);
      scope.entries.set(key, entry);
      scope.bytes += cost(key, entry);
      bytes += cost(key, entry);
      shrink();
    },
    clear: (name) => {
      bytes -= scopes.get(name)?.bytes ?? 0;
      scopes.delete(name);
    },
    get bytes() { return bytes; },
    get size() { return [...scopes.values()].reduce((sum, { entries }) => sum + entries.size, 0); },
  };
}
