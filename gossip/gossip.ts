/**
 * Membership by gossip: SWIM with Lifeguard's suspicion, in memberlist's bytes. Probes find failures, news travels
 * beside them and in gossip rounds, whole states are exchanged now and then; everything is sealed where there is a key.
 */
import type { Clock } from '../base/clock.ts';
import { errorText } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';
import type { Random } from '../base/random.ts';
import { createAwareness } from './awareness.ts';
import { createBeliefs, type MemberEvent } from './beliefs.ts';
import { createCoordinates, decodeCoordinate, distance, encodeCoordinate } from './coordinates.ts';
import { Refused, createStats, type DropReason, type GossipStats } from './counters.ts';
import type { Delegate } from './delegate.ts';
import { createEnvelope, type EnvelopeOptions } from './envelope.ts';
import { FamiliarWords } from './familiar.ts';
import { PART_OVERHEAD, compound, roomFor, withChecksum } from './framing.ts';
import { openInbox } from './inbox.ts';
import { addressKey, isLive, type Member } from './members.ts';
import {
  MAX_META, MAX_USER_BYTES, TYPE, decodeAccusation, decodeAck, decodeAlive, decodeIndirectPing, decodePing, encodeAck, encodePing, encodeUserPacket, encodeUserStream, type Address, type Alive,
} from './messages.ts';
import { createProber } from './prober.ts';
import { BroadcastQueue } from './queue.ts';
import { startRejoin } from './rejoin.ts';
import { createStateExchange } from './state-exchange.ts';
import type { StreamMessage } from './stream-message.ts';
import { createStreams } from './streams.ts';
import { createTimers } from './timers.ts';
import type { Transport } from './transport.ts';
import { PROFILES, retransmitLimit, type ProfileName, type Tuning } from './tuning.ts';
import { OWN_VERSIONS, checksums, type Versions } from './versions.ts';

export type { Member } from './members.ts';
export type { MemberEvent } from './beliefs.ts';
export type { Delegate } from './delegate.ts';

export interface GossipOptions extends EnvelopeOptions {
  /** Unique in the cluster, up to 255 bytes. */
  name: string;
  transport: Transport;
  clock: Clock;
  random: Random;
  log: Logger;
  /** Up to 512 bytes that every member sees beside the name. */
  meta?: Uint8Array;
  /** What it speaks; members that do not fit are refused, and refuse it. Default: memberlist's 1 to 5, speaking 2, and nothing of the delegate's. */
  versions?: Versions;
  /** How patient and how talkative it is; the same on all members, or some are accused by others in vain. Default: lan, memberlist's. */
  profile?: ProfileName;
  /** Single knobs over the profile. */
  tuning?: Partial<Tuning> | undefined;
  /** What hears messages, adds state to exchanges, and may refuse members. Default: nothing does. */
  delegate?: Delegate;
  /**
   * Members of a former life, as `members()` gave them: taken for what they were, without an event and without a word to
   * others. Who is gone by now is found out by probes. Default: none.
   */
  known?: readonly Member[];
  /** Answers to probes carry this node's network coordinate (130 bytes), so that round trips can be estimated. Default: false. */
  coordinates?: boolean;
}

/** How long to wait for something that goes on without being waited for. */
export interface Patience {
  /** Milliseconds; it ends without an error. Default: 5000. */
  timeoutMs?: number;
  /** Aborting rejects with the signal's reason. */
  signal?: AbortSignal;
}

export interface Gossip {
  readonly name: string;
  /** Where others reach this node. */
  readonly address: Address;
  /** This node's included, and those that failed or left within Tuning.reapTime. */
  members(): Member[];
  member(name: string): Member | undefined;
  /** Calls back with every change of a member from now on (not with what is the case). Returns the way to stop. */
  watch(onEvent: (event: MemberEvent) => void): () => void;
  /** Exchanges states with each address; resolves with how many succeeded and what went wrong with the others. */
  join(addresses: readonly Address[], options?: { signal?: AbortSignal }): Promise<{ joined: number; errors: Error[] }>;
  /** Looks for these for ever while they are not live members. To be called once. */
  seekSeeds(seeds: () => Promise<readonly Address[]>): void;
  /** One packet, at once, without knowing whether it arrives. Throws RangeError for more than `room` bytes. An unknown name is ignored. */
  sendBestEffort(name: string, message: Uint8Array): void;
  /** By stream; resolves once the other side has read it, rejects when it has not. Throws RangeError above 20 MiB. */
  sendReliable(name: string, message: Uint8Array, options?: { signal?: AbortSignal }): Promise<void>;
  /**
   * Beside other packets, to as many members as news goes to; receivers do not pass it on by themselves. A later one
   * with the same `about` replaces an earlier. Throws RangeError for more than `room` bytes.
   */
  broadcast(message: Uint8Array, about?: string): void;
  /** Bytes that a message in a packet may have. */
  readonly room: number;
  /** Other meta data from now on, up to 512 bytes; resolves when it has been passed on often enough. Rejects with RangeError. */
  updateNode(meta: Uint8Array, patience?: Patience): Promise<void>;
  /** One packet there and back: milliseconds. Rejects when no answer comes within Tuning.probeInterval. */
  ping(name: string, options?: { signal?: AbortSignal }): Promise<number>;
  /** Estimated round trip between this node and another, or two others, in milliseconds; undefined while it is not known. */
  roundTrip(name: string, other?: string): number | undefined;
  /** 0 when this node's own probes and answers come in time, up to Tuning.awarenessMax − 1. */
  readonly health: number;
  readonly stats: Readonly<GossipStats>;
  /** Says goodbye, so that others see left instead of failed; resolves when it has been said often enough. */
  leave(patience?: Patience): Promise<void>;
  /** Stops without a word and closes the transport. Again changes nothing. */
  shutdown(): Promise<void>;
}

const DEFAULT_PATIENCE_MS = 5_000;

/** Starts at once; knows nobody until it joins or is joined. */
export function createGossip(options: GossipOptions): Gossip {
  const { name, transport, clock, random, log, delegate } = options;
  const { address } = transport;
  const tuning: Tuning = { ...PROFILES[options.profile ?? 'lan'], ...options.tuning };
  const versions = options.versions ?? OWN_VERSIONS;
  const envelope = createEnvelope(options, random);
  const timers = createTimers(clock, random, log);
  const queue = new BroadcastQueue();
  const awareness = createAwareness(tuning.awarenessMax);
  const coordinates = options.coordinates ? createCoordinates(random) : undefined;
  const watchers = new Set<(event: MemberEvent) => void>();
  const stats = createStats();
  const room = roomFor(tuning.packetBytes, envelope.overhead) - PART_OVERHEAD;
  let closed = false;
  let closing: Promise<void> | undefined;

  const onDrop = (reason: DropReason): void => void stats.dropped[reason]++;

  function guarded(run: () => void): void {
    try {
      run();
    } catch (error) {
      log.error({ detail: errorText(error) }, 'what gossip brought could not be acted on');
    }
  }

  // Sending -----------------------------------------------------------------------------------------------------------

  function sendPacket(to: Address, messages: readonly Buffer[], checksum = false): void {
    if (closed || messages.length === 0) return;
    const plain = compound(messages);
    const packet = envelope.wrapPacket(checksum ? withChecksum(plain) : plain);
    stats.packetsSent++;
    stats.bytesSent += packet.length;
    transport.send(packet, to);
  }

  function news(bytes: number, to: Address, isDead = false): Buffer[] {
    const members = beliefs.members.liveCount;
    return queue.take(bytes, { to: addressKey(to), isDead, audience: members - 1, limit: retransmitLimit(tuning.retransmitMult, members) });
  }

  function sendWithNews(to: Address, message: Buffer): void {
    sendPacket(to, [message, ...news(room - message.length - PART_OVERHEAD, to)]);
  }

  // Members -----------------------------------------------------------------------------------------------------------

  function admits({ node, address: at, meta, versions: spoken }: Alive): boolean {
    try {
      delegate?.mayAdd?.({ name: node, address: at, meta, versions: spoken });
      return true;
    } catch (error) {
      onDrop('refused');
      log.debug({ member: node, detail: errorText(error) }, 'a node was refused as a member');
      return false;
    }
  }

  const beliefs = createBeliefs({
    name, address, meta: checkedMeta(options.meta ?? Buffer.alloc(0)), versions, tuning, clock, timers, log, queue, awareness, admits, known: options.known ?? [],
    notify: (event) => {
      if (event.type === 'leave') coordinates?.forget(event.member.name);
      for (const watcher of watchers) guarded(() => watcher(event));
    },
    tell: (to, message) => sendPacket(to, [message], true),
    onConflict: (known, { node, address: at, meta, versions: spoken }) => guarded(() => delegate?.onConflict?.(known, { name: node, address: at, meta, versions: spoken })),
  });
  const familiar = new FamiliarWords(beliefs.members);
  const streams = createStreams({ transport, envelope, timers, log, tuning, stats, onDrop });
  const exchange = createStateExchange({ name, versions, tuning, random, timers, log, beliefs, streams, delegate, guarded, onDrop });
  const prober = createProber({
    name, address, tuning, random, timers, beliefs, awareness, send: sendWithNews, now: () => clock.now(),
    sendTogether: (to, messages) => sendPacket(to, messages, true),
    pingByStream: async (member, timeoutMs) => {
      const seq = random.int(2 ** 32);
      const answer = await streams.exchange(member.address, encodePing({ seq, node: member.name, sourceNode: name, source: address }), { timeoutMs });
      if (answer.type !== 'ack' || answer.seq !== seq) throw new Error('the other side answered something else');
    },
    onDeafToPackets: (member) => log.warn({ member: member.name, address: member.address }, 'a member answers on TCP and not on UDP: does a firewall keep its packets away?'),
    onAnswer: (member, roundTripMs, payload) => {
      const coordinate = coordinates && decodeCoordinate(payload);
      if (coordinate) coordinates.observe(member.name, coordinate, roundTripMs / 1000);
      guarded(() => delegate?.onPinged?.(member, roundTripMs, payload));
    },
  });

  // Receiving ---------------------------------------------------------------------------------------------------------

  const isForHere = (node: string): boolean => node === '' || node === name;

  function ackTo(seq: number): Buffer {
    let payload: Uint8Array | undefined = coordinates && encodeCoordinate(coordinates.own);
    guarded(() => (payload = delegate?.ackPayload?.() ?? payload));
    return encodeAck(seq, payload);
  }

  function handle(message: Buffer, from: Address): void {
    if (closed) return;
    const body = message.subarray(1);
    switch (message[0]) {
      case TYPE.ping: {
        const ping = decodePing(body);
        if (isForHere(ping.node)) sendWithNews(ping.source ?? from, ackTo(ping.seq));
        return;
      }
      case TYPE.indirectPing: return prober.help(decodeIndirectPing(body), from);
      case TYPE.ack: {
        const { seq, payload } = decodeAck(body);
        return prober.ack(seq, payload);
      }
      case TYPE.nack: return prober.nack(decodeAck(body).seq);
      case TYPE.alive: {
        if (familiar.has(message)) return;
        const word = decodeAlive(body);
        beliefs.alive(word);
        return familiar.add(message, word);
      }
      case TYPE.suspect: return beliefs.suspect(decodeAccusation(body));
      case TYPE.dead: return beliefs.dead(decodeAccusation(body));
      case TYPE.user: return guarded(() => delegate?.onMessage?.(Buffer.from(body)));
      default: throw new Refused('type', `a message of type ${message[0]}`);
    }
  }

  openInbox({ transport, envelope, packetsPerSource: tuning.packetsPerSource, now: () => clock.now(), log, stats, onDrop, handle });
  streams.serve((message: StreamMessage) => {
    if (closed) return undefined;
    if (message.type === 'pushPull') return exchange.answer(message);
    if (message.type === 'user') guarded(() => delegate?.onMessage?.(message.payload));
    if (message.type === 'ping' && isForHere(message.ping.node)) return encodeAck(message.ping.seq);
    return undefined;
  });

  // Rounds ------------------------------------------------------------------------------------------------------------

  timers.loop(() => tuning.probeInterval, () => prober.probe());
  queue.onNews = timers.loopWhile(() => queue.length > 0, () => tuning.gossipInterval, () => {
    const hears = (member: Member): boolean => member.name !== name && (isLive(member) || (member.state === 'dead' && clock.now() - member.since < tuning.gossipToTheDeadTime));
    for (const member of beliefs.members.sample(tuning.gossipNodes, random, hears)) sendPacket(member.address, news(room, member.address, !isLive(member)), checksums(member.versions));
  });

  /** Until `start`'s callback, the time-out, or the signal. */
  function patiently({ timeoutMs = DEFAULT_PATIENCE_MS, signal }: Patience, start: (done: () => void) => void): Promise<void> {
    return new Promise((resolve, reject) => {
      if (signal?.aborted) return reject(signal.reason as Error);
      const abort = (): void => reject(signal!.reason as Error);
      signal?.addEventListener('abort', abort, { once: true });
      const done = (): void => {
        signal?.removeEventListener('abort', abort);
        timers.cancel(timer);
        resolve();
      };
      const timer = timers.after(timeoutMs, done);
      start(done);
    });
  }

  function userPacket(message: Uint8Array): Buffer {
    if (message.length > api.room) throw new RangeError(`a message in a packet may have ${api.room} bytes`);
    return encodeUserPacket(message);
  }

  function checkedMeta(meta: Uint8Array): Buffer {
    if (meta.length > MAX_META) throw new RangeError(`the meta data may have ${MAX_META} bytes`);
    return Buffer.from(meta);
  }

  function memberOf(each: string): Member {
    const member = beliefs.members.get(each);
    if (!member) throw new Error(`${each} is not a member`);
    return member;
  }

  const place = (each: string) => (each === name ? coordinates?.own : coordinates?.of(each));

  const api: Gossip = {
    name, address, stats,
    members: () => beliefs.members.all(),
    member: (each) => beliefs.members.get(each),
    watch: (onEvent) => {
      watchers.add(onEvent);
      return () => void watchers.delete(onEvent);
    },
    join: async (addresses, { signal } = {}) => {
      const results = await Promise.allSettled(addresses.map((to) => exchange.with(to, true, { timeoutMs: tuning.streamTimeout, signal })));
      const errors = results.flatMap((result) => (result.status === 'rejected' ? [result.reason as Error] : []));
      return { joined: results.length - errors.length, errors };
    },
    seekSeeds: (seeds) => startRejoin(seeds, { address, tuning, random, timers, log, beliefs, exchange: (to) => exchange.with(to, true, { timeoutMs: tuning.streamTimeout }) }),
    sendBestEffort: (to, message) => {
      const packet = userPacket(message);
      const member = beliefs.members.get(to);
      // Alone: what is sent to one member over and over must not use up the news meant for all.
      if (member) sendPacket(member.address, [packet], checksums(member.versions));
    },
    sendReliable: async (to, message, { signal } = {}) => {
      if (message.length > MAX_USER_BYTES) throw new RangeError(`a message may have ${MAX_USER_BYTES} bytes`);
      await streams.send(memberOf(to).address, encodeUserStream(message), { timeoutMs: tuning.streamTimeout, signal });
    },
    broadcast: (message, about) => queue.add(userPacket(message), about === undefined ? {} : { about: `user ${about}` }),
    room: room - PART_OVERHEAD - 1,
    updateNode: async (meta, patience = {}) => {
      const checked = checkedMeta(meta);
      await patiently(patience, (done) => {
        beliefs.updateMeta(checked, done);
        if (beliefs.others('alive', 'suspect').length === 0) done();
      });
    },
    ping: async (to, { signal } = {}) => prober.ping(memberOf(to), signal),
    roundTrip: (from, to = name) => {
      const [a, b] = [place(from), place(to)];
      return a && b && distance(a, b) * 1000;
    },
    get health() { return awareness.score; },
    leave: async (patience = {}) => {
      const message = beliefs.leave();
      const audience = beliefs.others('alive', 'suspect');
      if (audience.length === 0) return;
      // To everybody at once, and on by gossip: nobody has to wait for the next round.
      for (const member of audience) sendPacket(member.address, [message], checksums(member.versions));
      await patiently(patience, (done) => queue.add(message, { about: name, done }));
    },
    shutdown: () => {
      closed = true;
      timers.stop();
      return (closing ??= transport.close());
    },
  };
  return api;
}
