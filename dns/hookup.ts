/** The resolver in one sandbox: listeners in its namespace, and the table that turns its queries to them. */
import type { Clock } from '../base/clock.ts';
import { errorText } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';
import { runAll } from '../base/undo.ts';
import { sys } from '../linux/ffi.ts';
import { hookDns } from '../linux/owned-table.ts';
import { raiseLoopback } from '../linux/loopback.ts';
import type { Netns } from '../linux/types.ts';
import type { Chain } from './responder.ts';
import { openListeners } from './sockets.ts';
import { serveTcp } from './tcp-server.ts';
import { serveUdp } from './udp-server.ts';

export interface HookupOptions {
  netns: Netns;
  /** Unique in the namespace, so that a new table can stand beside the one it takes over from. */
  tableName: string;
  chain: Chain;
  /** Take several datagrams at a time where they wait. */
  batches: boolean;
  clock: Clock;
  log: Logger;
  onDrop: () => void;
}

export interface Hookup {
  /** Queries go elsewhere at once, and we when those that have already come in are answered. Never rejects. */
  close(): Promise<void>;
}

/** Serves until closed; synchronous and complete when it returns (0.3 ms). Throws KernelError, leaving nothing behind. */
export function hookUp({ netns, tableName, chain, batches, clock, log, onDrop }: HookupOptions): Hookup {
  const undo: (() => void)[] = [];
  const onError = (error: Error): void => log.debug({ detail: error.message }, 'a socket of the resolver failed');
  try {
    // Native sandboxes may come with theirs down: a socket bound then sends from a wrong address for ever after.
    raiseLoopback(netns);
    const { port, udp, tcp, mark } = openListeners(netns);
    const ours = new Set([udp, tcp, mark]);
    const handOver = (fd: number): number => {
      ours.delete(fd);
      return fd;
    };
    undo.unshift(() => ours.forEach((fd) => sys.close(fd)));
    undo.unshift(serveTcp(handOver(tcp), { chain, clock, onDrop, onError }).close);
    undo.unshift(serveUdp(handOver(udp), { chain, batches, onError }));
    const hook = hookDns(netns, { tableName, udpPort: port, tcpPort: port });
    undo.unshift(hook.close);
    if (!hook.owned) log.warn({}, 'this kernel cannot tie the resolver\'s table to weftd: if weftd is killed, no name resolves until it is back');
    return {
      close: async () => {
        const { errors } = await runAll([hook.release, turn, turn, ...undo]);
        for (const error of errors) log.warn({ detail: errorText(error) }, 'something of the resolver stayed in a sandbox');
      },
    };
  } catch (error) {
    // Not runAll, which waits between its steps: the namespace is closed when we return.
    for (const step of undo) {
      try {
        step();
      } catch (secondary) {
        log.warn({ detail: errorText(secondary) }, 'something of the resolver stayed in a sandbox');
      }
    }
    throw error;
  }
}

/** Two of these contain a whole round of the event loop, in which all sockets are read. */
const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
