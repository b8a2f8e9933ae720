/**
 * Docker's own resolver, asked where it listens in the sandbox. Docker opens new ports when it restarts under running
 * containers, so ports are never kept across a failure: refused connections and silence both make us look again.
 */
import type { Socket as DatagramSocket } from 'node:dgram';
import { Socket } from 'node:net';
import type { TimerHandle } from '../base/clock.ts';
import { errorText } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';
import type { Netns } from '../linux/types.ts';
import { addressed, disguise, FORWARD_TIMEOUT_MS, type Failure, type Forwarder, type ForwarderOptions, type Transport } from './forwarder.ts';
import { belongsTo } from './reply.ts';
import type { ResolverPorts } from './resolver-ports.ts';
import { datagramSocket, openClient, RESOLVER_ADDRESS } from './sockets.ts';
import { exchangeOverTcp } from './tcp-exchange.ts';

/** Where there is no such resolver, each question would read the namespace's socket tables again. */
const ABSENT_MS = 1000;

export interface DockerResolverOptions extends ForwarderOptions {
  netns: Netns;
  log: Logger;
  /** Candidates, as they are now. One of each as a rule; programs of the container may listen there too. */
  ports: () => ResolverPorts;
}

interface Pending {
  query: Buffer;
  end: number;
  sentAt: number;
  moved: boolean;
  timer: TimerHandle;
  done(result: Buffer | Failure): void;
}

export interface DockerResolver extends Forwarder {
  /** Nothing listened there a moment ago. */
  isAbsent(): boolean;
}

/** For sandboxes in which it is not asked. */
export const NO_DOCKER_RESOLVER: DockerResolver = { ask: () => Promise.resolve('absent'), isAbsent: () => true, close: () => {} };

export function createDockerResolver({ netns, ports, clock, random, log }: DockerResolverOptions): DockerResolver {
  const pending = new Map<number, Pending>();
  const connections = new Set<Socket>();
  let udp: { socket: DatagramSocket; port: number; trusted: boolean } | undefined;
  let tcpPort: number | undefined;
  let failures = 0;
  let lastReply = -Infinity;
  let absentUntil = -Infinity;
  let closed = false;

  const isAbsent = (): boolean => clock.now() < absentUntil;

  /** The candidate to try: another one after each failure. */
  function candidate(protocol: Transport): number | undefined {
    if (isAbsent()) return undefined;
    const found = attempt(() => ports()[protocol]) ?? [];
    if (found.length === 0) absentUntil = clock.now() + ABSENT_MS;
    return found[failures % found.length];
  }

  const client = (protocol: Transport): number | undefined => attempt(() => openClient(netns, protocol));

  /** Short of descriptors, we cannot ask; what was asked is answered all the same. */
  function attempt<T>(act: () => T): T | undefined {
    try {
      return act();
    } catch (error) {
      log.debug({ detail: errorText(error) }, 'Docker\'s resolver cannot be asked');
      return undefined;
    }
  }

  /** Makes sure that there is a socket connected to where Docker's resolver is now. A connected one hears of refusals. */
  function aim(): DatagramSocket | undefined {
    if (udp?.trusted) return udp.socket;
    const port = candidate('udp');
    if (udp && udp.port === port) {
      udp.trusted = true;
      return udp.socket;
    }
    udp?.socket.close();
    udp = undefined;
    const fd = port === undefined ? undefined : client('udp');
    if (fd === undefined || port === undefined) return undefined;
    const socket = datagramSocket(fd);
    socket.on('message', receive);
    socket.on('error', () => refused(socket));
    socket.connect(port, RESOLVER_ADDRESS);
    udp = { socket, port, trusted: true };
    for (const each of pending.values()) send(socket, each);
    return socket;
  }

  function send(socket: DatagramSocket, each: Pending): void {
    try {
      socket.send(each.query, (error) => {
        if (error) refused(socket);
      });
    } catch {
      // It could not be connected (loopback is down); the event that says so is on its way.
    }
  }

  /** Nobody listens there any more: ask whoever does now, each question once more. */
  function refused(socket: DatagramSocket): void {
    if (udp?.socket !== socket) return;
    failures++;
    udp.socket.close();
    udp = undefined;
    for (const each of pending.values()) {
      if (each.moved) each.done('absent');
      each.moved = true;
    }
    if (pending.size > 0 && !aim()) for (const each of pending.values()) each.done('absent');
  }

  function receive(reply: Buffer): void {
    const each = reply.length < 2 ? undefined : pending.get(reply.readUInt16BE(0));
    if (!each || !belongsTo(reply, each.query, each.end)) return;
    lastReply = clock.now();
    each.done(reply);
  }

  function askUdp(message: Buffer, end: number): Promise<Buffer | Failure> {
    const socket = aim();
    if (!socket) return Promise.resolve('absent');
    return new Promise((resolve) => {
      let query = disguise(message, random);
      while (pending.has(query.readUInt16BE(0))) query = disguise(message, random);
      const id = query.readUInt16BE(0);
      const each: Pending = {
        query, end, sentAt: clock.now(), moved: false,
        done: (result) => {
          pending.delete(id);
          clock.clearTimeout(each.timer);
          resolve(typeof result === 'string' ? result : addressed(result, message, end));
        },
        timer: clock.setTimeout(() => {
          if (udp && lastReply < each.sentAt) {
            udp.trusted = false;
            failures++;
          }
          each.done('timeout');
        }, FORWARD_TIMEOUT_MS),
      };
      pending.set(id, each);
      send(socket, each);
    });
  }

  async function askTcp(message: Buffer, end: number): Promise<Buffer | Failure> {
    const query = disguise(message, random);
    for (let round = 0; round < 2; round++) {
      tcpPort ??= candidate('tcp');
      const fd = tcpPort === undefined ? undefined : client('tcp');
      if (fd === undefined || tcpPort === undefined) return 'absent';
      const socket = new Socket({ fd });
      connections.add(socket);
      const reply = await exchangeOverTcp(socket.connect(tcpPort, RESOLVER_ADDRESS), query, end, { clock, timeoutMs: FORWARD_TIMEOUT_MS });
      connections.delete(socket);
      if (closed) return 'closed';
      if (typeof reply !== 'string') return addressed(reply, message, end);
      tcpPort = undefined;
      failures++;
      if (reply === 'timeout') return 'timeout';
    }
    return 'absent';
  }

  return {
    isAbsent,
    ask: (message, end, transport) => {
      if (closed) return Promise.resolve('closed');
      return transport === 'udp' ? askUdp(message, end) : askTcp(message, end);
    },
    close: () => {
      closed = true;
      udp?.socket.close();
      udp = undefined;
      for (const each of pending.values()) each.done('closed');
      for (const socket of connections) socket.destroy();
    },
  };
}
