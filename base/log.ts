/** What every part logs through; pino satisfies it. Secrets never go into fields. */
export interface Logger {
  debug(fields: object, message?: string): void;
  info(fields: object, message?: string): void;
  warn(fields: object, message?: string): void;
  error(fields: object, message?: string): void;
  /** `level`: of the child alone; its parent's by default. */
  child(bindings: Record<string, unknown>, options?: { level?: string }): Logger;
}

const nothing = (): void => {};

/** For tests, and for parts that are used without an agent. */
export const silentLogger: Logger = {
  debug: nothing, info: nothing, warn: nothing, error: nothing, child: () => silentLogger,
};

/** For a command: warnings in words, on standard error; what goes well is not told. */
export const terminalLogger: Logger = {
  debug: nothing, info: nothing, warn: tell, error: tell, child: () => terminalLogger,
};

function tell(fields: object, message = ''): void {
  const { detail } = fields as { detail?: unknown };
  console.error(detail === undefined ? message : `${message}: ${String(detail)}`);
}
