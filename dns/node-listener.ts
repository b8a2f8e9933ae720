/**
 * The resolver at an address of this node, for containers whose namespaces are to be left alone: who asks is known by the address that the question
 * comes from. Each has bounds of its own, as in a namespace of its own.
 */
import { createServer, type Server } from 'node:net';
import type { Clock, TimerHandle } from '../base/clock.ts';
import { errorText } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';
import { RCODE } from './message.ts';
import { NOTHING_KNOWN } from './remembered.ts';
import { createResponder, type Chain } from './responder.ts';
import { encodeResponse } from './response.ts';
import { openServer } from './sockets.ts';
import { createTcpService, type TcpService } from './tcp-server.ts';
import { serveUdp } from './udp-server.ts';

const PORT = 53;
/** Another name server may have the address, and go. */
const RETRY_MS = 10_000;

export interface NodeListenerOptions {
  /** IPv4; of this host, now or later. */
  address: string;
  clock: Clock;
  log: Logger;
  /** A connection was turned away or cut off; a question came from who is on no network here. */
  onDrop(): void;
  onStranger(): void;
}

export interface NodeListener {
  /** Questions from these addresses are this chain's from now on. */
  add(addresses: readonly string[], chain: Chain): NodeClient;
  /** Why nobody is answered. */
  readonly problem: string | undefined;
  close(): void;
}

export interface NodeClient {
  /** From others instead. */
  move(addresses: readonly string[]): void;
  /** What others are asked for it is still answered. */
  close(): Promise<void>;
}

interface Client { chain: Chain; tcp: TcpService }

/** Never throws: what stands in the way may go. */
export function openNodeListener({ address, clock, log, onDrop, onStranger }: NodeListenerOptions): NodeListener {
  const clients = new Map<string, Client>();
  // Whoever is told so can ask another name server.
  const strangers = makeClient(Object.assign(createResponder(onStranger, (query, limit, message, _, out) => {
    onStranger();
    return encodeResponse(out, message, query, RCODE.REFUSED, undefined, limit);
  }), { known: () => NOTHING_KNOWN }));
  let problem: string | undefined;
  let stop = (): void => {};
  let timer: TimerHandle;

  function makeClient(chain: Chain): Client {
    return { chain, tcp: createTcpService({ chain, clock, onDrop }) };
  }

  const onError = (error: Error): void => log.debug({ detail: error.message }, 'a socket for names at this node\'s address failed');
  const clientAt = (ip: string): Client => clients.get(ip) ?? strangers;

  function open(): void {
    try {
      const { udp, tcp } = openServer(address, PORT, { absent: true });
      const stopUdp = serveUdp(udp, { chain: { of: (ip) => clientAt(ip).chain }, batches: false, onError });
      const server: Server = createServer({ allowHalfOpen: true, noDelay: true }, (socket) => clientAt(socket.remoteAddress ?? '').tcp.serve(socket));
      server.on('error', onError);
      server.listen({ fd: tcp });
      problem = undefined;
      stop = () => {
        stopUdp();
        server.close();
      };
    } catch (error) {
      if (problem === undefined) log.warn({ address, detail: errorText(error) }, 'containers cannot ask this node for names');
      problem = errorText(error);
      timer = clock.setTimeout(open, RETRY_MS);
    }
  }

  open();
  return {
    get problem() { return problem; },
    add: (addresses, chain) => {
      const client = makeClient(chain);
      let present: readonly string[] = [];
      const move = (next: readonly string[]): void => {
        // An address that was given to another one meanwhile is that one's.
        for (const ip of present) if (clients.get(ip) === client) clients.delete(ip);
        for (const ip of next) clients.set(ip, client);
        present = next;
      };
      move(addresses);
      return {
        move,
        close: async () => {
          move([]);
          client.tcp.close();
        },
      };
    },
    close: () => {
      clock.clearTimeout(timer);
      stop();
      for (const { tcp } of [...clients.values(), strangers]) tcp.close();
    },
  };
}
