/** The host's own name servers, asked from the host's namespace, for sandboxes in which nobody else forwards. */
import { connect } from 'node:net';
import { addressed, disguise, FORWARD_TIMEOUT_MS, mixCase, type Failure, type Forwarder, type ForwarderOptions } from './forwarder.ts';
import { hasExactQuestion, isRefusal } from './reply.ts';
import { createServerHealth } from './server-health.ts';
import { surveyReply } from './survey.ts';
import { exchangeOverTcp } from './tcp-exchange.ts';
import { raceOverUdp, type UdpRace } from './udp-race.ts';

/** As many as resolv.conf(5) takes. */
const MAX_SERVERS = 3;
/** File descriptors that all sandboxes together may hold this way. */
const MAX_SOCKETS = 1024;

export interface UpstreamOptions extends ForwarderOptions {
  servers: () => string[];
  port?: number;
  /** Something came that does not belong to a question, or cannot be believed. */
  onLie: () => void;
}

export function createUpstreams({ servers, port = 53, clock, random, onLie }: UpstreamOptions): Forwarder {
  const health = createServerHealth(clock);
  const races = new Set<UdpRace>();
  const connections = new Set<() => void>();
  let closed = false;

  async function race(addresses: readonly string[], message: Buffer, end: number): Promise<Buffer | Failure> {
    const running = raceOverUdp(addresses, message, end, { port, clock, random, health, onLie, onFolded: (server) => settleCase(server, message, end) });
    races.add(running);
    const result = await running.result;
    races.delete(running);
    return result;
  }

  function askUdp(addresses: readonly string[], message: Buffer, end: number): Promise<Buffer | Failure> {
    // Beside the others, for it may be back and yet slower than they are.
    for (const server of health.due(addresses)) race([server], message, end).catch(() => {});
    return race(addresses, message, end);
  }

  /** Nobody on the way can forge an answer over TCP. Where the server has no TCP, its letters are believed from the next question on. */
  async function settleCase(server: string, message: Buffer, end: number): Promise<Buffer | Failure> {
    const { reply, exact } = await exchange(server, message, end, FORWARD_TIMEOUT_MS / 2);
    if (typeof reply === 'string' || !exact) health.setFoldsCase(server);
    return reply;
  }

  async function exchange(server: string, message: Buffer, end: number, timeoutMs: number): Promise<{ reply: Buffer | Failure; exact: boolean }> {
    const query = disguise(message, random);
    mixCase(query, end, random);
    const socket = connect(port, server);
    const cancel = (): void => void socket.destroy();
    connections.add(cancel);
    const reply = await exchangeOverTcp(socket, query, end, { clock, timeoutMs });
    connections.delete(cancel);
    return { reply, exact: typeof reply !== 'string' && hasExactQuestion(reply, query, end) };
  }

  async function askTcp(addresses: readonly string[], message: Buffer, end: number): Promise<Buffer | Failure> {
    const started = clock.now();
    let result: Buffer | Failure = 'absent';
    for (const [i, address] of health.order(addresses).entries()) {
      // What is left is shared evenly among those not asked yet.
      if (closed) return 'closed';
      const { reply } = await exchange(address, message, end, (FORWARD_TIMEOUT_MS - (clock.now() - started)) / (addresses.length - i));
      if (typeof reply === 'string') {
        if (typeof result === 'string') result = reply;
      } else if (reply.readUInt16BE(4) === 1 && !surveyReply(reply, end, message.readUInt16BE(end - 4))) {
        onLie();
      } else {
        result = reply;
        if (!isRefusal(reply)) break;
      }
    }
    return closed ? 'closed' : result;
  }

  return {
    ask: async (message, end, transport) => {
      if (closed) return 'closed';
      const addresses = servers().slice(0, MAX_SERVERS);
      if (addresses.length === 0) return 'absent';
      const sockets = [...races].reduce((sum, race) => sum + race.sockets, connections.size);
      if (sockets >= MAX_SOCKETS) return 'busy';
      const reply = await (transport === 'udp' ? askUdp : askTcp)(addresses, message, end);
      return typeof reply === 'string' ? reply : addressed(reply, message, end);
    },
    close: () => {
      closed = true;
      for (const race of races) race.cancel();
      for (const cancel of connections) cancel();
    },
  };
}
