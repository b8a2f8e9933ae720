/**
 * One question put to several name servers over UDP: the first at once, the next when one takes longer than it does as a rule, round and round;
 * the first good answer counts. Every server is asked from a socket of its own: an unpredictable port keeps forged answers out (RFC 5452 §9.2).
 */
import { createSocket, type Socket } from 'node:dgram';
import { isIPv6 } from 'node:net';
import type { Clock, TimerHandle } from '../base/clock.ts';
import type { Random } from '../base/random.ts';
import { disguise, FORWARD_TIMEOUT_MS, mixCase, type Failure } from './forwarder.ts';
import { belongsTo, hasExactQuestion, isRefusal } from './reply.ts';
import type { ServerHealth } from './server-health.ts';
import { surveyReply } from './survey.ts';

/** So many answers to other questions on one socket are an attack: the server is given up for this question. */
const MAX_FORGED = 16;

export interface UdpRaceOptions {
  port: number;
  clock: Clock;
  random: Random;
  health: ServerHealth;
  /** Something came that does not belong to the question, or cannot be believed. */
  onLie: () => void;
  /** It has answered with the question in letters of its own: to be asked where nobody can have forged that. */
  onFolded: (server: string) => Promise<Buffer | Failure>;
}

interface Asked { socket: Socket; query: Buffer; sentAt: number; forged: number; settling: boolean }

export interface UdpRace {
  /** With an id and letters of ours; never rejects. */
  readonly result: Promise<Buffer | Failure>;
  /** Sockets in use, now. */
  readonly sockets: number;
  cancel(): void;
}

/** `servers`: the user's order; one at least. `end` is where the question ends. */
export function raceOverUdp(servers: readonly string[], message: Buffer, end: number, { port, clock, random, health, onLie, onFolded }: UdpRaceOptions): UdpRace {
  const asked = new Map<string, Asked>();
  const order = health.order(servers);
  const hopeful = new Set(order);
  const type = message.readUInt16BE(end - 4);
  const { promise, resolve } = Promise.withResolvers<Buffer | Failure>();
  let refusal: Buffer | undefined;
  let turn = 0;
  let finished = false;
  let stepTimer: TimerHandle;
  const deadline = clock.setTimeout(() => finish(refusal ?? 'timeout'), FORWARD_TIMEOUT_MS);

  function finish(result: Buffer | Failure, from?: string): void {
    if (finished) return;
    finished = true;
    clock.clearTimeout(deadline);
    clock.clearTimeout(stepTimer);
    for (const [server, { socket, sentAt }] of asked) {
      socket.close();
      // Others that had their time, too, and gave up neither.
      if (result !== 'absent' && result !== 'closed' && server !== from && hopeful.has(server) && clock.now() - sentAt >= health.patience(server)) health.silent(server);
    }
    resolve(result);
  }

  /** Nothing more will come from this one. */
  function giveUp(server: string): void {
    if (finished || !hopeful.delete(server)) return;
    if (hopeful.size === 0) finish(refusal ?? 'absent');
    else step();
  }

  function receive(server: string, each: Asked, reply: Buffer): void {
    if (finished) return;
    if (!belongsTo(reply, each.query, end)) {
      onLie();
      if (++each.forged >= MAX_FORGED) giveUp(server);
      return;
    }
    if (!health.foldsCase(server) && !hasExactQuestion(reply, each.query, end)) {
      if (each.settling) return;
      each.settling = true;
      void onFolded(server).then((result) => {
        if (typeof result === 'string') giveUp(server);
        else take(server, each, result);
      });
      return;
    }
    take(server, each, reply);
  }

  function take(server: string, { sentAt }: Asked, reply: Buffer): void {
    if (finished) return;
    health.answered(server, clock.now() - sentAt);
    if (reply.readUInt16BE(4) === 1 && !surveyReply(reply, end, type)) {
      onLie();
      return giveUp(server);
    }
    if (!isRefusal(reply)) return finish(reply, server);
    refusal = reply;
    giveUp(server);
  }

  function send(server: string): void {
    if (!finished) asked.get(server)!.socket.send(asked.get(server)!.query, (error) => error && giveUp(server));
  }

  function open(server: string): void {
    const query = disguise(message, random);
    if (!health.foldsCase(server)) mixCase(query, end, random);
    const socket = createSocket({ type: isIPv6(server) ? 'udp6' : 'udp4', lookup: (host, family, done) => done(null, host, Number(family)) });
    const each: Asked = { socket, query, sentAt: clock.now(), forged: 0, settling: false };
    socket.on('error', () => giveUp(server));
    socket.on('connect', () => send(server));
    socket.on('message', (reply) => receive(server, each, reply));
    asked.set(server, each);
    // A connected socket takes nothing from anybody else, and hears of refusals.
    socket.connect(port, server);
  }

  function step(): void {
    clock.clearTimeout(stepTimer);
    const server = [...hopeful][turn++ % hopeful.size]!;
    stepTimer = clock.setTimeout(step, health.patience(server));
    if (asked.has(server)) send(server);
    else open(server);
  }

  step();
  return {
    result: promise,
    get sockets() { return finished ? 0 : asked.size; },
    cancel: () => finish('closed'),
  };
}
