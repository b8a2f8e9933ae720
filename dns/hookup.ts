/** The resolver in one sandbox: listeners in its namespace, and the table that turns its queries to them. */
import type { Clock } from '../base/clock.ts';
import { errorText } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';
import { sys } from '../linux/ffi.ts';
import { hookDns } from '../linux/nft-owned.ts';
import type { Netns } from '../linux/types.ts';
import type { Chain } from './chain.ts';
import { forgetResolverFlows } from './flows.ts';
import { datagramSocket, openListeners } from './sockets.ts';
import { serveTcp } from './tcp-server.ts';

/** The largest answer of our own over UDP. */
const UDP_BYTES = 4096;

export interface HookupOptions {
  netns: Netns;
  /** Unique on this host, so that a new weftd's table can stand beside the old one's. */
  tableName: string;
  chain: Chain;
  clock: Clock;
  log: Logger;
  onDrop: () => void;
}

/** Serves until closed; synchronous and complete when it returns (under 0.5 ms). Throws KernelError, leaving nothing behind. */
export function hookUp({ netns, tableName, chain, clock, log, onDrop }: HookupOptions): { close(): void } {
  const undo: (() => void)[] = [];
  const close = (): void => {
    for (const step of undo.splice(0).reverse()) {
      try {
        step();
      } catch (error) {
        log.warn({ detail: errorText(error) }, 'something of the resolver stayed in a sandbox');
      }
    }
  };
  const onError = (error: Error): void => log.debug({ detail: error.message }, 'a socket of the resolver failed');
  try {
    const { port, udp, tcp, mark } = openListeners(netns);
    undo.push(() => sys.close(mark));
    undo.push(serveTcp(tcp, { chain, clock, onDrop, onError }).close);
    undo.push(serveUdp(udp, chain, onError));
    undo.push(() => forgetResolverFlows(netns));
    const hook = hookDns(netns, { tableName, udpPort: port, tcpPort: port });
    undo.push(hook.close);
    if (!hook.owned) log.warn({}, 'this kernel cannot tie the resolver\'s table to weftd: if weftd is killed, no name resolves until it is back');
    forgetResolverFlows(netns);
    return { close };
  } catch (error) {
    close();
    throw error;
  }
}

function serveUdp(fd: number, chain: Chain, onError: (error: Error) => void): () => void {
  const socket = datagramSocket(fd);
  let open = true;
  let out = Buffer.allocUnsafe(UDP_BYTES);
  // With a callback, failed sends (a full queue, a client's firewall) are no events of the socket.
  const sent = (error: Error | null): void => {
    if (error) onError(error);
  };
  socket.on('error', onError);
  socket.on('message', (message, { address, port }) => {
    const answer = chain(message, 'udp', out);
    if (typeof answer === 'number') {
      if (answer === 0) return;
      socket.send(out, 0, answer, port, address, sent);
      // What could not be sent at once is sent from this buffer later.
      if (socket.getSendQueueCount() > 0) out = Buffer.allocUnsafe(UDP_BYTES);
    } else {
      void answer.then((reply) => {
        if (open) socket.send(reply, port, address, sent);
      });
    }
  });
  return () => {
    open = false;
    socket.close();
  };
}
