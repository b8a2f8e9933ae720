/**
 * Membership by gossip: SWIM with Lifeguard's suspicion, in memberlist's bytes. Probes find failures, news travels
 * beside them and in gossip rounds, whole states are exchanged now and then; everything is sealed where there is a key.
 */
import type { Clock } from '../base/clock.ts';
import { errorText } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';
import { shuffle, type Random } from '../base/random.ts';
import { createAwareness } from './awareness.ts';
import { createBeliefs, type MemberEvent } from './beliefs.ts';
import { PART_OVERHEAD, compound, messagesOf, openPacket, roomFor, sealPacket, withChecksum } from './framing.ts';
import type { Keyring } from './keyring.ts';
import { addressKey, type Member } from './members.ts';
import {
  MAX_META, MAX_USER_BYTES, TYPE, decodeAccusation, decodeAck, decodeAlive, decodeIndirectPing, decodePing, encodeAck, encodePing, encodePushPull, encodeUserPacket, encodeUserStream,
  type Address, type PushPull,
} from './messages.ts';
import { createProber } from './prober.ts';
import { BroadcastQueue } from './queue.ts';
import { startRejoin } from './rejoin.ts';
import type { StreamMessage } from './stream-message.ts';
import { createStreams } from './streams.ts';
import { createTimers } from './timers.ts';
import type { Transport } from './transport.ts';
import { LAN, pushPullScale, retransmitLimit, type Tuning } from './tuning.ts';
import { OWN_VERSIONS, checkVersions, checksums, isSane, type Versions } from './versions.ts';

export type { Member } from './members.ts';
export type { MemberEvent } from './beliefs.ts';

/** What gossip carries for others. What these throw is logged and goes no further. */
export interface Delegate {
  /** A user message, of a packet or of a stream; the buffer is the handler's. Who sent it is for the message to say. */
  onMessage?(message: Buffer): void;
  /** What goes along with a state exchange, and what came with the other side's. */
  localState?(): Uint8Array;
  mergeState?(state: Buffer): void;
}

export interface GossipOptions {
  /** Unique in the cluster, up to 255 bytes. */
  name: string;
  transport: Transport;
  clock: Clock;
  random: Random;
  log: Logger;
  /** Absent: everything travels in the clear, and whoever reaches the port is believed. */
  keyring?: Keyring | undefined;
  /** Up to 512 bytes that every member sees beside the name. */
  meta?: Uint8Array;
  versions?: Versions;
  /** Over the LAN profile. */
  tuning?: Partial<Tuning>;
  delegate?: Delegate;
}

export interface Gossip {
  readonly name: string;
  /** This node's included, and those that failed or left within Tuning.reapTime. */
  members(): Member[];
  member(name: string): Member | undefined;
  /** Calls back with every change of a member from now on (not with what is the case). Returns the way to stop. */
  watch(onEvent: (event: MemberEvent) => void): () => void;
  /** Exchanges states with each address; resolves with how many succeeded and what went wrong with the others. */
  join(addresses: readonly Address[]): Promise<{ joined: number; errors: Error[] }>;
  /** Looks for these for ever while they are not live members. To be called once. */
  seekSeeds(seeds: () => Promise<readonly Address[]>): void;
  /** One packet, at once, without knowing whether it arrives. Throws RangeError for more than `room` bytes. An unknown name is ignored. */
  sendBestEffort(name: string, message: Uint8Array): void;
  /** By stream; resolves once the other side has read it, rejects when it has not. */
  sendReliable(name: string, message: Uint8Array): Promise<void>;
  /**
   * Beside other packets, to as many members as news goes to; receivers do not pass it on by themselves. A later one
   * with the same `about` replaces an earlier. Throws RangeError for more than `room` bytes.
   */
  broadcast(message: Uint8Array, about?: string): void;
  /** Bytes that a message in a packet may have. */
  readonly room: number;
  /** Other meta data from now on; up to 512 bytes. Throws RangeError. */
  updateMeta(meta: Uint8Array): void;
  /** 0 when this node's own probes and answers come in time, up to 7. */
  readonly health: number;
  /** Says goodbye, so that others see left instead of failed; resolves when it has been said often enough, at the latest after timeoutMs. */
  leave(timeoutMs: number): Promise<void>;
  /** Stops without a word and closes the transport. */
  shutdown(): Promise<void>;
}

/** Starts at once; knows nobody until it joins or is joined. */
export function createGossip(options: GossipOptions): Gossip {
  const { name, transport, clock, random, log, keyring, delegate } = options;
  const tuning: Tuning = { ...LAN, ...options.tuning };
  const versions = options.versions ?? OWN_VERSIONS;
  const timers = createTimers(clock, random, log);
  const queue = new BroadcastQueue();
  const awareness = createAwareness();
  const watchers = new Set<(event: MemberEvent) => void>();
  const room = roomFor(tuning.packetBytes, keyring !== undefined) - PART_OVERHEAD;
  let closed = false;

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
    const packet = compound(messages);
    transport.send(sealPacket(checksum ? withChecksum(packet) : packet, keyring, random), to);
  }

  function news(bytes: number, to: Address): Buffer[] {
    const members = beliefs.members.liveCount;
    return queue.take(bytes, { to: addressKey(to), audience: members - 1, limit: retransmitLimit(tuning.retransmitMult, members) });
  }

  function sendWithNews(to: Address, message: Buffer): void {
    sendPacket(to, [message, ...news(room - message.length - PART_OVERHEAD, to)]);
  }

  const beliefs = createBeliefs({
    name, address: transport.address, meta: checkedMeta(options.meta ?? Buffer.alloc(0)), versions, tuning, clock, timers, log, queue, awareness,
    notify: (event) => {
      for (const watcher of watchers) guarded(() => watcher(event));
    },
    tell: (to, message) => sendPacket(to, [message], true),
  });
  const streams = createStreams({ transport, keyring, random, timers, log, timeoutMs: tuning.streamTimeout });
  const prober = createProber({
    name, address: transport.address, tuning, random, timers, beliefs, awareness, send: sendWithNews,
    sendTogether: (to, messages) => sendPacket(to, messages, true),
    pingByStream: async (member, timeoutMs) => {
      const seq = random.int(2 ** 32);
      const answer = await streams.exchange(member.address, encodePing({ seq, node: member.name, sourceNode: name, source: transport.address }), timeoutMs);
      if (answer.type !== 'ack' || answer.seq !== seq) throw new Error('the other side answered something else');
    },
    onDeafToPackets: (member) => log.warn({ member: member.name, address: member.address }, 'a member answers on TCP and not on UDP: does a firewall keep its packets away?'),
  });

  // Receiving ---------------------------------------------------------------------------------------------------------

  transport.onPacket((packet, from) => {
    if (closed) return;
    sensible(from, () => {
      const opened = openPacket(packet, keyring);
      // No answer to strangers, or anybody could make this node send to anybody.
      if (!opened) return;
      for (const message of messagesOf(opened)) sensible(from, () => handle(message, from));
    });
  });

  function sensible(from: Address, run: () => void): void {
    try {
      run();
    } catch (error) {
      log.debug({ from: from.host, detail: errorText(error) }, 'a packet made no sense');
    }
  }

  function handle(message: Buffer, from: Address): void {
    const body = message.subarray(1);
    switch (message[0]) {
      case TYPE.ping: {
        const ping = decodePing(body);
        if (ping.node === '' || ping.node === name) sendWithNews(ping.source ?? from, encodeAck(ping.seq));
        return;
      }
      case TYPE.indirectPing: return prober.help(decodeIndirectPing(body), from);
      case TYPE.ack: return prober.ack(decodeAck(body).seq);
      case TYPE.nack: return prober.nack(decodeAck(body).seq);
      case TYPE.alive: return beliefs.alive(decodeAlive(body));
      case TYPE.suspect: return beliefs.suspect(decodeAccusation(body));
      case TYPE.dead: return beliefs.dead(decodeAccusation(body));
      case TYPE.user: return guarded(() => delegate?.onMessage?.(Buffer.from(body)));
      default: return log.debug({ type: message[0] }, 'a message of an unknown type');
    }
  }

  streams.serve((message: StreamMessage) => {
    if (closed) return undefined;
    if (message.type === 'pushPull') {
      const answer = encodePushPull(state(false));
      try {
        merge(message);
      } catch (error) {
        log.warn({ detail: errorText(error) }, 'a node that does not fit into the cluster tried to join');
      }
      return answer;
    }
    if (message.type === 'user') guarded(() => delegate?.onMessage?.(message.payload));
    if (message.type === 'ping' && (message.ping.node === '' || message.ping.node === name)) return encodeAck(message.ping.seq);
    return undefined;
  });

  // State exchange ----------------------------------------------------------------------------------------------------

  function state(join: boolean): PushPull {
    let userState = Buffer.alloc(0);
    guarded(() => (userState = Buffer.from(delegate?.localState?.() ?? [])));
    return { join, nodes: beliefs.members.records(), userState };
  }

  /** The receiver answers before it judges, so both sides have to judge. Throws when the versions do not fit. */
  function merge({ nodes, userState }: PushPull): void {
    const theirs = nodes.filter((node) => node.state === 'alive' && isSane(node.versions)).map(({ node, versions: spoken }) => ({ name: node, versions: spoken }));
    checkVersions([{ name, versions }, ...beliefs.others('alive'), ...theirs]);
    beliefs.merge(nodes);
    if (userState.length > 0) guarded(() => delegate?.mergeState?.(userState));
  }

  async function exchangeStates(to: Address, join: boolean): Promise<void> {
    const answer = await streams.exchange(to, encodePushPull(state(join)), tuning.streamTimeout);
    if (answer.type !== 'pushPull') throw new Error('the other side answered something else');
    if (!closed) merge(answer);
  }

  // Rounds ------------------------------------------------------------------------------------------------------------

  timers.loop(() => tuning.probeInterval, () => prober.probe());
  timers.loop(() => tuning.gossipInterval, () => {
    if (queue.length === 0) return;
    const recent = beliefs.others('dead').filter((member) => clock.now() - member.since < tuning.gossipToTheDeadTime);
    for (const member of shuffle([...beliefs.others('alive', 'suspect'), ...recent], random).slice(0, tuning.gossipNodes)) sendPacket(member.address, news(room, member.address), checksums(member.versions));
  });
  timers.loop(() => tuning.pushPullInterval * pushPullScale(beliefs.members.liveCount), async () => {
    beliefs.reap();
    const [partner] = shuffle(beliefs.others('alive'), random);
    if (!partner) return;
    await exchangeStates(partner.address, false).catch((error: unknown) => log.debug({ member: partner.name, detail: errorText(error) }, 'a state exchange failed'));
  });

  function userPacket(message: Uint8Array): Buffer {
    if (message.length > api.room) throw new RangeError(`a message in a packet may have ${api.room} bytes`);
    return encodeUserPacket(message);
  }

  function checkedMeta(meta: Uint8Array): Buffer {
    if (meta.length > MAX_META) throw new RangeError(`the meta data may have ${MAX_META} bytes`);
    return Buffer.from(meta);
  }

  const api: Gossip = {
    name,
    members: () => beliefs.members.all(),
    member: (each) => beliefs.members.get(each),
    watch: (onEvent) => {
      watchers.add(onEvent);
      return () => void watchers.delete(onEvent);
    },
    join: async (addresses) => {
      const results = await Promise.allSettled(addresses.map((address) => exchangeStates(address, true)));
      const errors = results.flatMap((result) => (result.status === 'rejected' ? [result.reason as Error] : []));
      return { joined: results.length - errors.length, errors };
    },
    seekSeeds: (seeds) => startRejoin(seeds, { address: transport.address, tuning, random, timers, log, beliefs, exchange: (to) => exchangeStates(to, true) }),
    sendBestEffort: (to, message) => {
      const packet = userPacket(message);
      const member = beliefs.members.get(to);
      // Alone: what is sent to one member over and over must not use up the news meant for all.
      if (member) sendPacket(member.address, [packet], checksums(member.versions));
    },
    sendReliable: async (to, message) => {
      const member = beliefs.members.get(to);
      if (!member) throw new Error(`${to} is not a member`);
      if (message.length > MAX_USER_BYTES) throw new RangeError(`a message may have ${MAX_USER_BYTES} bytes`);
      await streams.send(member.address, encodeUserStream(message), tuning.streamTimeout);
    },
    broadcast: (message, about) => queue.add(userPacket(message), about === undefined ? {} : { about: `user ${about}` }),
    room: room - PART_OVERHEAD - 1,
    updateMeta: (meta) => beliefs.updateMeta(checkedMeta(meta)),
    get health() { return awareness.score; },
    leave: async (timeoutMs) => {
      const message = beliefs.leave();
      const audience = beliefs.others('alive', 'suspect');
      if (audience.length === 0) return;
      // To everybody at once, and on by gossip: nobody has to wait for the next round.
      for (const member of audience) sendPacket(member.address, [message], checksums(member.versions));
      await new Promise<void>((resolve) => {
        queue.add(message, { about: name, done: resolve });
        timers.after(timeoutMs, resolve);
      });
    },
    shutdown: async () => {
      closed = true;
      timers.stop();
      await transport.close();
    },
  };
  return api;
}
