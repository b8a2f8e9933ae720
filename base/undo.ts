/**
 * Undo written next to do: each step that succeeded pushes what takes it back, and a failure later on runs them
 * in reverse order. Every undo runs, whatever the others did; their errors are returned, not thrown, because the
 * error that matters is the one that made us turn back.
 */
export class UndoStack {
  #steps: (() => void | Promise<void>)[] = [];

  push(step: () => void | Promise<void>): void {
    this.#steps.push(step);
  }

  /** The work is complete: forget how to take it back. */
  commit(): void {
    this.#steps = [];
  }

  async rollback(): Promise<unknown[]> {
    const { errors } = await runAll(this.#steps.reverse());
    this.#steps = [];
    return errors;
  }
}

/** Runs do(); when it throws, rolls back what it pushed and throws the original error. */
export async function withUndo<T>(run: (undo: UndoStack) => Promise<T>): Promise<T> {
  const undo = new UndoStack();
  try {
    const result = await run(undo);
    undo.commit();
    return result;
  } catch (error) {
    const secondary = await undo.rollback();
    if (secondary.length > 0 && error instanceof Error) (error as Error & { undoErrors?: unknown[] }).undoErrors = secondary;
    throw error;
  }
}

/** Teardown: runs every step in order, collects the errors and goes on. */
export async function runAll(steps: Iterable<() => unknown>): Promise<{ errors: unknown[] }> {
  const errors: unknown[] = [];
  for (const step of steps) {
    try {
      await step();
    } catch (error) {
      errors.push(error);
    }
  }
  return { errors };
}
