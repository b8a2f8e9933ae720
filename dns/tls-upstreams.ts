/**
 * Name servers that are asked over TLS, for everybody: the first at once, the next as well when one takes longer than it does as a rule; the
 * first good answer counts. Where none can be asked that way there is no answer: nothing is ever asked in the clear.
 */
import type { TimerHandle } from '../base/clock.ts';
import type { Logger } from '../base/log.ts';
import type { TlsUpstreams } from './dns.ts';
import { addressed, FORWARD_TIMEOUT_MS, type Failure, type Forwarder, type ForwarderOptions } from './forwarder.ts';
import { isRefusal } from './reply.ts';
import { createServerHealth } from './server-health.ts';
import { surveyReply } from './survey.ts';
import { createTlsConnection, type TlsConnection } from './tls-connection.ts';
import type { TlsServer } from './tls-server.ts';

export interface TlsUpstreamOptions extends ForwarderOptions, TlsUpstreams {
  /** Something came that does not belong to a question, or cannot be believed. */
  onLie: () => void;
  log: Logger;
}

const keyOf = ({ address, port, name = '' }: TlsServer): string => `${address} ${port} ${name}`;

export function createTlsUpstreams({ servers, ca, clock, random, onLie, log }: TlsUpstreamOptions): Forwarder {
  const health = createServerHealth(clock);
  const connections = new Map<string, TlsConnection>(servers.map((server) => [keyOf(server), createTlsConnection({ server, ca, clock, random, onLie, log })]));
  const keys = [...connections.keys()];

  async function askOne(key: string, message: Buffer, end: number): Promise<Buffer | Failure> {
    const since = clock.now();
    const reply = await connections.get(key)!.ask(message, end);
    if (reply === 'timeout' || reply === 'absent') health.silent(key);
    if (typeof reply === 'string') return reply;
    health.answered(key, clock.now() - since);
    if (reply.readUInt16BE(4) === 0 || surveyReply(reply, end, message.readUInt16BE(end - 4))) return reply;
    onLie();
    return 'absent';
  }

  function race(message: Buffer, end: number): Promise<Buffer | Failure> {
    const waiting = health.order(keys);
    const { promise, resolve } = Promise.withResolvers<Buffer | Failure>();
    let underWay = 0;
    let worst: Buffer | Failure | undefined;
    let stepTimer: TimerHandle;
    const deadline = clock.setTimeout(() => finish(worst ?? 'timeout'), FORWARD_TIMEOUT_MS);

    function finish(result: Buffer | Failure): void {
      clock.clearTimeout(deadline);
      clock.clearTimeout(stepTimer);
      waiting.length = 0;
      resolve(result);
    }

    async function ask(key: string): Promise<void> {
      underWay++;
      const result = await askOne(key, message, end);
      underWay--;
      if (result === 'closed' || (typeof result !== 'string' && !isRefusal(result))) return finish(result);
      // What a server has said is more than that another one said nothing.
      if (worst === undefined || typeof worst === 'string') worst = result;
      if (waiting.length > 0) step();
      else if (underWay === 0) finish(worst);
    }

    function step(): void {
      clock.clearTimeout(stepTimer);
      const key = waiting.shift();
      if (key === undefined) return;
      stepTimer = clock.setTimeout(step, health.patience(key));
      void ask(key);
    }

    step();
    return promise;
  }

  return {
    ask: async (message, end) => {
      // Beside the others, for it may be back and yet slower than they are.
      for (const key of health.due(keys)) void askOne(key, message, end);
      const reply = await race(message, end);
      return typeof reply === 'string' ? reply : addressed(reply, message, end);
    },
    close: () => {
      for (const connection of connections.values()) connection.close();
    },
  };
}
