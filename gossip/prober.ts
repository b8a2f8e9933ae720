/** Finds out who does not answer (SWIM §3): one member after the other is probed, by others' help before it is accused. */
import { shuffle, type Random } from '../base/random.ts';
import type { Awareness } from './awareness.ts';
import type { Beliefs } from './beliefs.ts';
import { isLive, type Member } from './members.ts';
import { encodeAccusation, encodeAck, encodeIndirectPing, encodeNack, encodePing, type Address, type IndirectPing } from './messages.ts';
import { createPatience } from './patience.ts';
import type { Timers } from './timers.ts';
import { isRefusal } from './transport.ts';
import type { Tuning } from './tuning.ts';
import { nacks, streamPings } from './versions.ts';

/** A helper gives up early enough for its word to arrive in time (Lifeguard §IV.A: 80 % of the time-out). */
const HELPER_SHARE = 0.8;
/** Of 16 bits: they come again long after they were answered. */
const SEQUENCES = 2 ** 16;
const FIRST_SEQUENCES = 64;

export interface ProberOptions {
  name: string;
  address: Address;
  tuning: Tuning;
  random: Random;
  timers: Timers;
  beliefs: Beliefs;
  awareness: Awareness;
  /** With news beside it. */
  send(to: Address, message: Buffer): void;
  /** As one packet, nothing else with it. */
  sendTogether(to: Address, messages: readonly Buffer[]): void;
  /** Resolves when the member answers on a stream. */
  pingByStream(member: Member, timeoutMs: number): Promise<void>;
  /** It answers on streams and not to packets. */
  onDeafToPackets(member: Member): void;
  /** It answered itself, after so many milliseconds. */
  onAnswer(member: Member, roundTripMs: number, payload: Buffer): void;
  now(): number;
}

export interface Prober {
  /** One member is probed; how it ends goes to the beliefs. */
  probe(): Promise<void>;
  /** One packet there and back; resolves with milliseconds, rejects without an answer. */
  ping(member: Member, signal?: AbortSignal): Promise<number>;
  ack(seq: number, payload: Buffer): void;
  nack(seq: number): void;
  /** Probes on behalf of somebody else; the answer goes back under their number. */
  help(request: IndirectPing, from: Address): void;
}

export function createProber(options: ProberOptions): Prober {
  const { name, address, tuning, random, timers, beliefs, awareness, send, sendTogether, pingByStream, onDeafToPackets, onAnswer, now } = options;
  const waiting = new Map<number, { ack(payload: Buffer): void; nack(): void }>();
  const patience = createPatience(tuning.probeTimeout);
  let order: string[] = [];
  // Small at first, since each probe carries it twice; not always the same, since a late answer to who had this address before us is none to us.
  let sequence = random.int(FIRST_SEQUENCES);

  const nextSequence = (): number => (sequence = (sequence + 1) % SEQUENCES);
  const pingOf = (node: string, seq: number): Buffer => encodePing({ seq, node, sourceNode: name, source: address });

  function nextTarget(): Member | undefined {
    for (let round = 0; round < 2; round++) {
      while (order.length > 0) {
        const member = beliefs.members.get(order.pop()!);
        if (member && isLive(member)) return member;
      }
      order = shuffle(beliefs.others('alive', 'suspect').map((member) => member.name), random);
    }
    return undefined;
  }

  /** Resolves with whether the target answered in any way, and with how much the silence says about this node itself. */
  function ask(target: Member, interval: number): Promise<{ answered: boolean; stoodStill: boolean; blame: number }> {
    const seq = nextSequence();
    const start = now();
    let helpers: Member[] = [];
    let expected = 0;
    let refused = 0;
    let nobodyListens = false;
    let direct = true;
    // Who does badly itself does not take its own lateness for others'.
    const patient = Math.min(tuning.probeTimeout, patience.ms * (awareness.score + 1));
    return new Promise((resolve) => {
      const end = (answered: boolean, stoodStill = false): void => {
        timers.cancel(askOthers);
        giveUp();
        waiting.delete(seq);
        if (answered) patience.answered(now() - start);
        // Helpers that could not reach it either say so; silence from them means that the fault may be ours.
        resolve({ answered, stoodStill, blame: expected > 0 ? expected - refused : 1 });
      };
      // Its host says that nobody listens, and no helper had an answer: there is nothing more to wait for.
      const endIfHopeless = (): void => {
        if (nobodyListens && refused === helpers.length && waiting.has(seq)) end(false);
      };
      waiting.set(seq, {
        ack: (payload) => {
          if (direct) onAnswer(target, now() - start, payload);
          end(true);
        },
        nack: () => {
          if (refused < expected) refused++;
          endIfHopeless();
        },
      });
      const askOthers = timers.after(patient, () => {
        direct = false;
        helpers = beliefs.members.sample(tuning.indirectChecks, random, (member) => member.state === 'alive' && member.name !== target.name && member.name !== name);
        for (const helper of helpers) {
          const nack = nacks(helper.versions);
          if (nack) expected++;
          send(helper.address, encodeIndirectPing({ seq, node: target.name, sourceNode: name, source: address, target: target.address, nack }));
        }
        if (!tuning.streamPings || !streamPings(target.versions)) return;
        pingByStream(target, interval - patient).then(() => {
          if (!waiting.has(seq)) return;
          onDeafToPackets(target);
          end(true);
        }, (error: unknown) => {
          nobodyListens = isRefusal(error);
          endIfHopeless();
        });
      });
      const giveUp = timers.judge(interval, tuning.probeTimeout, (stoodStill) => end(false, stoodStill));
      // A suspect is told so along with the ping, and can refute at once.
      if (target.state === 'suspect') sendTogether(target.address, [pingOf(target.name, seq), encodeAccusation('suspect', { node: target.name, incarnation: target.incarnation, from: name })]);
      else send(target.address, pingOf(target.name, seq));
    });
  }

  return {
    probe: async () => {
      const target = nextTarget();
      if (!target) return;
      const { answered, stoodStill, blame } = await ask(target, tuning.probeInterval * (awareness.score + 1));
      awareness.change(answered ? -1 : blame);
      if (!answered && !stoodStill) beliefs.suspect({ node: target.name, incarnation: target.incarnation, from: name });
    },
    ping: (member, signal) => new Promise((resolve, reject) => {
      signal?.throwIfAborted();
      const seq = nextSequence();
      const start = now();
      const end = (): void => {
        timers.cancel(giveUp);
        waiting.delete(seq);
        signal?.removeEventListener('abort', abort);
      };
      const abort = (): void => {
        end();
        reject(signal!.reason as Error);
      };
      const giveUp = timers.after(tuning.probeInterval, () => {
        end();
        reject(new Error(`${member.name} does not answer`));
      });
      signal?.addEventListener('abort', abort);
      waiting.set(seq, {
        ack: (payload) => {
          end();
          const roundTrip = now() - start;
          onAnswer(member, roundTrip, payload);
          resolve(roundTrip);
        },
        nack: () => {},
      });
      send(member.address, pingOf(member.name, seq));
    }),
    ack: (seq, payload) => waiting.get(seq)?.ack(payload),
    nack: (seq) => waiting.get(seq)?.nack(),
    help: (request, from) => {
      const back = request.source ?? from;
      const seq = nextSequence();
      const timer = timers.after(patience.ms * HELPER_SHARE, () => {
        if (request.nack) send(back, encodeNack(request.seq));
      });
      // An answer that comes after the refusal is passed on as well: late is better than never.
      const forget = timers.after(tuning.probeInterval, () => waiting.delete(seq));
      waiting.set(seq, {
        ack: () => {
          timers.cancel(timer);
          timers.cancel(forget);
          waiting.delete(seq);
          send(back, encodeAck(request.seq));
        },
        nack: () => {},
      });
      send(request.target, pingOf(request.node, seq));
    },
  };
}
