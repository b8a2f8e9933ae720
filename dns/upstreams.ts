/**
 * The host's own name servers, asked from the host's namespace, for sandboxes in which nobody else forwards. Every
 * question has a socket of its own: an unpredictable port keeps forged answers out (RFC 5452 §9.2).
 */
import { createSocket, type Socket } from 'node:dgram';
import { connect, isIPv6 } from 'node:net';
import type { TimerHandle } from '../base/clock.ts';
import { addressed, disguise, FORWARD_TIMEOUT_MS, type Failure, type Forwarder, type ForwarderOptions } from './forwarder.ts';
import { RCODE } from './message.ts';
import { belongsTo, rcodeOf } from './reply.ts';
import { exchangeOverTcp } from './tcp-exchange.ts';

/** As many as resolv.conf(5) takes. */
const MAX_SERVERS = 3;
/** A server that is silent for this long is not waited for alone. */
const STEP_MS = 1000;
/** File descriptors that all sandboxes together may hold this way. */
const MAX_SOCKETS = 1024;

export interface UpstreamOptions extends ForwarderOptions {
  servers: () => string[];
  port?: number;
}

export function createUpstreams({ servers, port = 53, clock, random }: UpstreamOptions): Forwarder {
  const cancellations = new Set<() => void>();
  let sockets = 0;

  /** Each server in turn, one every STEP_MS, round and round; the first good answer counts. */
  function askUdp(addresses: string[], message: Buffer, end: number): Promise<Buffer | Failure> {
    return new Promise((resolve) => {
      const asked = new Map<string, { socket: Socket; query: Buffer }>();
      const hopeful = new Set(addresses);
      let refusal: Buffer | undefined;
      let turn = 0;
      let finished = false;
      let stepTimer: TimerHandle;
      const deadline = clock.setTimeout(() => finish(refusal ?? 'timeout'), FORWARD_TIMEOUT_MS);
      const cancel = (): void => finish('absent');
      cancellations.add(cancel);

      function finish(result: Buffer | Failure): void {
        finished = true;
        clock.clearTimeout(deadline);
        clock.clearTimeout(stepTimer);
        cancellations.delete(cancel);
        for (const { socket } of asked.values()) socket.close();
        sockets -= asked.size;
        resolve(typeof result === 'string' ? result : addressed(result, message));
      }

      /** Nothing more will come from this one. */
      function giveUp(address: string): void {
        if (finished || !hopeful.delete(address)) return;
        if (hopeful.size === 0) finish(refusal ?? 'absent');
        else step();
      }

      function send(address: string): void {
        if (!finished) asked.get(address)!.socket.send(asked.get(address)!.query, (error) => error && giveUp(address));
      }

      function open(address: string): void {
        const query = disguise(message, random);
        const socket = createSocket({ type: isIPv6(address) ? 'udp6' : 'udp4', lookup: (host, family, done) => done(null, host, Number(family)) });
        socket.on('error', () => giveUp(address));
        socket.on('connect', () => send(address));
        socket.on('message', (reply) => {
          if (finished || !belongsTo(reply, query, end)) return;
          if (!isRefusal(reply)) return finish(reply);
          refusal = reply;
          giveUp(address);
        });
        asked.set(address, { socket, query });
        sockets++;
        // A connected socket takes nothing from anybody else, and hears of refusals.
        socket.connect(port, address);
      }

      function step(): void {
        clock.clearTimeout(stepTimer);
        stepTimer = clock.setTimeout(step, STEP_MS);
        const address = [...hopeful][turn++ % hopeful.size]!;
        if (asked.has(address)) send(address);
        else open(address);
      }
      step();
    });
  }

  async function askTcp(addresses: string[], message: Buffer, end: number): Promise<Buffer | Failure> {
    const started = clock.now();
    let result: Buffer | Failure = 'absent';
    for (const [i, address] of addresses.entries()) {
      // What is left is shared evenly among those not asked yet.
      const timeoutMs = (FORWARD_TIMEOUT_MS - (clock.now() - started)) / (addresses.length - i);
      const socket = connect(port, address);
      const cancel = (): void => void socket.destroy();
      cancellations.add(cancel);
      sockets++;
      const reply = await exchangeOverTcp(socket, disguise(message, random), end, { clock, timeoutMs });
      sockets--;
      cancellations.delete(cancel);
      if (typeof reply !== 'string') {
        result = addressed(reply, message);
        if (!isRefusal(reply)) return result;
      } else if (typeof result === 'string') {
        result = reply;
      }
    }
    return result;
  }

  return {
    ask: (message, end, transport) => {
      const addresses = servers().slice(0, MAX_SERVERS);
      if (addresses.length === 0) return Promise.resolve('absent');
      if (sockets >= MAX_SOCKETS) return Promise.resolve('busy');
      return transport === 'udp' ? askUdp(addresses, message, end) : askTcp(addresses, message, end);
    },
    close: () => {
      for (const cancel of cancellations) cancel();
    },
  };
}

/** Another server may know better than one that failed or does not want us. */
const isRefusal = (reply: Buffer): boolean => rcodeOf(reply) === RCODE.SERVFAIL || rcodeOf(reply) === RCODE.REFUSED;
