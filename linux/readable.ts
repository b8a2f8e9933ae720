/**
 * Waits in Node's own event loop until a descriptor can be read (libuv's uv_poll_t), for sockets that are read by system calls of ours: Node's
 * datagram sockets take one datagram with each call, and up to 32 of them before anybody else has a turn.
 */
import koffi from 'koffi';
import { sys } from './ffi.ts';

/**
 * Calls `read` for as long as there is something to read; it takes some of it. This is no callback of Node's: ticks and promises that come of
 * it would wait for the next one of those, and where it returns true there is one at once. Keeps the process alive. Takes the descriptor over;
 * what is returned ends the wait and closes it. One that cannot be waited for, such as a file's, ends the process (koffi 3.3).
 */
export function whenReadable(fd: number, read: () => boolean): () => void {
  let open = true;
  const onEvent = (status: unknown): void => {
    try {
      if (read()) setImmediate(() => {});
    } catch (error) {
      // What is thrown into libuv, which has called us, is lost.
      setImmediate(() => {
        throw error;
      });
    }
    // An error of the socket, which went with being read, has ended the wait.
    if (open && status !== 0) handle.start(onEvent);
  };
  const handle = koffi.node.poll(fd, onEvent);
  return () => {
    open = false;
    handle.close();
    sys.close(fd);
  };
}
