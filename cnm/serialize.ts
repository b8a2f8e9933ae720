/** Runs the tasks of one key one after another, and those of different keys side by side. A failed task stops nobody. */
export function createSerializer(): <T>(key: string, task: () => Promise<T>) => Promise<T> {
  const tails = new Map<string, Promise<void>>();
  return async (key, task) => {
    const previous = tails.get(key);
    const { promise: tail, resolve: end } = Promise.withResolvers<void>();
    // Before the task begins: it may call for another of its key.
    tails.set(key, tail);
    try {
      if (previous) await previous;
      return await task();
    } finally {
      end();
      if (tails.get(key) === tail) tails.delete(key);
    }
  };
}
