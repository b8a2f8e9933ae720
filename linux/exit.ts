/** The end of a process by the system call alone. */
import { sys } from './ffi.ts';

/**
 * Ends this process at once (_exit(2)). Node's own way out waits for its worker threads first, and for one of V8's tasks it
 * may wait for ever (nodejs/node#64274): who runs us would wait with it, and not start us again. Nothing is written or
 * closed any more: that is done before.
 */
export function exit(status: number): never {
  sys._exit(status);
  throw new Error('_exit(2) has returned');
}

/** The same for an error that nobody catches, and a rejection that nobody handles: it is printed, and the status is 1. */
export function exitOnUncaught(): void {
  process.on('uncaughtException', (error) => {
    console.error(error);
    exit(1);
  });
}
